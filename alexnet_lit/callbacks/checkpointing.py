"""When a run is saved, what is kept, and how it stops when asked to."""

import itertools
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from pydantic import ConfigDict, Field, validate_call

from alexnet_lit.errors import Interrupted, writing
from alexnet_lit.terminal import hangup, ignore, say_from_handler

WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)  # before the time limit: of sbatch --signal=USR1@120, and of submitit
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *WARNINGS)


class AtomicFile(TorchCheckpointIO):
    """Write a checkpoint beside its place and move it there once it is whole: what is there can always be loaded."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write to <path>.part, then replace <path>. Raises: UserError where the disk refuses."""
        part = Path(f"{path}.part")
        try:
            with writing(path):
                part.parent.mkdir(parents=True, exist_ok=True)
                with part.open("wb") as file:
                    torch.save(checkpoint, file)
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


class Checkpoints(Checkpoint):
    """Keep last.ckpt (the last finished step) and best.ckpt (by the objective), and stop when a signal asks for it.

    last.ckpt is written every `every_steps` steps or `every_minutes` minutes, at the end of each epoch and of the run,
    and on a stop; it holds all that training needs to go on. At the end of an epoch that is when everything else is
    done with it: the schedule has stepped, and early stopping has counted it. best.ckpt holds weights and config only.
    `keep`: how many bests stay. Of equal scores, which are common on few images, the later is best: that net has learnt
    for longer. A value that is not a number never becomes best.

    The first SIGINT or SIGTERM lets the step finish, saves and raises Interrupted out of `fit`; during validation it
    waits for its end. The second acts at once, as ever. SIGHUP (a terminal that closes), SIGUSR1 and SIGUSR2, which
    clusters send before the time limit, do what the first does, however often they come: the launcher of several ranks
    may hand on what they got themselves, and a shell and its terminal both tell of the end.
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
        say: Callable[[str], None],
    ) -> None:
        self.folder = Path(folder)
        self.objective = objective
        self.sign = 1 if direction == "maximize" else -1
        self.every_steps = every_steps
        self.every_seconds = every_minutes * 60
        self.keep = keep
        self.say = say
        self.best_score = -math.inf  # in the direction that is better
        self._stop_asked = 0  # the signal that did
        self._step = -1  # finished before the last batch
        self._saved_at = time.monotonic()
        self._handlers: dict[int, Any] = {}

    @property
    def last(self) -> Path:
        """Where the last finished step is."""
        return self.folder / "last.ckpt"

    @property
    def best(self) -> Path:
        """Where the best weights are, if any were chosen."""
        return self.folder / "best.ckpt"

    @property
    def chosen(self) -> bool:
        """Whether best.ckpt is this run's choice: it may be there from before the run went on with `keep=0`."""
        return self.keep > 0 and self.best_score > -math.inf and self.best.exists()

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Begin to listen for signals, and forget the score of a best.ckpt that is not here."""
        if not trainer.strategy.broadcast(self.best.exists()):
            self.best_score = -math.inf
        self._saved_at = time.monotonic()
        self._handlers = {number: signal.signal(number, self._ask_to_stop) for number in (*STOP_SIGNALS, *hangup())}

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Nothing is left to finish, so a signal ends the process again, unless it has been asked to stop already."""
        if not self._stop_asked:
            self.teardown(trainer, module, "fit")

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Hand the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop_asked = number
        name = signal.Signals(number).name
        if number not in (signal.SIGINT, signal.SIGTERM):
            say_from_handler(self.say, f"{name}: finishing this step, then saving")
            signal.signal(number, ignore)
            return
        say_from_handler(self.say, f"{name}: finishing this step, then saving; once more to stop at once")
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note the step, see `_within_step`."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time to; stop if asked to. Where validation or the epoch's end comes next, both wait for it."""
        if self._within_step(trainer) or trainer.is_last_batch or _validates_next(trainer, batch_idx):
            return  # resumed from here, Lightning would leave that validation out
        due = trainer.global_step % self.every_steps == 0 or _run_ends(trainer)
        self._save_last_or_stop(trainer, due)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save the best if this is it, and, within an epoch, the last."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._save_best(trainer)
        if not (self._within_step(trainer) or trainer.is_last_batch):
            self._save_last_or_stop(trainer, True)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Save a whole epoch. Lightning calls a Checkpoint's hook after all others."""
        if trainer.is_last_batch:  # else the run ends within it, and was saved with its last step
            self._save_last_or_stop(trainer, True)

    def _save_last_or_stop(self, trainer: Trainer, due: bool) -> None:
        """Save where that is due or any rank was asked to stop, and do so then."""
        stop, late = self._agree(trainer)
        if stop or late or due:
            trainer.save_checkpoint(self.last)
            self._saved_at = time.monotonic()
        if stop:
            raise Interrupted(stop)

    def _within_step(self, trainer: Trainer) -> bool:
        """Whether the last batch ended no step: gradients that are being added up are in no checkpoint, so saving and
        stopping wait for the batch that ends it. If the run ends here, there is none.
        """
        return trainer.global_step == self._step and not _run_ends(trainer)

    def _agree(self, trainer: Trainer) -> tuple[str, bool]:
        """By which signal any rank was asked to stop, and whether any finds it time to save: all must do the same."""
        wishes = torch.tensor([self._stop_asked, time.monotonic() - self._saved_at > self.every_seconds])
        if trainer.world_size > 1:
            wishes = trainer.strategy.reduce(wishes.to(trainer.strategy.root_device), reduce_op="max")
        stop, due = wishes.tolist()
        return signal.Signals(stop).name if stop else "", bool(due)

    def _save_best(self, trainer: Trainer) -> None:
        if self.objective is None or self.keep == 0:
            return
        score = self.sign * float(trainer.callback_metrics[self.objective])
        if math.isnan(score) or score < self.best_score:
            return
        self.best_score = score
        if trainer.is_global_zero:
            self._make_room(trainer.global_step)
        trainer.save_checkpoint(self.best, weights_only=True)

    def _make_room(self, step: int) -> None:
        """Let best.ckpt become best_2.ckpt, best_2.ckpt best_3.ckpt, as far as `keep` goes."""
        if self.keep > 1 and self.best.exists() and _step_of(self.best) >= step:
            return  # it is of this very step, which a run repeats that was killed before it saved the epoch
        names = [self.best, *(self.folder / f"best_{n}.ckpt" for n in range(2, self.keep + 1))]
        for better, worse in reversed(list(itertools.pairwise(names))):
            if better.exists():
                better.replace(worse)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know: the score to beat, and of what."""
        return {"objective": self.objective, "best_score": self.best_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up where the saved run was. A score of another objective is no score to beat."""
        if state_dict.get("objective", self.objective) == self.objective:  # older checkpoints don't say which
            self.best_score = state_dict["best_score"]


def _step_of(path: Path) -> int:
    """Of a checkpoint, without reading its weights."""
    step: int = torch.load(path, mmap=True, weights_only=True)["global_step"]
    return step


def _run_ends(trainer: Trainer) -> bool:
    """Whether this is the last step, within an epoch too."""
    stops = trainer.should_stop and trainer.fit_loop._can_stop_early  # not before min_epochs and min_steps
    return bool(stops) or trainer.global_step == trainer.max_steps


def _validates_next(trainer: Trainer, batch_idx: int) -> bool:
    """Whether validation follows this batch; False where the clock decides that (a `val_check_interval` in time)."""
    if not (trainer.enable_validation and trainer.num_val_batches):
        return False
    epochs, interval = trainer.check_val_every_n_epoch, trainer.val_check_batch
    if epochs is not None and (trainer.current_epoch + 1) % epochs:
        return False
    if interval is None:
        return False
    if math.isinf(interval):
        return trainer.is_last_batch
    number = trainer.fit_loop.total_batch_idx if epochs is None else batch_idx
    return (number + 1) % int(interval) == 0
