"""Kills a training with SIGKILL at random moments, resumes it each time, and compares the end.

    python benchmarks/kill_and_resume.py --host mmdet

Undisturbed runs and one that is killed again and again, some of the times while a checkpoint is
being written (its unfinished file is seen). Every resume must find a whole checkpoint, and the mask
AP50 at the end may be no farther from the nearest undisturbed run than these are from each other,
or the command fails. The line for the table goes to benchmarks/kill_and_resume.md. Data:
$METAHEADS_DATA/shapes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from metaheads.commands.quickstart import to_shares
from metaheads.weights import read_checkpoint

CONFIG = "yolact/yolact_r18_128_shapes"
OPTIONS = {
    "mmdet": "train_cfg.max_iters={n} train_cfg.val_interval={n} "
    "default_hooks.checkpoint.interval={e}",
    "detectron2": "SOLVER.MAX_ITER {n} TEST.EVAL_PERIOD {n} SOLVER.CHECKPOINT_PERIOD {e}",
}


def command(host: str, work_dir: Path, iterations: int, every: int) -> list[str]:
    options = OPTIONS[host].format(n=iterations, e=every).split()
    flags = f"--config-file {CONFIG} --host {host} --work-dir {work_dir} --no-data-check --resume"
    return [sys.executable, "-m", "metaheads.cli", "train", *flags.split(), *options]


def metrics_of(output: str) -> dict[str, float]:
    """The JSON object that ends what `metaheads train` prints."""
    return to_shares(json.loads(output[output.rindex("\n{") :]))


def run(words: list[str]) -> dict[str, float]:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(words)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
    return metrics_of(done.stdout)


def unfinished(work_dir: Path) -> list[Path]:
    """The checkpoints that are being written right now, or were when a kill came."""
    return [*work_dir.glob("*.writing"), *work_dir.glob(".*.tmp")]


def kill_once(words: list[str], work_dir: Path, log: Path, during_write: bool, wait: float) -> bool:
    """Starts the training and kills it; True if it was killed before it had finished."""
    for leftover in unfinished(work_dir):
        leftover.unlink()
    with log.open("a") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output)
        start = time.monotonic()
        while process.poll() is None:
            waited = time.monotonic() - start
            if (during_write and unfinished(work_dir)) or (not during_write and waited > wait):
                process.send_signal(signal.SIGKILL)
                process.wait()
                return True
            time.sleep(0.001)
    if process.returncode:
        raise RuntimeError(f"a resumed run failed, see {log}")
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", choices=list(OPTIONS), required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--during-write", type=int, default=6)
    parser.add_argument("--undisturbed", type=int, default=4, help="runs to compare with")
    parser.add_argument("--iterations", type=int, default=400)
    parser.add_argument("--every", type=int, default=5, help="iterations between checkpoints")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/kill_and_resume"))
    args = parser.parse_args()
    root = args.work_dir / f"{args.host}_{datetime.datetime.now():%H%M%S}"
    root.mkdir(parents=True)
    undisturbed = [
        run(command(args.host, root / f"undisturbed_{n}", args.iterations, args.every))
        for n in range(args.undisturbed)
    ]
    work_dir = root / "killed"
    words = command(args.host, work_dir, args.iterations, args.every)
    order = [n < args.during_write for n in range(args.kills)]
    random.Random(0).shuffle(order)
    killed = {True: 0, False: 0}
    for during_write in order:
        wait = random.uniform(8, 16)
        if not kill_once(words, work_dir, root / "log.txt", during_write, wait):
            break
        killed[during_write] += 1
        left = sorted(work_dir.glob("*.pth"))
        for path in left[-2:]:
            read_checkpoint(path)  # whole, or this raises
        print(f"killed {sum(killed.values())}: {[path.name for path in left][-1:]}", flush=True)
    final = run(words)
    report(args, killed, undisturbed, final)
    values = [each["mask AP50"] for each in undisturbed]
    gap = min(abs(final["mask AP50"] - value) for value in values)
    return 0 if gap <= max(values) - min(values) else 1


def report(args, killed: dict[bool, int], undisturbed: list[dict], final: dict) -> None:
    file = Path(__file__).with_suffix(".md")
    if not file.is_file():
        file.write_text(
            "# Killed and resumed\n\n`python benchmarks/kill_and_resume.py --host HOST`\n\n"
            "| host | kills | of them during a checkpoint write | iterations "
            "| mask AP50 undisturbed | mask AP50 killed and resumed | date, torch |\n"
            "|---|---|---|---|---|---|---|\n"
        )
    values = " / ".join(f"{each['mask AP50']:.3f}" for each in undisturbed)
    line = (
        f"| {args.host} | {sum(killed.values())} | {killed[True]} | {args.iterations} | {values} "
        f"| {final['mask AP50']:.3f} | {datetime.date.today()}, {torch.__version__} |"
    )
    file.write_text(file.read_text() + line + "\n")
    print(line)


if __name__ == "__main__":
    sys.exit(main())
