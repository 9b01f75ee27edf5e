"""Other annotation formats -> COCO instances, and COCO instances with stuff -> COCO panoptic."""

from metaheads.datasets.convert.coco import CocoBuilder, ConversionError
from metaheads.datasets.convert.faces import convert_retinaface, convert_scrfd, convert_wider
from metaheads.datasets.convert.labelme import convert_labelme
from metaheads.datasets.convert.panoptic import convert_to_panoptic
from metaheads.datasets.convert.voc import convert_voc
from metaheads.datasets.convert.yolo import convert_yolo

FORMATS = {
    "labelme": convert_labelme,
    "voc": convert_voc,
    "yolo": convert_yolo,
    "retinaface": convert_retinaface,
    "scrfd": convert_scrfd,
    "widerface": convert_wider,
}

__all__ = [
    "FORMATS",
    "CocoBuilder",
    "ConversionError",
    "convert_labelme",
    "convert_retinaface",
    "convert_scrfd",
    "convert_to_panoptic",
    "convert_voc",
    "convert_wider",
    "convert_yolo",
]
