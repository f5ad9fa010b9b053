"""The state of a training on disk, so that an interruption costs little and changes nothing."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rs_plugin.datasets import Dataset
from rs_plugin.errors import ParameterError
from rs_plugin.files import write_whole
from rs_plugin.training.recipe import TrainConfig


@dataclass(frozen=True)
class Checkpoint:
    """All that decides the rest of a training, in one file that is replaced as a whole."""

    path: Path | None
    config: TrainConfig
    training: Dataset
    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator
    _kept: list[bytes] = field(init=False, repr=False, default_factory=list)

    def restore(self) -> tuple[int, list[tuple[int, float]]]:
        """Load the file if there is one, and return the number of epochs done and the losses told of."""
        if self.path is None or not self.path.exists():
            return 0, []
        remedy = "delete it, or name another file"
        try:
            stored: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            key = {"device": "cpu", **stored["key"]}  # older ones do not say it
            other = sorted(name for name, value in self._key().items() if key.get(name) != value)
            if not other:
                self.model.load_state_dict(stored["model"])
                self.optimizer.load_state_dict(stored["optimizer"])
                self.schedule.load_state_dict(stored["schedule"])
                self.generator.set_state(stored["generator"])
                return int(stored["epoch"]), [(int(number), float(loss)) for number, loss in stored["losses"]]
        except Exception as error:  # what torch.load raises for a file that is none of its own has no common base
            raise ParameterError(f"{self.path} is not a checkpoint of a training ({error}); {remedy}") from error
        raise ParameterError(f"the checkpoint {self.path} was made with another {', '.join(other)}; {remedy}")

    def keep(self, epoch: int, losses: list[tuple[int, float]]) -> None:
        """Keep in memory what the end of an epoch left, for ``write``: an interruption may come at any step."""
        if self.path is None:
            return
        content = {
            "key": self._key(),
            "epoch": epoch,
            "losses": losses,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        self._kept[:] = [buffer.getvalue()]

    def write(self) -> None:
        """Write what was kept, if anything was since the last time."""
        if self.path is None or not self._kept:
            return
        try:
            write_whole(self.path, self._kept[0])
            self._kept.clear()
        except OSError as error:
            raise ParameterError(f"cannot write the checkpoint {self.path}: {error}; name another file") from error

    def _key(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self.config), "training images": self.training.fingerprint}
