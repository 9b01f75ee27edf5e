"""MMDetection 3.x as a host: importing this package registers our names under the scope
`metaheads`."""

from metaheads.hosts.mmdet.registry import HOOKS, LOOPS, MODELS, TRANSFORMS  # isort: skip
from metaheads.hosts.mmdet.checkpoints import (
    AtomicLocalBackend,
    BroadcastBuffers,
    PlainCheckpoints,
    TrainLoop,
)
from metaheads.hosts.mmdet.data import (
    CropTransform,
    FixedResize,
    PackInputs,
    TestView,
    TrainTransform,
    WarpTransform,
)
from metaheads.hosts.mmdet.models import (
    CenterNetPoints,
    CenterNetTriplets,
    CornerNet,
    HostedInstances,
    Yolact,
)

__all__ = [
    "HOOKS",
    "LOOPS",
    "MODELS",
    "TRANSFORMS",
    "AtomicLocalBackend",
    "BroadcastBuffers",
    "CenterNetPoints",
    "CenterNetTriplets",
    "CornerNet",
    "CropTransform",
    "FixedResize",
    "HostedInstances",
    "PackInputs",
    "PlainCheckpoints",
    "TestView",
    "TrainLoop",
    "TrainTransform",
    "WarpTransform",
    "Yolact",
]
