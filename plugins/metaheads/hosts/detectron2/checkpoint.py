"""Checkpoints that survive a kill, and that may come from the other host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer

from metaheads import weights
from metaheads.messages import list_some
from metaheads.weights.files import of_file, read_content, weights_in, write_atomically


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, with three differences.

    - A file is written under another name and renamed when it is complete: a kill at any moment
      leaves the last checkpoint usable. That holds for `last_checkpoint` too, which names a file
      beside itself, so that a moved folder resumes from its own files.
    - Files are read with `weights_only=True`, but for the pickles of Detectron2's model zoo.
    - Weights of MMDetection or with torchvision's names are renamed to the model's.
    """

    def save(self, name: str, tag: bool = True, **kwargs: Any) -> None:
        """Writes `<name>.pth` with the model and everything else that resuming needs.

        Args:
            name: of the file, without folder and suffix.
            tag: resume from this checkpoint next time.
            kwargs: what else to save.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: each.state_dict() for key, each in self.checkpointables.items()}
        data = {"model": self.model.state_dict(), **states, **kwargs}
        path = Path(self.save_dir) / f"{name}.pth"
        self.logger.info(f"Saving checkpoint to {path}")
        write_atomically(path, lambda file: torch.save(data, file))
        if tag:
            self.tag_last_checkpoint(path.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        path = Path(self.save_dir) / "last_checkpoint"
        write_atomically(path, lambda file: file.write(last_filename_basename.encode()))

    def get_checkpoint_file(self) -> str:
        """The checkpoint to resume from, in the folder where the tag is now; "" without one."""
        tagged = super().get_checkpoint_file()
        return str(Path(self.save_dir) / Path(tagged).name) if tagged else ""

    def forget(self) -> None:
        """A new training begins: a later resume must not find the checkpoints of one before it."""
        if self.save_dir and self.save_to_disk:
            (Path(self.save_dir) / "last_checkpoint").unlink(missing_ok=True)

    def periodic_files(self) -> list[str]:
        """The checkpoints that were saved at intervals, oldest first."""
        return sorted(map(str, Path(self.save_dir).glob("model_" + "[0-9]" * 7 + ".pth")))

    def load_strictly(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """`load`, but weights that do not fit the model exactly are an error, not a warning."""
        self._strict, self._is_of_zoo = True, path.endswith(".pkl")
        try:
            with of_file(path):
                return self.load(path, **kwargs)
        finally:
            self._strict = False

    _strict = _is_of_zoo = False

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        if not self._strict:
            return super()._load_model(checkpoint)
        if self._is_of_zoo:  # with Detectron2's own matching of names
            found = super()._load_model(checkpoint)
            if found.missing_keys:
                raise ValueError(
                    f"it lacks {list_some(found.missing_keys)}: no checkpoint of this model"
                )
            return found
        weights.load_into(self.model, checkpoint.pop("model"))
        return None

    def _torch_load(self, f: str) -> dict[str, Any]:
        content = read_content(f)
        state = weights_in(f, content)
        # MMDetection's, or a plain state dict: nothing to resume from
        loaded = dict(content) if "model" in content else {}
        if "layer1.0.conv1.weight" in state:  # torchvision's: a bare backbone
            state = {f"backbone.{name}": tensor for name, tensor in state.items()}
        loaded["model"] = weights.to_host(state, self.model.state_dict().keys())
        return loaded
