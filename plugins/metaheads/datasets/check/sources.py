"""The checks of all data sets of a config."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from metaheads.datasets.check.coco import check_coco
from metaheads.datasets.check.messages import DatasetError
from metaheads.datasets.check.panoptic import check_panoptic_data
from metaheads.datasets.check.report import CheckReport
from metaheads.messages import list_some

PNG_FOLDER = "png_folder"  # what only panoptic sources have


def check_source(source: dict[str, Any], **options: Any) -> CheckReport:
    """Checks one data set: arguments of `check_coco`, or of `check_panoptic_data`.

    Args:
        options: verify_images, is_strict and progress of the two.
    """
    check: Any = check_panoptic_data if PNG_FOLDER in source else check_coco
    return check(**source, **options)


def check_all(sources: Iterable[dict[str, Any]]) -> Iterator[CheckReport]:
    """Checks the data sets of one config, one after the other.

    Args:
        sources: arguments of `check_coco` or `check_panoptic_data`. Those without class names take
            their classes from their files (by ascending id; of panoptic ones in their order), which
            is what Detectron2 does; all of one kind must number them alike.

    Raises:
        DatasetError: as `check_source`, or files that number the classes otherwise.
    """
    first: dict[bool, CheckReport] = {}
    for source in sources:
        report = check_source(source)
        is_panoptic = PNG_FOLDER in source
        if source.get("thing_classes" if is_panoptic else "class_names") is None:
            other = first.setdefault(is_panoptic, report)
            names, expected = list(report.class_counts), list(other.class_counts)
            if names != expected:
                order = "in the file's order" if is_panoptic else "by ascending id"
                raise DatasetError(
                    f"{report.annotation_file} and {other.annotation_file} number the classes "
                    f"otherwise: {list_some(names)} against {list_some(expected)}, {order}; "
                    "give equal classes equal ids in both"
                )
        yield report
