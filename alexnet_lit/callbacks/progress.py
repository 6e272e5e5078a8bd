"""The progress of a run, on one bar or on plain lines, and the counter of the commands."""

import logging
import math
import sys
import time
from datetime import timedelta
from functools import partial
from typing import Annotated, Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, Timer
from lightning.pytorch.trainer.states import TrainerFn
from pydantic import ConfigDict, Field, validate_call
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

from alexnet_lit.callbacks.loggers import History
from alexnet_lit.callbacks.metrics import Throughput
from alexnet_lit.terminal import console, log, on_terminal

_REFRESH_SECONDS = 0.25
_MEASURED_SECONDS = 10.0  # of training before the run's length is estimated
_TRAINING = 3  # cost of a training batch, in evaluation batches, which are forward passes alone
_SPEED_SECONDS = 3600.0  # the time left is estimated from the last hour
TASK = TaskID(0)  # the only one of a bar


class Progress(ProgressBar):
    """One bar for a whole fit, or one for a test; in a file a plain line every `line_seconds` and after each
    validation. Those lines are in train.log in any case. A fit that will take longer than `long_run_minutes` says so.

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
        self._bar: Bar | None = None  # hidden off a terminal; the work of the run is its only task
        self._drawn = self._logged = 0.0  # monotonic times
        self._announced = False

    def disable(self) -> None:
        """Show nothing, as Lightning wants it of every rank but the first."""
        self._enabled = False

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._announced = False
        batches = training_batches(trainer)
        total = None if math.isinf(batches) else _work(trainer, int(batches)) + _test_batches(trainer)
        self._begin(trainer, total, done=_work(trainer, trainer.fit_loop.total_batch_idx + 1))

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._advance(trainer, _TRAINING)
        if self._bar is not None and not self._announced:
            self._announce_long_run(trainer, self._bar.tasks[0])

    def on_test_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, number: int, *_: Any) -> None:
        testing = trainer.testing
        of = sum(trainer.num_test_batches if testing else trainer.num_val_batches)
        self._advance(trainer, 1, f"{'testing' if testing else 'validating'} {number + 1}/{of}")

    on_validation_batch_end = on_test_batch_end  # type: ignore[assignment] # Lightning gives all by position

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._log(trainer)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Leave one plain line where the bar was."""
        if bar := self._close():
            elapsed = f"after {clock(bar.tasks[0].elapsed or 0.0)}"
            log.info("%s", "  ".join(filter(None, (_epoch(trainer), _facts(trainer), elapsed))))

    def on_test_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._begin(trainer, sum(trainer.num_test_batches), "testing")

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        """Restore the terminal, and log how far a fit came."""
        if trainer.state.fn == TrainerFn.FITTING:
            self.on_train_end(trainer, module)
        self._close()

    def teardown(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        self._close()

    def _begin(self, trainer: Trainer, work: float | None, where: str = "", *, done: float = 0) -> None:
        if not self._enabled:
            return
        texts = map(_Field, ("percent", "facts", "left"))
        self._bar = Bar(
            *(_Field("where"), BarColumn(20, table_column=Column(no_wrap=True)), *texts),
            console=console,
            auto_refresh=False,
            speed_estimate_period=_SPEED_SECONDS,
            transient=True,  # a plain line takes the place of the finished bar
            get_time=lambda: time.monotonic(),
            disable=not (console.is_jupyter or on_terminal()),
        )
        self._bar.add_task("", total=work, completed=done, texts={})  # type: ignore[arg-type] # rich counts floats too
        self._drawn, self._logged = 0.0, time.monotonic()
        if console.is_jupyter:  # an output of the cell that is replaced each time; rich's own way wants ipywidgets
            from IPython.display import display

            output: Any = display(self._bar, display_id=True)
            self._bar.refresh = partial(output.update, self._bar)  # type: ignore[method-assign] # of this bar alone
            self._bar.stop = partial(output.update, {}, raw=True)  # type: ignore[method-assign] # as above
        else:
            self._bar.start()
        self._advance(trainer, 0, where)

    def _close(self) -> Bar | None:
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.stop()
        return bar

    def _advance(self, trainer: Trainer, work: int, where: str = "") -> None:
        """Draw the bar, or log a plain line when one is due."""
        if self._bar is None:
            return
        if work:
            self._bar.advance(TASK, work)
        now = time.monotonic()
        if not self._bar.disable and now - self._drawn >= _REFRESH_SECONDS:
            self._drawn = now
            self._bar.update(TASK, texts=_texts(trainer, where, self._bar.tasks[0]))
            self._bar.refresh()
        if now - self._logged >= self._line_seconds:
            self._log(trainer, where)

    def _log(self, trainer: Trainer, where: str = "") -> None:
        """Log a plain line; while there is a bar, to train.log only."""
        if self._bar is None:
            return
        self._logged = time.monotonic()
        line = "  ".join(filter(None, _texts(trainer, where, self._bar.tasks[0]).values()))
        log.log(logging.INFO if self._bar.disable else logging.DEBUG, "%s", line)

    def _announce_long_run(self, trainer: Trainer, task: Task) -> None:
        elapsed = task.elapsed or 0.0
        if elapsed < _MEASURED_SECONDS or (left := _time_left(trainer, task)) is None:
            return
        self._announced = True
        if elapsed + left > self._long_run_seconds:
            speed = rate(Throughput.of(trainer).images_per_second)
            hint = "For a first look in minutes: python train.py experiment=quick"
            log.info(f"This run will take about {duration(elapsed + left)} ({speed}). {hint}")


def _texts(trainer: Trainer, where: str, task: Task) -> dict[str, str]:
    left = _time_left(trainer, task)
    return {
        "where": where or _epoch(trainer),
        "percent": f"{min(100, 100 * task.completed // task.total):3.0f}%" if task.total else "",
        "facts": _facts(trainer) if trainer.state.fn == TrainerFn.FITTING else "",
        "left": "" if left is None else f"{clock(left)} left",
    }


def _time_left(trainer: Trainer, task: Task) -> float | None:
    """Seconds by all batches so far, and of a fit by trainer.max_time; None before two have ended or without an end."""
    fitting, callbacks = trainer.state.fn == TrainerFn.FITTING, trainer.callbacks  # type: ignore[attr-defined] # set by Lightning's callback connector
    ends = [each.time_remaining() for each in callbacks if isinstance(each, Timer) and fitting]
    return min((each for each in (task.time_remaining, *ends) if each is not None), default=None)


class _Field(ProgressColumn):
    """A text of the task. The facts are cut off where the terminal is too narrow."""

    def __init__(self, name: str) -> None:
        super().__init__(Column(no_wrap=name != "facts"))
        self.name = name

    def render(self, task: Task) -> Text:
        return Text(task.fields["texts"].get(self.name, ""), no_wrap=True, overflow="ellipsis")


def _work(trainer: Trainer, batches: int) -> float:
    """The first `batches` training batches with their validations, in evaluation batches."""
    interval, every_epochs = getattr(trainer, "val_check_batch", None), trainer.check_val_every_n_epoch
    validations, per_epoch = 0.0, trainer.num_training_batches
    if interval and every_epochs is None:
        validations = batches // interval
    elif interval:  # else there is no validation, or the clock decides
        validations = batches / per_epoch * (per_epoch // interval) // every_epochs
    return _TRAINING * batches + validations * (sum(trainer.num_val_batches) if trainer.enable_validation else 0)


def training_batches(trainer: Trainer) -> float:
    """Training batches of the whole fit; inf where it has no end."""
    steps, per_epoch = trainer.estimated_stepping_batches, trainer.num_training_batches
    if math.isinf(steps) or not per_epoch:
        return steps
    return steps * per_epoch / math.ceil(per_epoch / trainer.accumulate_grad_batches)


def _test_batches(trainer: Trainer) -> int:
    """Batches of the test after a fit, times the views of an image; 0 where the last validation is the test."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined] # set by Lightning
    batches: int = data.batches("test", trainer.limit_test_batches)
    if data.validate == "test" and sum(trainer.num_val_batches) * trainer.enable_validation >= batches:
        return 0
    return int(data.views.count) * batches


def _epoch(trainer: Trainer) -> str:
    epoch, batches, per_epoch = trainer.current_epoch + 1, training_batches(trainer), trainer.num_training_batches
    if math.isinf(batches) or not per_epoch:
        return f"epoch {epoch}"
    epochs = math.ceil(batches / per_epoch)
    return f"epoch {min(epoch, epochs)}/{epochs}"


def _facts(trainer: Trainer) -> str:
    """The newest logged values, which Lightning has fetched from the device already."""
    history = History.of(trainer)
    held_out = "val/acc" if history.latest("val/acc") is not None else "test/acc"  # experiment=d2l looks at the test
    tags = {"loss": "train/loss", "acc": "train/acc", held_out: held_out}
    facts = [f"{name} {value:.3f}" for name, tag in tags.items() if (value := history.latest(tag)) is not None]
    speed = history.latest("images_per_second") or Throughput.of(trainer).images_per_second
    return "  ".join([*facts, *([rate(speed)] if speed else [])])


def clock(seconds: float) -> str:
    """Seconds as 0:12:03."""
    return str(timedelta(seconds=round(seconds)))


def duration(seconds: float) -> str:
    """Seconds as 8 h 20 min."""
    hours, minutes = divmod(max(1, round(seconds / 60)), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def rate(images_per_second: float) -> str:
    """1,234 images/s; a slow one keeps a decimal."""
    return f"{images_per_second:,.{0 if images_per_second >= 10 else 1}f} images/s"


def counter(what: str, total: int) -> Bar:
    """A bar that counts to `total` on stderr, where that is a terminal. Leaves nothing when it ends."""
    bar = Bar(
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # it would go to stderr
        disable=not sys.stderr.isatty(),
    )
    bar.add_task(what, total=total)
    return bar
