"""Where MMEngine finds our names: it imports `<scope>.registry` when it meets the scope
`metaheads`."""

from metaheads.hosts.mmdet import HOOKS, MODELS, TRANSFORMS

__all__ = ["HOOKS", "MODELS", "TRANSFORMS"]
