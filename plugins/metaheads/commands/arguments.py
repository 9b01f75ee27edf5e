"""Arguments that several commands share."""

from __future__ import annotations

import argparse

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


SPEEDS = {
    "optimise": "fold batch norms, channels last",
    "bfloat16": "autocast to bfloat16, where the device computes with it",
    "compile": "torch.compile backbone, neck and heads",
}


def add_speed_arguments(parser: argparse.ArgumentParser) -> None:
    """`--optimise`, `--bfloat16`, `--compile`: arguments of `metaheads.load`."""
    for name, meaning in SPEEDS.items():
        parser.add_argument(f"--{name}", action="store_true", help=meaning)
