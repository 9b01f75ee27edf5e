"""The golden cases of RetinaFace: biubug6/Pytorch_Retinaface and its relatives."""

from __future__ import annotations

from . import widerface
from .cases import Case, UnknownCase, check_known

KNOWN = {**widerface.KNOWN}
RUN_SORT = {**widerface.RUN_SORT}


def run(case: Case) -> None:
    """Runs a case of any sort and compares all of its arrays."""
    if case.sort not in RUN_SORT:
        raise UnknownCase(f"unknown sort {case.sort!r} of retinaface")
    check_known(case.options, KNOWN[case.sort], f"{case.system} {case.sort}")
    RUN_SORT[case.sort](case)
    case.assert_all_used()
