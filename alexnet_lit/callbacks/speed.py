"""How fast a run trains: images seen, seconds spent, images per second."""

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class Speed(Callback):
    """Counts training images and the seconds of fit, and logs `images_per_second` every `log_every_n_steps` steps.

    Each training batch says in `batch.total` how many images all devices together train on in that step.
    `seconds` is the time in fit, validation and checkpoints included; the throughput leaves those out. All of it is
    kept in checkpoints, so a resumed run adds up.
    """

    def __init__(self) -> None:
        self.images = 0
        self._fit = _Stopwatch()
        self._training = _Stopwatch()
        self._fitting = True
        self._step = 0  # global step at the end of the last batch
        self._logged = False
        self._since = (0, 0.0)  # images and training seconds when images_per_second was last logged

    @staticmethod
    def of(trainer: Trainer) -> "Speed":
        """Find the trainer's; one that counts nothing where there is none."""
        return next((callback for callback in trainer.callbacks if isinstance(callback, Speed)), Speed())  # type: ignore[attr-defined] # set by Lightning's callback connector

    @property
    def seconds(self) -> float:
        """Time in fit so far."""
        return self._fit.seconds

    @property
    def images_per_second(self) -> float:
        """Over the whole run; 0 before the first step."""
        seconds = self._training.seconds
        return self.images / seconds if seconds else 0.0

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Note what the trainer is about to do, see `load_state_dict`."""
        self._fitting = stage == "fit"

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Start the clock of `seconds`."""
        self._fit.start()

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Measure from here: a resumed run has loaded its counts by now."""
        self._step = trainer.global_step
        self._logged = False
        self._since = (self.images, self._training.seconds)

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Training goes on, after a validation or a checkpoint too."""
        self._training.start()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, *_: Any) -> None:
        """Count the batch, and log at the trainer's interval."""
        self.images += batch.total
        stepped = trainer.global_step != self._step  # not while gradients accumulate
        self._step = trainer.global_step
        interval = trainer.log_every_n_steps  # type: ignore[attr-defined] # set by Lightning's logger connector
        if stepped and interval and self._step % interval == 0:
            self._log(trainer)

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Stop the training clock, which the next training batch starts again."""
        self.pause(trainer)

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """As at a validation: writing half a gigabyte is not training."""
        self.pause(trainer)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Give a run that is too short for the interval one point all the same."""
        self.pause(trainer)
        if not self._logged:
            self._log(trainer)

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Stop the clock of `seconds`."""
        self._fit.stop()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Stop both clocks: an interrupted run reports its seconds too."""
        self._training.stop()
        self._fit.stop()

    def state_dict(self) -> dict[str, float]:
        """Return the counts so far, the running fit included."""
        return {"images": self.images, "seconds": self.seconds, "training_seconds": self._training.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Go on from a checkpoint's counts.

        Lightning also restores callbacks when `trainer.test` loads the best checkpoint; the run that has just ended
        knows better then.
        """
        if self._fitting:
            self.images = int(state_dict["images"])
            self._fit.earlier = state_dict["seconds"]
            self._training.earlier = state_dict["training_seconds"]

    def pause(self, trainer: Trainer) -> None:
        """Stop the training clock: what comes now is no training. The next training batch starts it again."""
        wait_for_device(trainer)
        self._training.stop()

    def _log(self, trainer: Trainer) -> None:
        wait_for_device(trainer)
        images, seconds = self.images - self._since[0], self._training.seconds - self._since[1]
        if not images or not seconds:
            return
        self._since = (self.images, self._training.seconds)
        self._logged = True
        for logger in trainer.loggers:
            logger.log_metrics({"images_per_second": images / seconds}, step=trainer.global_step)


class _Stopwatch:
    """Adds up the time between `start` and `stop`; both may be called again at any time."""

    def __init__(self) -> None:
        self.earlier = 0.0
        self._began: float | None = None

    @property
    def seconds(self) -> float:
        running = 0.0 if self._began is None else time.monotonic() - self._began
        return self.earlier + running

    def start(self) -> None:
        if self._began is None:
            self._began = time.monotonic()

    def stop(self) -> None:
        self.earlier = self.seconds
        self._began = None


def wait_for_device(trainer: Trainer) -> None:
    """Let a GPU finish what it was handed, so that the clock tells the truth.

    Called where a figure is read, never per step; Lightning waits at the same places to read the loss.
    """
    device = trainer.strategy.root_device
    if device.type in {"cuda", "mps", "xpu"}:
        torch.accelerator.synchronize(device)
