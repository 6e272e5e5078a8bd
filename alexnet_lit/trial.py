"""A run tried out for some seconds: how fast it trains, evaluates and saves, on the devices that it will have."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig, open_dict

from alexnet_lit.distributed.launch import launch
from alexnet_lit.callbacks.metrics import wait_for_device
from alexnet_lit.errors import UserError, exits_raised
from alexnet_lit.prepare import RunObjects, message_to_ranks

_WARM = 3  # batches before the clock counts: memory, kernels and a compiler come first
_FEWEST = 4  # batches that are measured, however long they take
_AT_WORK = ("ema",)  # callbacks that cost time in every step and checkpoint; the others look on, or make steps cheaper
# No step moves the weights: what a trial finds is how long things take.
_STILL = {
    "_target_": "torch.optim.lr_scheduler.ConstantLR",
    "_partial_": True,
    "factor": 0.0,
    "total_iters": 1 << 40,
    "interval": "step",
    "monitor": None,
}


@dataclass(frozen=True)
class Speeds:
    """What things take, in seconds: a training batch, evaluating an image, writing last.ckpt.

    measured: what it took to find that out; the rest of a trial is what any run begins and ends with.
    """

    batch: float
    image: float
    save: float
    measured: float


class Trial(Callback):
    """Measures a trainer, which goes on until this stops it after `most` seconds or a little more. `speeds` tells."""

    def __init__(self, most: float) -> None:
        self.most = most
        self.batches = -_WARM
        self.training = self.save = self.evaluating = 0.0
        self.images = 0
        self._mark = 0.0

    @property
    def speeds(self) -> Speeds:
        """Where nothing was evaluated, an image is taken to cost a third of what training on it does."""
        batch = self.training / self.batches
        image = self.evaluating / self.images if self.images else batch / self._batch_size / 3
        return Speeds(batch, image, self.save, self.training + self.evaluating + self.save)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, *_: Any) -> None:
        """Stop once there is enough to judge by: the same on all ranks."""
        self._batch_size = batch.total
        self.batches += 1
        if self.batches == 0:
            self._start(trainer)
        elif self.batches >= _FEWEST:
            self.training = self._elapsed(trainer)
            trainer.should_stop = trainer.strategy.broadcast(self.training > self.most)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save what a run saves."""
        self._start(trainer)
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "trial.ckpt")
        self.save = self._elapsed(trainer)

    def on_validation_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Count all but the first."""
        if batch_idx == 0:
            self._start(trainer)
        else:
            self.images += batch.total
            self.evaluating = self._elapsed(trainer)

    def _start(self, trainer: Trainer) -> None:
        wait_for_device(trainer)
        self._mark = time.monotonic()

    def _elapsed(self, trainer: Trainer) -> float:
        wait_for_device(trainer)
        return time.monotonic() - self._mark


def try_out(parts: RunObjects, most: float) -> None:
    """Train for `most` seconds, save and evaluate a little; leave in parts.folder how fast that was. On every rank."""
    trial = Trial(most)
    parts.trainer.callbacks.append(trial)  # type: ignore[attr-defined] # set by Lightning's callback connector
    with exits_raised():
        parts.trainer.fit(parts.module, datamodule=parts.data)
        if parts.data.sizes[parts.data.validate] and parts.trainer.limit_val_batches:
            parts.trainer.validate(parts.module, datamodule=parts.data, verbose=False)
    if parts.trainer.is_global_zero:
        (parts.folder / "speeds.json").write_text(json.dumps(asdict(trial.speeds)), encoding="utf-8")


def trial_of(config: DictConfig) -> DictConfig:
    """The run, but that it goes on until it is stopped, and leaves nothing."""
    config = config.copy()
    at_work = {name: node for name, node in (config.get("callbacks") or {}).items() if name in _AT_WORK}
    with open_dict(config):
        config.update({"budget": None, "logger": None, "scheduler": _STILL, "callbacks": at_work})
    few = min(4, config.trainer.limit_val_batches) if isinstance(config.trainer.limit_val_batches, int) else 4
    endless = {"max_epochs": -1, "max_steps": -1, "max_time": None, "check_val_every_n_epoch": None}
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "profiler": None}
    config.trainer.update({**endless, **quiet, "val_check_interval": 1 << 40, "limit_val_batches": few})
    return config


def measured(parts: RunObjects, most: float) -> Speeds:
    """What a trial of the run tells, in as many processes as the run will have."""
    if parts.ranks == 1:
        try_out(parts, most)
    else:
        told = {**message_to_ranks(parts.config, parts.folder), "trial": most}
        ended = launch(told, ranks=parts.ranks, name=str(parts.folder))
        if ended.failure and ended.failure.mistake:
            raise UserError(ended.failure.reason)
        if ended.asked:
            raise KeyboardInterrupt
        if ended.failure:
            raise RuntimeError(ended.failure.reason)
    return Speeds(**json.loads((parts.folder / "speeds.json").read_text(encoding="utf-8")))
