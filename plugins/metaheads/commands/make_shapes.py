"""`metaheads make-shapes FOLDER`: writes the embedded data set."""

from __future__ import annotations

import argparse

import tqdm

from metaheads.datasets.shapes import PARTS, make_shapes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` reads."""
    parser.add_argument("folder", help="to be made; left as it is if it holds the same data set")
    parser.add_argument("--num-train", type=int, default=600, help="training scenes (%(default)s)")
    parser.add_argument("--num-val", type=int, default=120, help="validation scenes (%(default)s)")
    parser.add_argument("--num-clips", type=int, default=8, help="moving clips (%(default)s)")
    parser.add_argument(
        "--num-faces",
        type=int,
        nargs=2,
        default=(700, 150),
        metavar=("TRAIN", "VAL"),
        help="scenes of faces for training and validation (700 150)",
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(144, 192),
        metavar=("HEIGHT", "WIDTH"),
        help="of all pictures, in pixels (144 192)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        default=[*PARTS],
        help="parts to be drawn, added to those that the folder has (default: all)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers (%(default)s)")
    parser.add_argument(
        "--force", action="store_true", help="replace a data set made with other arguments"
    )


def run(args: argparse.Namespace) -> int:
    """Writes the data set with a progress bar and returns the exit status, 0.

    Raises:
        ValueError: see make_shapes.
    """
    counts = {"scenes": args.num_train + args.num_val, "faces": sum(args.num_faces)}
    counts["clips"] = args.num_clips
    with tqdm.tqdm(total=sum(counts[part] for part in args.only), unit="scene") as bar:
        make_shapes(
            args.folder,
            num_train=args.num_train,
            num_val=args.num_val,
            num_clips=args.num_clips,
            num_faces=tuple(args.num_faces),
            size=tuple(args.size),
            seed=args.seed,
            only=args.only,
            force=args.force,
            progress=bar.update,
        )
    return 0
