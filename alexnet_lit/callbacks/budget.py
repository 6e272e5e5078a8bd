"""Runs sized to a time (`budget=5m`): the run measures its own first steps, then sets its length."""

import re
import time
from pathlib import Path
from typing import Any, NamedTuple

from lightning import Callback, LightningDataModule, LightningModule, Trainer
from omegaconf import DictConfig

from alexnet_lit.callbacks.metrics import wait_for_device
from alexnet_lit.errors import UserError

RESERVE = 0.03  # fraction of the budget for what is not measured
_VALIDATION = 0.1  # maximum fraction of the time, unless a single validation takes longer
_EVALUATION = 0.4  # time of evaluating an image / training on it: a third was measured (docs/results), plus a margin
_WARM_UP = 3  # batches before the clock starts: memory, kernels and a compiler come first
_FEWEST = 4  # batches that are measured, however long they take
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}

# Of the trainer while it measures: it trains until it is stopped, and leaves nothing.
MEASURING: dict[str, Any] = {
    **dict.fromkeys(("max_epochs", "max_steps"), -1),
    **dict.fromkeys(("min_epochs", "min_steps", "max_time", "check_val_every_n_epoch", "profiler")),
    "val_check_interval": 1 << 40,
    "limit_val_batches": 0,
    "enable_checkpointing": False,
}


def check_budget(config: DictConfig) -> None:
    """Raises: UserError for a run that can't be sized to a time."""
    parse_seconds(config.budget)
    monitor = config.scheduler.get("monitor")
    if config.ckpt is not None:
        reason = f"is for a new run, and ckpt={config.ckpt} continues one: use trainer.max_steps=..."
    elif config.trainer.accumulate_grad_batches != 1:
        reason = "can't be laid out with trainer.accumulate_grad_batches: use a larger data.batch_size"
    elif monitor:
        reason = f"scheduler.monitor={monitor} is checked once an epoch: use scheduler=one_cycle or constant"
    else:
        return
    raise UserError(f"budget={config.budget}: {reason}")


def parse_seconds(budget: Any) -> float:
    """The duration of a text such as 90s, 5m or 1h30m. Raises: UserError for anything else."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", budget) if isinstance(budget, str) else []
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not total or "".join(number + unit for number, unit in parts) != budget:
        raise UserError(f"budget={budget}: should be a time such as 90s, 5m or 1h30m")
    return total


class Durations(NamedTuple):
    """Seconds of a training batch, of evaluating an image, of writing last.ckpt; and what measuring them took."""

    batch: float
    image: float
    save: float
    measured: float


class TimeBudget(Callback):
    """Times training batches of a fit, which it ends after `seconds` or a little more, and a save after it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._batches = -_WARM_UP
        self._batch_size = 0
        self._training = self._began = self._save = 0.0

    def measure(self, trainer: Trainer, module: LightningModule, data: LightningDataModule) -> Durations:
        """Train and save a little, on every rank."""
        trainer.fit(module, datamodule=data)
        batch = self._training / self._batches
        return Durations(batch, _EVALUATION * batch / self._batch_size, self._save, self._training + self._save)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, *_: Any) -> None:
        """Stop once there is enough to judge by: all ranks at the same batch."""
        self._batch_size = max(self._batch_size, batch.total)
        self._batches += 1
        if self._batches == 0:
            self._began = _now(trainer)
        elif self._batches >= _FEWEST:
            self._training = _now(trainer) - self._began
            trainer.should_stop = trainer.strategy.broadcast(self._training > self.seconds)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save, while the net is where it is trained."""
        began, file = _now(trainer), Path(trainer.default_root_dir) / "budget.ckpt"
        trainer.save_checkpoint(file)
        if trainer.is_global_zero:
            file.unlink()
        self._save = _now(trainer) - began


def _now(trainer: Trainer) -> float:
    wait_for_device(trainer)
    return time.monotonic()


def choose_steps(
    budget: str, left: float, took: Durations, *, epoch: int, validation: int, test: int, save_every: int, most: int
) -> tuple[int, int]:
    """Steps of a run, and batches between its validations, that take `left` seconds, evaluation and saves included.

    epoch: its batches; validation, test: images; most: steps at most, -1 for no limit. The last step is followed by a
    validation. Raises: UserError if not even one step fits.
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
        parts = f"beginning, validation ({validation:,} images) and test ({test:,}) take {needed:.0f} s"
        hint = "alone: give it more, or lower trainer.limit_val_batches and trainer.limit_test_batches"
        raise UserError(f"budget={budget}: {parts} {hint}")
    return validations * interval, interval
