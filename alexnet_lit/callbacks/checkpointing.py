"""When a run is saved, what is kept, and how it stops on a signal."""

import itertools
import math
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from pydantic import ConfigDict, Field, validate_call

from alexnet_lit.errors import Interrupted, replacing
from alexnet_lit.terminal import STOP_SIGNALS, hangup, ignore, log, print_from_handler


class AtomicFile(TorchCheckpointIO):
    """Writes checkpoints atomically: to a temporary file, which then replaces the old one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write to <path>.part, then replace <path>. Raises: UserError where the disk refuses."""
        with replacing(Path(path)) as part:
            part.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())


class Checkpoints(Checkpoint):
    """Keeps last.ckpt (the last finished step) and best.ckpt (by the objective), and stops on a signal.

    last.ckpt holds all that training needs to go on; it is written every `every_steps` steps or `every_minutes`
    minutes, after validations, at the end of each epoch and of the run, and on a stop. best.ckpt holds weights and
    config only. `keep`: how many bests stay. Of equal scores the later is best; NaN never is.

    The first SIGINT or SIGTERM lets the step (on several GPUs up to ten), or the validation, finish, saves and raises
    Interrupted out of `fit`; the second acts at once. SIGHUP, SIGUSR1 and SIGUSR2 (clusters, before the time limit) do
    what the first does however often they come.
    """

    @validate_call(config=ConfigDict(strict=True))
    def __init__(
        self,
        *,
        folder: str,
        objective: str | None,
        direction: Literal["maximize", "minimize"],
        every_steps: Annotated[int, Field(ge=1)],
        every_minutes: Annotated[float, Field(gt=0)],
        keep: Annotated[int, Field(ge=0)],
    ) -> None:
        self.folder = Path(folder)
        self.last = self.folder / "last.ckpt"
        self.best = self.folder / "best.ckpt"
        self.objective, self.keep = objective, keep
        self.sign = 1 if direction == "maximize" else -1
        self.every_steps, self.every_seconds = every_steps, every_minutes * 60
        self.best_score = -math.inf  # negated where less is better
        self._stop_signal = 0
        self._saved_at = time.monotonic()
        self._handlers: dict[int, Any] = {}  # no `handling`, which would restore them once this is garbage

    @property
    def chosen(self) -> bool:
        """Whether best.ckpt is this run's: a run that was resumed with `keep=0` has an earlier one."""
        return self.keep > 0 and self.best_score > -math.inf and self.best.exists()

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Install the signal handlers, and forget the score of a best.ckpt that is not here."""
        if not trainer.strategy.broadcast(self.best.exists()):
            self.best_score = -math.inf
        self._saved_at = time.monotonic()
        numbers = (*STOP_SIGNALS, *hangup()) if threading.current_thread() is threading.main_thread() else ()
        self._handlers = {number: signal.signal(number, self._on_signal) for number in numbers}

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Restore the handlers, as nothing is left to finish, unless a signal has come already."""
        if not self._stop_signal:
            self.teardown(trainer, module, "fit")

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop_signal = self._stop_signal or number
        handler: Any = ignore
        text = f"{signal.Signals(number).name}: finishing this step, then saving"
        if number in (signal.SIGINT, signal.SIGTERM):
            text += "; once more to stop at once"
            handler = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        print_from_handler(log.info, text)
        signal.signal(number, handler)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Save or stop if that is due. Where a validation or the epoch's end comes next, both wait for it: resumed from
        here, Lightning would leave that validation out.
        """
        if not (_within_step(trainer) or trainer.is_last_batch or _validates_next(trainer)):
            self._save_last_or_stop(trainer, trainer.global_step % self.every_steps == 0 or _run_ends(trainer))

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save the best if this is it, and, within an epoch, the last."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._save_best(trainer)
        if not (_within_step(trainer) or trainer.is_last_batch):
            self._save_last_or_stop(trainer, True)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save the epoch. Lightning calls a Checkpoint's hook after all others."""
        if trainer.is_last_batch:  # else the run ends within it, and was saved with its last step
            self._save_last_or_stop(trainer, True)

    def _save_last_or_stop(self, trainer: Trainer, due: bool) -> None:
        """Save if it is due on any rank, and stop if a signal came to any. On GPUs, which it synchronises, seldom."""
        device = trainer.strategy.root_device
        if trainer.world_size > 1 and device.type != "cpu" and not due and trainer.global_step % 10:
            return
        flags = torch.tensor([self._stop_signal, due or time.monotonic() - self._saved_at > self.every_seconds])
        if trainer.world_size > 1:
            flags = trainer.strategy.reduce(flags.to(device), reduce_op="max")
        stop, due = flags.tolist()
        if stop or due:
            trainer.save_checkpoint(self.last)
            self._saved_at = time.monotonic()
        if stop:
            raise Interrupted(signal.Signals(stop).name)

    def _save_best(self, trainer: Trainer) -> None:
        if self.objective is None or self.keep == 0:
            return
        score = self.sign * float(trainer.callback_metrics[self.objective])
        if math.isnan(score) or score < self.best_score:
            return
        self.best_score = score
        trainer.save_checkpoint(self.folder / "best_1.ckpt", weights_only=True)
        if trainer.is_global_zero:
            self._shift_bests(trainer.global_step)

    def _shift_bests(self, step: int) -> None:
        """Rename best_1.ckpt to best.ckpt, best.ckpt to best_2.ckpt, and so on, as far as `keep` goes."""
        names = [self.folder / f"best_{n}.ckpt" for n in range(1, self.keep + 1)]
        names.insert(1, self.best)
        if self.keep > 1 and self.best.exists():
            saved = torch.load(self.best, "cpu", mmap=True, weights_only=True)["global_step"]
            if saved >= step:  # a run that was killed before it saved the epoch repeats this step
                del names[2:]
        for better, worse in reversed(list(itertools.pairwise(names))):
            if better.exists():
                better.replace(worse)

    def state_dict(self) -> dict[str, Any]:
        return {"objective": self.objective, "best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there, unless it is the score of another objective."""
        if state_dict.get("objective", self.objective) == self.objective:  # older checkpoints don't say which
            self.best_score = state_dict["best_score"]


def _within_step(trainer: Trainer) -> bool:
    """Whether gradients are being accumulated, which no checkpoint holds: saving and stopping wait for the step."""
    return trainer.fit_loop._should_accumulate() and not _run_ends(trainer)


def _run_ends(trainer: Trainer) -> bool:
    """Whether this is the last step."""
    stops = trainer.should_stop and trainer.fit_loop._can_stop_early  # not before min_epochs and min_steps
    return bool(stops) or trainer.global_step == trainer.max_steps


def _validates_next(trainer: Trainer) -> bool:
    """Whether validation follows this batch; False where the clock decides that, on each rank for itself."""
    if getattr(trainer, "_val_check_time_interval", None) is not None:
        return False
    loop = trainer.fit_loop
    return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)  # type: ignore[arg-type] # there is one in a fit
