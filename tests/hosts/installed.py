"""Which hosts are here."""

from importlib.util import find_spec

import pytest

BOTH = ("mmdet", "detectron2")
HOSTS = tuple(host for host in BOTH if find_spec(host))

# conftest.py skips what is for a host that is not installed.
each_host = pytest.mark.parametrize("host", BOTH)
needs_both = pytest.mark.skipif(len(HOSTS) < 2, reason="both hosts are needed")
needs_mmdet = pytest.mark.skipif("mmdet" not in HOSTS, reason="mmdet is not installed")
needs_detectron2 = pytest.mark.skipif(
    "detectron2" not in HOSTS, reason="detectron2 is not installed"
)
