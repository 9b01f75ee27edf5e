"""Checkpoints: read safely, carry between the hosts, load strictly, import the authors'.

Shared here: `files.py` reads, `convert.py` renames, `loading.py` loads. One file per architecture
holds the table from its authors' names to ours.
"""

from metaheads.weights.convert import Coverage, to_host
from metaheads.weights.files import check_resumable, read_checkpoint
from metaheads.weights.loading import load_into

__all__ = ["Coverage", "check_resumable", "load_into", "read_checkpoint", "to_host"]
