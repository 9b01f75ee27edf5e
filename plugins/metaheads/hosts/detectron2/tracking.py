"""Detectron2's scalars for Weights & Biases and MLflow, which it has no writers for itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.utils.events import EventWriter, get_event_storage

Log = Callable[[dict[str, float], int], Any]


class TrackingWriter(EventWriter):
    """Sends all new scalars and, at its beginning, `config.yaml`; every start is a run of its own.

    Args:
        tracker: "wandb" or "mlflow"; where to, say their own variables (WANDB_PROJECT,
            MLFLOW_TRACKING_URI, ...).
        output_dir: of the training; its name is the run's.
        window: iterations over which scalars that flicker are smoothed.
    """

    def __init__(self, tracker: str, output_dir: str | Path, window: int = 20) -> None:
        self._log, self._close = _BEGIN[tracker](Path(output_dir).absolute())
        self._window, self._written = window, -1

    def write(self) -> None:
        latest = get_event_storage().latest_with_smoothing_hint(self._window)
        new: dict[int, dict[str, float]] = defaultdict(dict)
        for name, (value, iteration) in latest.items():
            if iteration > self._written:
                new[iteration][name] = float(value)
        for iteration in sorted(new):
            self._log(new[iteration], iteration)
        self._written = max([self._written, *new])

    def close(self) -> None:
        self._close()


def _begin_wandb(output_dir: Path) -> tuple[Log, Callable[[], Any]]:
    import wandb

    run = wandb.init(dir=str(output_dir), name=output_dir.name)
    config = output_dir / "config.yaml"
    if config.is_file():
        run.save(str(config), base_path=str(output_dir), policy="now")
    return lambda values, iteration: run.log(values, step=iteration), run.finish


def _begin_mlflow(output_dir: Path) -> tuple[Log, Callable[[], Any]]:
    import mlflow

    mlflow.start_run(run_name=output_dir.name)
    config = output_dir / "config.yaml"
    if config.is_file():
        mlflow.log_artifact(str(config))
    return mlflow.log_metrics, mlflow.end_run


_BEGIN = {"wandb": _begin_wandb, "mlflow": _begin_mlflow}
