"""The architectures, each written once in plain PyTorch."""

from metaheads.architectures.yolact import Yolact

__all__ = ["Yolact"]
