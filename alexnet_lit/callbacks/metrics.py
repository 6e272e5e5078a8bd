"""Callbacks that measure training: points of its curve, throughput, divergence, time to an accuracy."""

import time
from typing import Annotated, Any, Self

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor

from alexnet_lit.callbacks.loggers import History
from alexnet_lit.errors import Diverged


def log_to_all(trainer: Trainer, values: dict[str, float]) -> None:
    """Log values at the global step to all loggers."""
    for logger in trainer.loggers:
        logger.log_metrics(values, step=trainer.global_step)


def wait_for_device(trainer: Trainer) -> None:
    """Synchronise a GPU before the clock is read. Called at log steps, where Lightning waits for the loss too."""
    torch.get_device_module(trainer.strategy.root_device).synchronize()


class TrainingCurve(Callback):
    """Logs `module.take_point()` and `images_per_second` to all loggers, every `every` steps and at the last step of an
    epoch and of the run; with every=0 at these last steps alone.
    """

    def __init__(self, every: int) -> None:
        self.every = every

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Log a point if it is due: a batch whose gradients accumulate ends no step."""
        step = trainer.global_step
        last = trainer.is_last_batch or step == trainer.max_steps
        if not trainer.fit_loop._should_accumulate() and (last or (self.every and step % self.every == 0)):
            point = module.take_point()  # type: ignore[operator] # torch types any attribute as a Module
            log_to_all(trainer, {**point, **Throughput.of(trainer).take_point(trainer)})


class Throughput(Callback):
    """Counts training images and the seconds of fit.

    `batch.total`: images that all devices train on in a batch. `seconds`: time in fit; the throughput leaves out its
    validations and checkpoints. Checkpoints keep the counts, so a resumed run adds up.
    """

    def __init__(self) -> None:
        self.images = 0
        self._fit = _Stopwatch()
        self._training = _Stopwatch()
        self._since = (0, 0.0)  # images and training seconds at the last point

    @classmethod
    def of(cls, trainer: Trainer) -> Self:
        """The trainer's, or one that has counted nothing."""
        callbacks = trainer.callbacks  # type: ignore[attr-defined] # set by Lightning's callback connector
        return next((callback for callback in callbacks if isinstance(callback, cls)), cls())

    @property
    def seconds(self) -> float:
        return self._fit.seconds

    @property
    def images_per_second(self) -> float:
        """Over the whole run; 0 before the first step."""
        seconds = self._training.seconds
        return self.images / seconds if seconds else 0.0

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._fit.start()

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Start the training clock, which a validation or a checkpoint may have stopped."""
        self._training.start()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, *_: Any) -> None:
        self.images += batch.total

    def take_point(self, trainer: Trainer) -> dict[str, float]:
        """The throughput since the last call. Waits for the device."""
        wait_for_device(trainer)
        images, seconds = self.images - self._since[0], self._training.seconds - self._since[1]
        self._since = (self.images, self._training.seconds)
        return {"images_per_second": images / seconds} if seconds else {}

    def pause(self, trainer: Trainer, *_: Any) -> None:
        wait_for_device(trainer)
        self._training.stop()

    on_validation_start = on_save_checkpoint = on_train_end = pause  # type: ignore[assignment] # Lightning gives all by position

    def on_fit_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Stop both clocks: an interrupted run reports its seconds too."""
        self._training.stop()
        self._fit.stop()

    on_exception = on_fit_end  # type: ignore[assignment] # Lightning gives all by position

    def state_dict(self) -> dict[str, float]:
        """The counts so far, the running fit included."""
        return {"images": self.images, "seconds": self.seconds, "training_seconds": self._training.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.images = int(state_dict["images"])
        self._fit.earlier = state_dict["seconds"]
        self._training.earlier = state_dict["training_seconds"]
        self._since = (self.images, self._training.seconds)


class _Stopwatch:
    """Adds up the time between `start` and `stop`; both may be called again at any time."""

    def __init__(self) -> None:
        self.earlier = 0.0
        self._began: float | None = None

    @property
    def seconds(self) -> float:
        return self.earlier + (0.0 if self._began is None else time.monotonic() - self._began)

    def start(self) -> None:
        if self._began is None:
            self._began = time.monotonic()

    def stop(self) -> None:
        self.earlier = self.seconds
        self._began = None


class TerminateOnNaN(Callback):
    """Raises Diverged out of `fit`, on all ranks at the same step, if the loss of any of them is NaN or infinite.

    A GPU's loss is copied without waiting and read when the next step ends, or at a checkpoint, validation or the end.
    There the weights are checked too: gradients that overflow break them a step before the loss shows it.
    """

    def __init__(self) -> None:
        self._pending: tuple[int, Tensor, torch.cuda.Event | None] | None = None  # step, loss, when it can be read

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, *_: Any) -> None:
        """Check the step before; fetch this one's loss, and check it too where that costs no wait."""
        self._check_loss()
        loss, event = outputs["loss"].detach().float(), None
        if trainer.world_size > 1:
            loss = loss.clone()
            torch.distributed.all_reduce(loss)  # on a GPU it joins the queue like any other kernel
        if loss.is_cuda:
            loss = loss.to("cpu", non_blocking=True)  # into pinned memory
            event = torch.cuda.Event()
            event.record()
        self._pending = (trainer.global_step, loss, event)
        if event is None:
            self._check_loss()

    def _check_loss(self) -> None:
        if self._pending is None:
            return
        (step, loss, event), self._pending = self._pending, None
        if event is not None:
            event.synchronize()
        if not loss.isfinite():
            raise Diverged(f"the training loss is {float(loss)} at step {step}: lower optimizer.lr")

    def _check(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Refuse to measure or save a broken net: check loss and weights. Waits for the device."""
        self._check_loss()
        broken = ~torch.stack([weight.detach().isfinite().all() for weight in module.parameters()]).all()
        if trainer.world_size > 1:
            broken = broken.float()
            torch.distributed.all_reduce(broken)
        if broken.item():
            raise Diverged(f"weights are no longer finite after step {trainer.global_step}: lower optimizer.lr")

    # A file is written after this.
    on_validation_start = on_save_checkpoint = on_train_end = _check  # type: ignore[assignment] # Lightning gives all by position


class TimeToAccuracy(Callback):
    """Logs `seconds_to_acc/<level>` once, at the first validation whose accuracy is at least that level: the seconds of
    fit so far, validation and checkpoints included, those before a resume too.
    """

    @validate_call(config=ConfigDict(strict=True))
    def __init__(self, *, levels: list[Annotated[float, Field(gt=0, le=1)]]) -> None:
        self.levels = levels

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        *before, now = [0.0, *(value for _, value in History.of(trainer).points.get(f"{module.validate}/acc", []))]
        reached = [level for level in self.levels if max(before, default=0.0) < level <= now]
        if reached:
            log_to_all(trainer, {f"seconds_to_acc/{level:g}": Throughput.of(trainer).seconds for level in reached})
