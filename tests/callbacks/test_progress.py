"""The progress line on a terminal and off one, the time left, and the counter of the commands."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning import Callback

import alexnet_lit.callbacks.metrics
import alexnet_lit.callbacks.progress
from alexnet_lit.callbacks.loggers import History
from alexnet_lit.callbacks.metrics import Throughput
from alexnet_lit.callbacks.progress import Progress, duration, rate
from alexnet_lit.callbacks.progress import clock as as_clock
from alexnet_lit.terminal import close_log, console, log, open_log
from tests.callbacks.tiny import LIGHTNING_CHATTER, Clock, Data, Module, SaveAt, Terminal, make_trainer

pytestmark = [pytest.mark.filterwarnings(chatter) for chatter in LIGHTNING_CHATTER]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(alexnet_lit.callbacks.progress, "time", clock)
    monkeypatch.setattr(alexnet_lit.callbacks.metrics, "time", clock)
    return clock


@pytest.fixture(autouse=True)
def log_to(tmp_path: Path) -> Iterator[Path]:
    open_log(tmp_path / "train.log", speak=True)
    yield tmp_path / "train.log"
    close_log()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(console, "_width", 120)  # rich asks for COLUMNS once, when the console is made
    monkeypatch.setattr(console, "_file", terminal)  # pytest puts back sys.stdout after a fixture
    monkeypatch.setattr(console, "is_interactive", True)  # rich asks once, when the console is made
    return terminal


def make_progress(line_seconds: float = 30, long_run_minutes: float = 30) -> list[Callback]:
    return [Throughput(), Progress(line_seconds=line_seconds, long_run_minutes=long_run_minutes)]


def test_on_a_terminal_one_bar_goes_through_all_epochs(clock: Clock, terminal: Terminal) -> None:
    trainer = make_trainer(max_epochs=2, logger=[History()], callbacks=make_progress())
    trainer.fit(Module(clock.costs(train=3, val=1)), Data(train=4, val=3, test=0))
    # 2 x (4 + 3 batches at a third) = 10: a training batch is 10%, a validation batch 3.3%
    frames = [frame for frame in terminal.frames() if "━" in frame]
    shares = [int(frame.split("%")[0].split()[-1]) for frame in frames]
    assert shares == [10, 20, 30, 40, 43, 46, 50, 60, 70, 80, 90, 93, 96, 100]
    assert frames[1].startswith("epoch 1/2 ━")
    assert frames[1].endswith("2.7 images/s 0:00:24 left")
    assert frames[4].startswith("validating 1/3 ━")
    assert all(text in frames[-1] for text in ("validating 3/3", "loss ", "acc 0.500", "val/acc 0.750"))

    console.width = 60
    terminal.truncate(0)
    trainer = make_trainer(logger=[History()], callbacks=make_progress())
    trainer.fit(Module(clock.costs(train=3, val=1)), Data(train=4, val=3, test=0))
    frames = [frame for frame in terminal.frames() if "━" in frame]
    assert "100% loss" in frames[-1]
    assert frames[-1].endswith("… 0:00:00 left")
    assert max(map(len, frames)) <= 60


def test_messages_appear_above_the_bar(clock: Clock, terminal: Terminal, log_to: Path) -> None:
    def happens(stage: str) -> None:
        clock.now += 20
        if stage == "val":
            log.info("saved")
            print("from a library")

    make_trainer(logger=[History()], callbacks=make_progress()).fit(Module(happens), Data(train=4, val=1))
    frames = terminal.frames()
    assert "saved" in frames
    assert "from a library" in frames
    logged = [line[21:] for line in log_to.read_text().splitlines()]
    assert [line.split("  ")[0] for line in logged] == ["epoch 1/1", "epoch 1/1", "saved", "epoch 1/1", "epoch 1/1"]
    assert "val/acc 0.750" in logged[3]


def test_an_error_gives_the_terminal_back(clock: Clock, terminal: Terminal) -> None:
    stdout = sys.stdout

    def fail(stage: str) -> None:
        clock.now += 1
        if stage == "val":
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        make_trainer(callbacks=make_progress()).fit(Module(fail), Data(train=4))
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h") == 1
    assert terminal.getvalue().endswith("after 0:00:05\n")
    assert sys.stdout is stdout


def test_off_a_terminal_plain_lines_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    costs = iter([500, *[3] * 7])  # the first batch does not count for the time left

    def happens(stage: str) -> None:
        clock.now += next(costs) if stage == "train" else 0.5

    trainer = make_trainer(max_epochs=2, logger=[History()], callbacks=make_progress(line_seconds=12))
    trainer.fit(Module(happens), Data(train=4, val=3, test=0))
    lines = capsys.readouterr().out.splitlines()
    stages = ("1/2   10%", "1/2   50%", "2/2   90%", "2/2  100%", "2/2  loss")
    assert [line[:16] for line in lines] == [f"epoch {stage} " for stage in stages]
    assert "left" not in lines[0]
    assert "acc 0.500  val/acc 0.750" in lines[1]
    assert lines[1].endswith("images/s  0:00:14 left")
    assert lines[-1].endswith("after 0:08:44")


@pytest.mark.parametrize(
    ("seconds", "batches", "test", "line"),
    [
        (60, 30, {"test": 0}, ""),
        (900, 33, {"val": 30, "test": 30, "validate": "test"}, "about 10 h 45 min (0.0 images/s)"),  # it is the test
        (100, 10, {"test": 15, "views": 2}, "about 33 min (0.1 images/s)"),  # the test after it counts
    ],
)
def test_a_long_run_is_announced_once(
    seconds: float, batches: int, test: dict[str, Any], line: str, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer(callbacks=make_progress(line_seconds=1e6))
    trainer.fit(Module(clock.costs(train=seconds)), Data(train=batches, **{"val": 0, **test}))
    said = [text for text in capsys.readouterr().out.splitlines() if "will take" in text]
    hint = "For a first look in minutes: python train.py experiment=quick"
    assert said == ([f"This run will take {line}. {hint}"] if line else [])


def test_a_test_has_a_bar_of_its_own(clock: Clock, terminal: Terminal) -> None:
    make_trainer(callbacks=make_progress()).test(Module(clock.costs(test=2)), Data(test=5), verbose=False)
    frames = [frame for frame in terminal.frames() if frame]
    assert [re.split("  | ━", frame)[0] for frame in frames] == ["testing", *(f"testing {n}/5" for n in range(1, 6))]
    assert " ".join(frames[3].split()).endswith("60% 0:00:04 left")


def test_a_resumed_run_begins_where_it_was(clock: Clock, tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_epochs": 2, "limit_train_batches": 5}
    data = Data(train=5, val=0, test=0)
    make_trainer(callbacks=[SaveAt(tmp_path / "last.ckpt", 6)], **options).fit(Module(), data)
    trainer = make_trainer(callbacks=make_progress(line_seconds=1), logger=[History()], **options)
    trainer.fit(Module(clock.costs(train=3)), data, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    lines = [line[21:] for line in (tmp_path / "train.log").read_text().splitlines()]
    assert "  70%" in lines[0]
    assert lines[0].startswith("epoch 2/2")
    assert "100%" in lines[-2]


@pytest.mark.parametrize(
    "options",
    [{"num_sanity_val_steps": 2, "limit_train_batches": 0}, {"max_epochs": -1, "max_time": {"seconds": 0.2}}],
    ids=str,
)
def test_every_way_to_run_works(options: dict[str, Any], terminal: Terminal) -> None:
    trainer = make_trainer(logger=[History()], callbacks=make_progress(line_seconds=0.01), **options)
    trainer.fit(Module(), Data())
    trainer.test(Module(), Data(), verbose=False)
    assert ("left" in "".join(each for each in terminal.frames() if each[:5] == "epoch")) is ("max_time" in options)
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h")


def test_other_ranks_are_silent(clock: Clock, terminal: Terminal, log_to: Path) -> None:
    callbacks = make_progress(line_seconds=1, long_run_minutes=0.01)
    callbacks[1].disable()  # type: ignore[attr-defined] # Lightning does, on every rank but the first
    make_trainer(callbacks=callbacks).fit(Module(clock.costs(train=5, val=5)), Data())
    assert terminal.getvalue() == log_to.read_text() == ""


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 2, "limit_train_batches": 0.5, "limit_val_batches": 1},
        {"max_epochs": -1, "max_steps": 25, "val_check_interval": 4},
        {"max_epochs": 3, "check_val_every_n_epoch": None, "val_check_interval": 7},
        {"max_epochs": -1, "max_steps": 7, "accumulate_grad_batches": 4},
        {"max_epochs": 4, "check_val_every_n_epoch": 2, "num_sanity_val_steps": 1},  # so that validation data is there
    ],
    ids=str,
)
def test_the_bar_is_full_at_the_end(options: dict[str, Any], clock: Clock, terminal: Terminal) -> None:
    trainer = make_trainer(logger=[History()], callbacks=make_progress(), **options)
    trainer.fit(Module(clock.costs(train=3, val=1)), Data(train=10, test=0))
    shares = [int(frame.split("%")[0].split()[-1]) for frame in terminal.frames() if "━" in frame]
    assert shares[-4] < shares[-1] == 100  # after which it validates three batches at most


def test_numbers_are_easy_to_read() -> None:
    assert as_clock(723.4) == "0:12:03"
    minutes = {1 / 3: "1 min", 59.6: "1 h 0 min", 500: "8 h 20 min"}
    assert {each: duration(60 * each) for each in minutes} == minutes
    assert (rate(1234.4), rate(4.25)) == ("1,234 images/s", "4.2 images/s")
