import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lightning import Callback, LightningModule, Trainer
from pydantic import ValidationError

import alexnet_lit.callbacks.progress
from alexnet_lit.callbacks.history import History
from alexnet_lit.callbacks.progress import Progress
from alexnet_lit.callbacks.speed import Speed
from alexnet_lit.terminal import close_log, console, log, open_log
from tests.callbacks.tiny import LIGHTNING_CHATTER, Clock, Data, Module, Terminal, make_trainer

pytestmark = [pytest.mark.filterwarnings(chatter) for chatter in LIGHTNING_CHATTER]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(alexnet_lit.callbacks.progress, "time", clock)
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


def make_progress(line_seconds: float = 30, long_run_minutes: float = 30) -> Progress:
    return Progress(line_seconds=line_seconds, long_run_minutes=long_run_minutes)


def test_on_a_terminal_one_bar_goes_through_all_epochs(clock: Clock, terminal: Terminal) -> None:
    trainer = make_trainer(max_epochs=2, logger=[History()], callbacks=[make_progress()])
    trainer.fit(Module(clock.costs(train=3, val=1)), Data(train=4, val=3, test=0))
    # 2 x (4 x 8 images + 3 x 8 images at a third) = 80: a training batch is 10%, a validation batch 3.3%
    shares = [int(frame.split("%")[0].split()[-1]) for frame in terminal.frames() if "%" in frame]
    assert shares == [10, 20, 30, 40, 43, 46, 50, 60, 70, 80, 90, 93, 96, 100]
    frames = [frame for frame in terminal.frames() if "━" in frame]
    assert frames[1].startswith("epoch 1/2  ━")
    assert frames[1].endswith("2.7 images/s  0:00:24 left")
    assert frames[4].startswith("validating 1/3  ━")
    assert all(text in frames[-1] for text in ("validating 3/3", "loss ", "acc 0.500", "val/acc 0.750"))


def test_it_leaves_one_plain_line_and_the_cursor(clock: Clock, terminal: Terminal) -> None:
    trainer = make_trainer(logger=[History()], callbacks=[make_progress()])
    trainer.fit(Module(clock.costs(train=3)), Data(train=4))
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h") == 1
    *_, line, end = terminal.getvalue().split("\n")
    assert "\x1b[2Kepoch 1/1  loss" in line
    assert line.endswith("after 0:00:12")
    assert end == ""


def test_drawing_is_rare(clock: Clock, terminal: Terminal) -> None:
    make_trainer(callbacks=[make_progress()]).fit(Module(clock.costs(train=0.025)), Data(train=40, val=0))
    assert 3 <= sum("━" in frame for frame in terminal.frames()) <= 5  # a second at 4 Hz


def test_messages_appear_above_the_bar_and_its_lines_are_in_the_log(
    clock: Clock, terminal: Terminal, log_to: Path
) -> None:
    def happens(stage: str) -> None:
        clock.now += 20
        if stage == "val":
            log.info("saved")
            print("from a library")

    make_trainer(logger=[History()], callbacks=[make_progress()]).fit(Module(happens), Data(train=4, val=1))
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
        make_trainer(callbacks=[make_progress()]).fit(Module(fail), Data(train=4))
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h") == 1
    assert terminal.getvalue().endswith("after 0:00:05\n")
    assert sys.stdout is stdout


def test_off_a_terminal_plain_lines_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = make_trainer(max_epochs=2, logger=[History()], callbacks=[make_progress(line_seconds=10)])
    trainer.fit(Module(clock.costs(train=3, val=1)), Data(train=4, val=3, test=0))
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert "\r" not in output
    assert [line[:16] for line in output.splitlines()] == [
        "epoch 1/2   40% ",
        "epoch 1/2   50% ",
        "epoch 2/2   90% ",
        "epoch 2/2  100% ",
        "epoch 2/2  loss ",
    ]
    assert output.splitlines()[1].endswith("acc 0.500  val/acc 0.750  2.7 images/s  0:00:15 left")


def test_speed_is_the_one_that_was_logged(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    history = History()
    history.log_metrics({"images_per_second": 1234.5}, 1)
    make_trainer(logger=[history], callbacks=[make_progress()]).fit(Module(clock.costs(train=3)), Data())
    assert "1,234 images/s" in capsys.readouterr().out


FORECAST = "For a first look in minutes: python train.py experiment=quick"


def test_a_long_run_says_so_once(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = make_trainer(max_epochs=2, callbacks=[make_progress(line_seconds=1e6)])
    trainer.fit(Module(clock.costs(train=1000)), Data(train=15, val=0, test=0))
    said = [line for line in capsys.readouterr().out.splitlines() if "will take" in line]
    assert said == [f"This run will take about 8 h 20 min on cpu (0.0 images/s). {FORECAST}"]


@pytest.mark.parametrize(
    ("seconds", "batches", "said"),
    [(60.0, 30, False), (60.0, 31, True), (900.0, 4, False), (900.0, 5, True)],
    ids=["30 min", "more", "too few steps to tell", "enough steps"],
)
def test_only_a_long_run_says_so(
    seconds: float, batches: int, said: bool, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer(callbacks=[make_progress(line_seconds=1e6, long_run_minutes=30)])
    trainer.fit(Module(clock.costs(train=seconds)), Data(train=batches, val=0, test=0))
    assert (FORECAST in capsys.readouterr().out) is said


def test_ten_seconds_are_measured_before_anything_is_said(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for batches, said in ((10, False), (14, True)):
        trainer = make_trainer(callbacks=[make_progress(long_run_minutes=0.01)])
        trainer.fit(Module(clock.costs(train=1)), Data(train=batches, val=0, test=0))
        assert (FORECAST in capsys.readouterr().out) is said


def test_the_final_test_belongs_to_a_long_run(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = make_trainer(callbacks=[make_progress(line_seconds=1e6)])
    trainer.fit(Module(clock.costs(train=100)), Data(train=10, val=0, test=30))
    assert "will take about 33 min on cpu" in capsys.readouterr().out


def test_a_test_has_a_bar_of_its_own(clock: Clock, terminal: Terminal) -> None:
    trainer = make_trainer(callbacks=[make_progress()])
    trainer.test(Module(clock.costs(test=2)), Data(test=5), verbose=False)
    frames = [frame for frame in terminal.frames() if frame]
    assert [frame.split("  ")[0] for frame in frames] == ["testing"] + [f"testing {n}/5" for n in range(1, 6)]
    assert frames[3].endswith("60%  0:00:04 left")
    assert terminal.getvalue().count("\x1b[?25h") == 1


def test_validation_alone_too(clock: Clock, terminal: Terminal) -> None:
    trainer = make_trainer(callbacks=[make_progress()])
    trainer.validate(Module(clock.costs(val=2)), Data(val=2), verbose=False)
    assert [frame.split("  ")[0] for frame in terminal.frames() if frame] == [
        "validating",
        "validating 1/2",
        "validating 2/2",
    ]


class Save(Callback):
    def __init__(self, path: Path, step: int) -> None:
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize(("step", "first"), [(6, 70), (5, 60), (4, 50), (1, 20)])
def test_a_resumed_run_begins_where_it_was(step: int, first: int, clock: Clock, tmp_path: Path) -> None:
    def steps(stage: str) -> None:
        clock.now += 3

    options: dict[str, Any] = {"max_epochs": 2, "limit_train_batches": 5}
    data = Data(train=5, val=0, test=0)
    make_trainer(callbacks=[Save(tmp_path / "last.ckpt", step)], **options).fit(Module(), data)
    trainer = make_trainer(callbacks=[make_progress(line_seconds=1)], logger=[History()], **options)
    trainer.fit(Module(steps), data, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    lines = [line[21:] for line in (tmp_path / "train.log").read_text().splitlines()]
    assert f"  {first}%" in lines[0]
    assert lines[0].startswith("epoch 1/2" if step < 5 else "epoch 2/2")
    assert "100%" in lines[-2]


@pytest.mark.parametrize(
    "options",
    [
        {"fast_dev_run": True},
        {"max_epochs": -1, "max_steps": 1},
        {"limit_val_batches": 0},
        {"num_sanity_val_steps": 2},
        {"max_epochs": 0},
        {"limit_train_batches": 0},
        {"max_epochs": -1, "max_time": {"seconds": 0.2}},
        {"accumulate_grad_batches": 3},
        {"val_check_interval": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("screen", ["terminal", "file"])
def test_every_way_to_run_works(options: dict[str, Any], screen: str, request: pytest.FixtureRequest) -> None:
    output = request.getfixturevalue("terminal") if screen == "terminal" else None
    trainer = make_trainer(logger=[History()], callbacks=[Speed(), make_progress()], **options)
    trainer.fit(Module(), Data())
    trainer.test(Module(), Data(), verbose=False)
    assert output is None or output.getvalue().count("\x1b[?25l") == output.getvalue().count("\x1b[?25h")


def test_other_ranks_are_silent(clock: Clock, terminal: Terminal, log_to: Path) -> None:
    progress = make_progress(line_seconds=1, long_run_minutes=0.01)
    progress.disable()  # Lightning does, on every rank but the first
    make_trainer(callbacks=[progress]).fit(Module(clock.costs(train=5, val=5)), Data())
    assert terminal.getvalue() == log_to.read_text() == ""


@pytest.mark.parametrize("wrong", [0, -1, "30", True])
def test_settings_are_checked(wrong: Any) -> None:
    with pytest.raises(ValidationError, match="line_seconds"):
        Progress(line_seconds=wrong, long_run_minutes=30)
    with pytest.raises(ValidationError, match="long_run_minutes"):
        Progress(line_seconds=30, long_run_minutes=wrong)
