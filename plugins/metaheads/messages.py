"""Words that messages share."""

from __future__ import annotations

from collections.abc import Sequence


def list_some(names: Sequence[str], limit: int = 5) -> str:
    """'a, b, c, d, e and 7 more'."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
