"""MMDetection 3.x as a host: importing this package registers our names under the scope
`metaheads`."""

from metaheads.hosts.mmdet.registry import (  # isort: skip
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    TRANSFORMS,
)
from metaheads.hosts.mmdet.checkpoints import (
    AtomicLocalBackend,
    BroadcastBuffers,
    PlainCheckpoints,
    TrainLoop,
)
from metaheads.hosts.mmdet.data import (
    CocoKeypoints,
    CropTransform,
    FaceTransform,
    FixedResize,
    LoadKeypoints,
    LoadVertices,
    PackInputs,
    TestView,
    TrainTransform,
    WarpTransform,
)
from metaheads.hosts.mmdet.evaluation import (
    KeypointMetric,
    NMEMetric,
    PanopticMetric,
    SemanticMetric,
    WiderFaceMetric,
)
from metaheads.hosts.mmdet.models import (
    CenterNetPoints,
    CenterNetTriplets,
    CornerNet,
    HostedInstances,
    RetinaFace,
    TestTimeAugmentation,
    Yolact,
)
from metaheads.hosts.mmdet.panoptic import GapFPN, HostedPanoptic, UPSNet
from metaheads.hosts.mmdet.panoptic_data import CocoPanoptic, LoadPanoptic
from metaheads.hosts.mmdet.semantic import (
    HostedSemantic,
    SemanticSegmenter,
    UPSNetSemanticHead,
)

__all__ = [
    "DATASETS",
    "METRICS",
    "HOOKS",
    "LOOPS",
    "MODELS",
    "TRANSFORMS",
    "AtomicLocalBackend",
    "BroadcastBuffers",
    "CenterNetPoints",
    "CenterNetTriplets",
    "CocoKeypoints",
    "CocoPanoptic",
    "CornerNet",
    "CropTransform",
    "FaceTransform",
    "FixedResize",
    "GapFPN",
    "HostedInstances",
    "HostedPanoptic",
    "HostedSemantic",
    "KeypointMetric",
    "LoadKeypoints",
    "LoadVertices",
    "NMEMetric",
    "PackInputs",
    "PanopticMetric",
    "PlainCheckpoints",
    "RetinaFace",
    "SemanticMetric",
    "SemanticSegmenter",
    "TestTimeAugmentation",
    "TestView",
    "TrainLoop",
    "TrainTransform",
    "UPSNet",
    "UPSNetSemanticHead",
    "WarpTransform",
    "WiderFaceMetric",
    "Yolact",
]
