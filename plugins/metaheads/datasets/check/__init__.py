"""A quick look at a COCO data set before training: what would stop it, and what is odd but trains.

One function per kind of fault. Those that begin with `find_` yield messages for faults that stop
training; those that begin with `notice_` yield lines for the report. Every message says how many,
which (the first five) and what to do.
"""

from metaheads.datasets.check.coco import check_coco
from metaheads.datasets.check.masks import decode_counts
from metaheads.datasets.check.messages import DatasetError
from metaheads.datasets.check.report import CheckReport
from metaheads.datasets.check.sources import check_all, check_source

__all__ = [
    "CheckReport",
    "DatasetError",
    "check_all",
    "check_coco",
    "check_source",
    "decode_counts",
]
