"""Metaheads: meta-architectures and heads for Detectron2 and MMDetection, each written once.

`import metaheads` imports neither torch nor a host. `metaheads.load(config, checkpoint)` gives a
model that predicts; what needs a host lives in `metaheads.hosts.detectron2` and `.hosts.mmdet`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metaheads.api import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Imports `metaheads.api`, and torch with it, only when `load` is asked for."""
    if name == "load":
        from metaheads.api import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
