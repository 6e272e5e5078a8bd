"""Runs sized to a time (`budget=5m`): the run measures its own first steps, then sets its length."""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import Callback, LightningDataModule, LightningModule, Trainer

from alexnet_lit.callbacks.metrics import wait_for_device
from alexnet_lit.errors import UserError

RESERVE = 0.03  # of the budget, for what is not measured
_VALIDATION = 0.1  # of the time at most, unless a single validation takes longer
_WARM_UP = 3  # batches before the clock starts: memory, kernels and a compiler come first
_FEWEST = 4  # batches that are measured, however long they take
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}

# Of the trainer while it measures: it trains until it is stopped, and leaves nothing.
MEASURING: dict[str, Any] = {
    "max_epochs": -1,
    "max_steps": -1,
    "min_epochs": None,
    "min_steps": None,
    "max_time": None,
    "val_check_interval": 1 << 40,
    "check_val_every_n_epoch": None,
    "limit_val_batches": 4,
    "enable_checkpointing": False,
    "profiler": None,
}


def parse_seconds(budget: Any) -> float:
    """What 90s, 5m or 1h30m come to. Raises: UserError for anything else."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", budget) if isinstance(budget, str) else []
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not total or "".join(number + unit for number, unit in parts) != budget:
        raise UserError(f"budget={budget}: should be a time such as 90s, 5m or 1h30m")
    return total


@dataclass(frozen=True)
class Durations:
    """Seconds of a training batch, of evaluating an image, of writing last.ckpt; and what measuring them took."""

    batch: float
    image: float
    save: float
    measured: float


class TimeBudget(Callback):
    """Times training batches of a fit and ends it after `seconds` or a little more; then a save and an evaluation."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._batches = -_WARM_UP
        self._batch_size = self._images = 0
        self._training = self._evaluating = self._began = 0.0

    def measure(self, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> Durations:
        """Train, save and evaluate a little; on every rank. Without validation images, evaluating an image is taken to
        cost a third of training on it.
        """
        trainer.fit(module, datamodule=data)
        self._start(trainer)
        file = Path(trainer.default_root_dir) / "budget.ckpt"
        try:
            trainer.save_checkpoint(file)
        finally:
            if trainer.is_global_zero:
                file.unlink(missing_ok=True)
        save = self._elapsed(trainer)
        if len(data.val_dataloader()):
            trainer.validate(module, datamodule=data, verbose=False)
        batch = self._training / self._batches
        image = self._evaluating / self._images if self._images else batch / self._batch_size / 3
        return Durations(batch, image, save, self._training + save + self._evaluating)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, *_: Any) -> None:
        """Stop once there is enough to judge by: all ranks at the same batch."""
        self._batch_size = batch.total
        self._batches += 1
        if self._batches == 0:
            self._start(trainer)
        elif self._batches >= _FEWEST:
            self._training = self._elapsed(trainer)
            trainer.should_stop = trainer.strategy.broadcast(self._training > self.seconds)

    def on_validation_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Time all but the first."""
        if batch_idx == 0:
            self._start(trainer)
        else:
            self._images += batch.total
            self._evaluating = self._elapsed(trainer)

    def _start(self, trainer: Trainer) -> None:
        wait_for_device(trainer)
        self._began = time.monotonic()

    def _elapsed(self, trainer: Trainer) -> float:
        wait_for_device(trainer)
        return time.monotonic() - self._began


def choose_steps(
    budget: str, left: float, took: Durations, *, epoch: int, validation: int, test: int, save_every: int, most: int
) -> tuple[int, int]:
    """Steps of a run, and batches between its validations, that take `left` seconds, evaluation and saves included.

    epoch: its batches; validation, test: images; most: steps at most, -1 for no limit. The last validation follows the
    last step, as best.ckpt is chosen by it. Raises: UserError if not even one step fits.
    """
    training = left - test * took.image
    each = validation * took.image + 2 * took.save  # best.ckpt and last.ckpt
    batch = took.batch + took.save * (1 / epoch + 1 / save_every)
    most = most if most > 0 else int(training / batch)
    wanted = min(max(4, most // epoch), int(_VALIDATION * training / each), most) if validation else 1
    validations = max(1, wanted)
    interval = int(min((training / validations - each) / batch, most / validations))
    if interval < 1:
        needed = parse_seconds(budget) - training + validations * (each + batch)
        raise UserError(
            f"budget={budget}: beginning, validation ({validation:,} images) and test ({test:,}) take "
            f"{needed:.0f} s alone: give it more, or lower trainer.limit_val_batches and trainer.limit_test_batches"
        )
    return validations * interval, interval
