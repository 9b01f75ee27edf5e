"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from metaheads.configs import HOSTS


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-file", required=True, help="path, or name of one of our configs")
    parser.add_argument("--host", choices=HOSTS, help="where the config does not tell")


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="read a checkpoint that can run code (only your own, e.g. of an older MMEngine)",
    )


def check_output(flag: str, name: str | Path, *, is_folder: bool = False) -> None:
    """Refuses, before any work, a place where a result cannot be written.

    Raises:
        FileNotFoundError, ValueError: no such folder, a folder instead of a file or the reverse,
            or no permission.
    """
    path = Path(name).absolute()
    parents = [path, *path.parents] if is_folder else [path.parent]
    place = next((each for each in parents if each.exists()), None)
    if place is None:
        raise FileNotFoundError(f"{flag} {name}: no folder {path.parent}; make it first")
    if not place.is_dir():
        raise ValueError(f"{flag} {name}: {place} is a file, not a folder; choose another name")
    if not is_folder and path.is_dir():
        raise ValueError(f"{flag} {name}: this is a folder; give the name of a file in it")
    if not os.access(place, os.W_OK):
        raise ValueError(f"{flag} {name}: {place} cannot be written to; choose another place")


SPEEDS = {
    "optimise": "fold batch norms, channels last",
    "bfloat16": "autocast to bfloat16, where the device computes with it",
    "compile": "torch.compile backbone, neck and heads",
}


def add_speed_arguments(parser: argparse.ArgumentParser) -> None:
    """`--optimise`, `--bfloat16`, `--compile`: arguments of `metaheads.load`."""
    for name, meaning in SPEEDS.items():
        parser.add_argument(f"--{name}", action="store_true", help=meaning)
