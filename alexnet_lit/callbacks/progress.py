"""The progress line of a run: what it is doing, how well, how fast, and how long it will take."""

import logging
import math
import time
from typing import Annotated, Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.trainer.states import TrainerFn
from pydantic import ConfigDict, Field, validate_call
from rich.live import Live

from alexnet_lit.callbacks.estimate import Estimate, Plan, final_test_images, validation_images
from alexnet_lit.callbacks.history import History
from alexnet_lit.callbacks.line import Line, clock, duration, rate
from alexnet_lit.terminal import console, log, on_terminal

_REFRESH_SECONDS = 0.25
_MEASURED = (3, 10.0)  # batches and seconds behind a forecast that is said aloud


class Progress(ProgressBar):
    """One bar for a whole fit, or one for a test; off a terminal a plain line every `line_seconds` and after each
    validation. Those lines are in train.log in any case. A fit that will take longer than `long_run_minutes` says so
    once, as soon as that can be told.

    The bar is drawn from the trainer's hooks: no thread competes with training, no value is fetched from the device.
    """

    @validate_call(config=ConfigDict(strict=True))
    def __init__(
        self, *, line_seconds: Annotated[float, Field(gt=0)], long_run_minutes: Annotated[float, Field(gt=0)]
    ) -> None:
        super().__init__()
        self._line_seconds = line_seconds
        self._long_run_seconds = 60 * long_run_minutes
        self._enabled = True
        self._live: Live | None = None
        self._estimate: Estimate | None = None
        self._began = self._drawn = self._said = 0.0  # monotonic times
        self._forecast_due = False

    def disable(self) -> None:
        """Show nothing: every rank but the first, and Lightning's tuners, want that."""
        self._enabled = False

    def enable(self) -> None:
        """Undo `disable`."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar (`LightningModule.print` ends up here)."""
        console.print(*args, **kwargs)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Begin the bar where the run stands: not at 0 if it is a resumed one."""
        plan, batches = Plan.of(trainer), trainer.fit_loop.total_batch_idx + 1
        validation, test = validation_images(trainer, plan.validation), final_test_images(trainer)
        self._begin(trainer, Estimate(plan=plan, batches=batches, per_validation=validation, test=test))
        self._forecast_due = True

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, *_: Any) -> None:
        """Move on."""
        if self._estimate is not None:
            self._estimate.trained(batch.total, time.monotonic())
            self._forecast(trainer, self._estimate)
            self._show(trainer)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Leave one plain line where the bar was."""
        self._end(trainer)

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Within a fit the bar goes on; `trainer.validate` has one of its own."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._begin_evaluation(trainer)
        elif self._estimate is not None:
            self._estimate.plan = Plan.of(trainer)  # now that the size of validation is known for certain

    def on_validation_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Move on, a third as far as in training."""
        self._evaluated(trainer, batch, f"validating {batch_idx + 1}/{sum(trainer.num_val_batches)}")

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Say what came out."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._close()
        elif self._estimate is not None:
            self._estimate.validated()
            self._say(trainer)

    def on_test_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Begin a bar of its own: the test may follow a fit or stand alone."""
        self._begin_evaluation(trainer)

    def on_test_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Move on."""
        self._evaluated(trainer, batch, f"testing {batch_idx + 1}/{sum(trainer.num_test_batches)}")

    def on_test_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Its outcome is for the closing table to say."""
        self._close()

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Give the terminal back, and say how far the run came."""
        self._end(trainer)

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        """Give the terminal back, whatever happened."""
        self._close()

    def _begin(self, trainer: Trainer, estimate: Estimate, where: str = "") -> None:
        if not self._enabled:
            return
        self._close()
        self._estimate = estimate
        self._began = self._said = time.monotonic()
        self._drawn = 0.0
        if on_terminal():
            # Transient: what a finished bar would repeat for ever is said by the plain line that takes its place.
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()
        self._show(trainer, where)

    def _begin_evaluation(self, trainer: Trainer) -> None:
        testing = trainer.state.fn == TrainerFn.TESTING
        batches = sum(trainer.num_test_batches if testing else trainer.num_val_batches)
        endless = math.isinf(batches)
        plan = Plan(batches=None if endless else 0, per_epoch=None)
        # The batch is the unit here: with nothing to train, what an image costs does not matter.
        estimate = Estimate(plan=plan, batches=0, per_validation=None, test=0 if endless else int(batches))
        self._begin(trainer, estimate, "testing" if testing else "validating")

    def _evaluated(self, trainer: Trainer, batch: Any, where: str) -> None:
        if self._estimate is not None:
            images = batch.total if trainer.state.fn == TrainerFn.FITTING else 1
            self._estimate.evaluated(images, time.monotonic())
            self._show(trainer, where)

    def _end(self, trainer: Trainer) -> None:
        estimate = self._estimate
        self._close()
        if estimate is not None and trainer.state.fn == TrainerFn.FITTING:
            elapsed = f"after {clock(time.monotonic() - self._began)}"
            log.info(Line(_epoch(trainer, estimate.plan), facts=_facts(trainer, estimate), time=elapsed).plain())

    def _close(self) -> None:
        live, self._live, self._estimate = self._live, None, None
        if live is not None:
            live.stop()

    def _show(self, trainer: Trainer, where: str = "") -> None:
        """Draw the bar, or say a plain line when it is time for one."""
        now = time.monotonic()
        if self._live is not None and now - self._drawn >= _REFRESH_SECONDS:
            self._drawn = now
            self._live.update(self._line(trainer, where).drawn(console.width), refresh=True)
        if now - self._said >= self._line_seconds:
            self._say(trainer, where)

    def _say(self, trainer: Trainer, where: str = "") -> None:
        """Below a live bar the line goes to train.log only."""
        self._said = time.monotonic()
        log.log(logging.INFO if self._live is None else logging.DEBUG, self._line(trainer, where).plain())

    def _line(self, trainer: Trainer, where: str) -> Line:
        assert self._estimate is not None
        left = self._estimate.seconds_left
        time_left = "" if left is None else f"{clock(left)} left"
        if trainer.state.fn != TrainerFn.FITTING:
            return Line(where, self._estimate.fraction, time=time_left)
        where = where or _epoch(trainer, self._estimate.plan)
        return Line(where, self._estimate.fraction, _facts(trainer, self._estimate), time_left)

    def _forecast(self, trainer: Trainer, estimate: Estimate) -> None:
        if not self._forecast_due or estimate.measured < _MEASURED[0] or estimate.seconds < _MEASURED[1]:
            return
        self._forecast_due = False
        left, speed = estimate.seconds_left, estimate.images_per_second
        whole = (left or 0.0) + time.monotonic() - self._began
        if speed and left and whole > self._long_run_seconds:
            log.info(
                f"This run will take about {duration(whole)} on {_device(trainer)} ({rate(speed)}). "
                "For a first look in minutes: python train.py experiment=quick"
            )


def _epoch(trainer: Trainer, plan: Plan) -> str:
    epoch, epochs = trainer.current_epoch + 1, plan.epochs
    return f"epoch {epoch}" if epochs is None else f"epoch {min(epoch, epochs)}/{epochs}"


def _facts(trainer: Trainer, estimate: Estimate) -> dict[str, str]:
    """Collect the newest logged values. Lightning has fetched them from the device when it logged them."""
    history = History.of(trainer)
    # experiment=d2l evaluates on the test images after each epoch, as the course does.
    held_out = "val/acc" if history.latest("val/acc") is not None else "test/acc"
    facts = {}
    for name, tag in (("loss", "train/loss"), ("acc", "train/acc"), (held_out, held_out)):
        if (value := history.latest(tag)) is not None:
            facts[name] = f"{name} {value:.3f}"
    speed = history.latest("images_per_second") or estimate.images_per_second
    if speed:
        facts["images/s"] = rate(speed)
    return facts


def _device(trainer: Trainer) -> str:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return name if trainer.world_size == 1 else f"{trainer.world_size} x {name}"
