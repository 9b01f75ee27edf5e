"""Checkpoints: read safely, carry between the hosts, load strictly, import the authors'.

Shared here: `files.py` reads, `convert.py` renames, `loading.py` loads, `importers.py` knows the
formats. One file per architecture holds the table from its authors' names to ours.
"""

from metaheads.weights import centernet_points as centernet_points
from metaheads.weights import cornernet as cornernet
from metaheads.weights import retinaface as retinaface
from metaheads.weights import upsnet as upsnet
from metaheads.weights import yolact as yolact
from metaheads.weights.convert import Coverage, to_host
from metaheads.weights.files import check_resumable, read_checkpoint
from metaheads.weights.importers import Importer, find_importer, register_importer
from metaheads.weights.loading import load_into

__all__ = [
    "Coverage",
    "Importer",
    "check_resumable",
    "find_importer",
    "load_into",
    "read_checkpoint",
    "register_importer",
    "to_host",
]
