"""Our registries: children of MMDetection's, so that a bare name in a config still means
MMDetection's."""

from mmdet import registry as mmdet_registry
from mmengine.registry import Registry

SCOPE = "metaheads"
_LOCATIONS = ["metaheads.hosts.mmdet"]

MODELS = Registry("model", parent=mmdet_registry.MODELS, scope=SCOPE, locations=_LOCATIONS)
TRANSFORMS = Registry(
    "transform", parent=mmdet_registry.TRANSFORMS, scope=SCOPE, locations=_LOCATIONS
)
DATASETS = Registry("dataset", parent=mmdet_registry.DATASETS, scope=SCOPE, locations=_LOCATIONS)
METRICS = Registry("metric", parent=mmdet_registry.METRICS, scope=SCOPE, locations=_LOCATIONS)
HOOKS = Registry("hook", parent=mmdet_registry.HOOKS, scope=SCOPE, locations=_LOCATIONS)
LOOPS = Registry("loop", parent=mmdet_registry.LOOPS, scope=SCOPE, locations=_LOCATIONS)
