"""What a program prints to goes away, knows few characters, or is on a full disk: no run is lost by it."""

import io
import json
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.table import Table

from alexnet_lit import terminal
from alexnet_lit.callbacks.summary import result_text
from alexnet_lit.errors import UserError
from alexnet_lit.lit import Classifier
from alexnet_lit.terminal import close_log, hangup, log, log_table, open_log
from tests.callbacks.tiny import Terminal
from tests.conftest import REPOSITORY, Train, python
from tests.sweep.tiny import QUIET, jobs_of, sweep_of
from tests.trouble import trouble

Into = Callable[[Path, str], None]
LINE = "stdout: can't be written to any more"


@pytest.fixture(params=["pipe", "terminal"])
def lose_reader(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[[], None]]:
    """Let stdout be what nobody reads any more: EPIPE, of a terminal EIO."""
    reader, writer = os.pipe() if request.param == "pipe" else os.openpty()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream:
        yield lambda: monkeypatch.setattr(sys, "stdout", stream)


@pytest.fixture
def into(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Into]:
    """Let stdout be a file of an encoding, as PYTHONIOENCODING does."""
    with ExitStack() as files:

        def call(file: Path, encoding: str) -> None:
            monkeypatch.setattr(sys, "stdout", files.enter_context(file.open("w", encoding=encoding)))

        yield call


@pytest.mark.posix
def test_a_signal_in_the_middle_of_a_write_is_answered_after_it() -> None:
    """Within it Python refuses: "reentrant call inside BufferedWriter"."""
    written: list[bytes] = []

    class Terminal(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            if not written:
                os.kill(os.getpid(), signal.SIGUSR1)
            written.append(bytes(data))
            return len(data)

    stream = io.TextIOWrapper(io.BufferedWriter(Terminal()))
    handler = logging.StreamHandler(stream)
    logger = logging.Logger("signals")
    logger.addHandler(handler)
    before = signal.signal(signal.SIGUSR1, lambda *_: terminal.print_from_handler(logger.info, "SIGUSR1"))
    try:
        logger.info("a line")
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join(10)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert b"".join(written) == b"a line\nSIGUSR1\n"


@pytest.mark.posix
@pytest.mark.parametrize(("it", "lose_reader"), [("INT", "pipe"), ("HUP", "terminal")], indirect=["lose_reader"])
def test_a_signal_saves(it: str, train: Train, tmp_path: Path, lose_reader: Callable[[], None]) -> None:
    """Ctrl-C ends `| tee log` too, and a terminal that closes is gone when SIGHUP arrives, twice where a shell is."""
    lose_reader()
    outcome = train(*QUIET, trouble({"INT": "interrupt", "HUP": "hangup"}[it], tmp_path / "ahead"))
    assert (outcome.status, outcome.result["status"]) == (130, "interrupted")
    assert outcome.result["reason"] == f"SIG{it}"
    last = torch.load(outcome.folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 2, "the step was finished"
    assert "resume with: " in (outcome.folder / "train.log").read_text(encoding="utf-8")


@pytest.mark.posix
@pytest.mark.parametrize("name", ["TERM", "USR1", "HUP"])
def test_a_signal_ends_the_test(name: str, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "test_step", lambda *_: signal.raise_signal(signal.Signals[f"SIG{name}"]))
    monkeypatch.setattr("alexnet_lit.callbacks.figures.draw_curves", lambda *_: signal.raise_signal(signal.SIGTERM))
    outcome = train(*QUIET)
    assert (outcome.status, outcome.result["status"], outcome.result["reason"]) == (130, "interrupted", f"SIG{name}")


@pytest.mark.posix
def test_under_nohup_a_run_outlives_the_terminal(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = tmp_path / "ahead"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        outcome = train(*QUIET, trouble("hangup", ahead))
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        monkeypatch.delattr(signal, "SIGHUP")  # as on Windows
        assert hangup() == ()
        monkeypatch.undo()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (outcome.status, outcome.result["status"], ahead.exists()) == (0, "completed", False)


@pytest.mark.posix
@pytest.mark.parametrize(("lose_reader", "sweep"), [("pipe", ""), ("terminal", "-m seed=0")], indirect=["lose_reader"])
def test_runs_go_on_without_their_reader(sweep: str, train: Train, lose_reader: Callable[[], None]) -> None:
    lose_reader()
    outcome = train(*QUIET, *sweep.split()).ok()
    (file,) = outcome.logs.rglob("train.log")
    text = file.read_text(encoding="utf-8")
    assert sweep or text.count(LINE) == 1  # of a sweep before its first job begins
    assert "test accuracy" in text.rpartition(LINE)[2]


@pytest.fixture
def boot(tmp_path: Path) -> str:
    """A picture under a name that few encodings have, and UTF-8 only in part."""
    name = os.fsdecode("靴─é".encode() + b"\xff.png")
    Image.new("L", (28, 28)).save(tmp_path / name)
    return name


@pytest.mark.linux  # macOS keeps no names that are no text
def test_a_command_ends_with_its_reader(lenet: Path, boot: str, verb: Train, lose_reader: Callable[[], None]) -> None:
    lose_reader()
    outcome = verb("predict", str(lenet), boot, "--csv")
    assert (outcome.status, outcome.err) == (141, "")  # 128 + SIGPIPE, as a shell has it


@pytest.mark.slow
@pytest.mark.posix
def test_help_ends_quietly_as_a_process_too() -> None:
    """The interpreter writes what is left as it ends, and would say that it can't."""
    reader, writer = os.pipe()
    os.close(reader)
    done = python("-m", "alexnet_lit", "--help", cwd=REPOSITORY, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.linux
def test_a_full_disk_behind_stdout_ends_a_verb_in_one_line(verb: Train, into: Into, lenet: Path, boot: str) -> None:
    into(Path("/dev/full"), "utf-8")
    outcome = verb("predict", str(lenet), boot, "--csv")
    assert (outcome.status, outcome.err) == (1, "error: stdout: can't be written to (No space left on device)\n")


def test_a_run_is_printed_in_any_encoding(train: Train, into: Into, tmp_path: Path) -> None:
    into(tmp_path / "out.txt", "ascii")
    outcome = train(*QUIET, "-m", "seed=0").ok()
    text = (tmp_path / "out.txt").read_text("ascii")
    assert text.count("test accuracy") == 1
    assert "─" in (jobs_of(sweep_of(outcome))[0] / "train.log").read_text(encoding="utf-8")


@pytest.mark.linux
def test_commands_answer_in_any_encoding(lenet: Path, boot: str, verb: Train, into: Into, tmp_path: Path) -> None:
    texts = []
    for option in ([], ["--csv"], ["--json"]):
        into(tmp_path / "out.txt", "cp1252")
        verb("predict", str(lenet), boot, *option).ok()
        texts.append((tmp_path / "out.txt").read_text("cp1252"))
    table, csv, answer = texts
    assert "\\u9774-é\\udcff.png" in table
    assert "\\u9774-é\\udcff.png," in csv
    assert json.loads(answer)[0]["file"] == boot


def test_who_listens_in_python_keeps_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's stdout is its own, and a caller's StringIO gets all."""
    for before in (sys.stdout, io.StringIO(), None):
        monkeypatch.setattr(sys, "stdout", before)
        with terminal.tolerant_output(exits=True), terminal.tolerant_output(exits=False):
            print("a line")
        assert sys.stdout is before


@pytest.mark.linux
def test_a_full_disk_is_said_in_a_line_and_the_last_checkpoint_stays(train: Train) -> None:
    """train.log takes no more either, and what is on its way to the disk lands nowhere."""
    outcome = train(*QUIET)
    completed = outcome.result
    checkpoints, log = outcome.folder / "checkpoints", outcome.folder / "train.log"
    before = (checkpoints / "last.ckpt").read_bytes()
    log.unlink()
    log.symlink_to("/dev/full")
    (checkpoints / "last.ckpt.part").symlink_to("/dev/full")

    full = train(f"ckpt={outcome.folder}", "trainer.max_epochs=2")

    last = checkpoints / "last.ckpt"
    way_out = "make room there, or set paths.logs to another folder"
    assert (full.status, full.err) == (2, f"error: {last}: cannot be written (No space left on device): {way_out}\n")
    assert full.result == completed, "a run that completed stays so until it is longer"
    assert full.out.count(f"warning: {log} can't be written (No space left on device): the run goes on without\n") == 1
    assert last.read_bytes() == before
    assert sorted(path.name for path in checkpoints.iterdir()) == ["best.ckpt", "last.ckpt"]


@pytest.fixture(autouse=True)
def silence_afterwards() -> Iterator[None]:
    yield
    close_log()


def test_each_run_has_a_log_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("key", "value")
    table.add_row("checkpoint", path := "/runs/" + "x" * 150)
    for run, speak in (("first", True), ("second", True), ("first", False)):
        open_log(tmp_path / run, speak=speak)
        log.info("device: [cpu] :smile: 100%")
        log.warning("few images")
        log.debug("for the file alone")
        log_table(table)
    said, drawn = ["device: [cpu] :smile: 100%", "warning: few images"], 2
    printed = capsys.readouterr().out.splitlines()
    assert (printed[:drawn], printed[len(printed) // 2 :]) == (said, printed[: len(printed) // 2]), "of two runs"
    assert any(path in line for line in printed), "a table is in one piece"
    lines = (tmp_path / "second").read_text().splitlines()
    assert [line[21:] for line in lines[:3]] == [*said, "for the file alone"]
    assert all(line[:3] == "202" and line[13] == ":" for line in lines[:3])
    assert lines[4:] == printed[len(printed) // 2 + drawn :]
    assert (tmp_path / "first").read_text().count("few images") == 2, "of a resumed run too"


def test_warnings_of_libraries_reach_screen_and_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = warnings.showwarning
    open_log(tmp_path / "train.log", speak=True)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("the library is worried", stacklevel=1)
    printed = capsys.readouterr()
    assert ("UserWarning: the library is worried" in printed.out, printed.err) == (True, "")
    assert "the library is worried" in (tmp_path / "train.log").read_text().partition("warning: ")[2]
    close_log()
    assert warnings.showwarning is before, "without a log they stay where Python puts them"
    with pytest.raises(UserError, match=r"missing.train\.log can't be written \(No such file.*paths\.logs="):
        open_log(tmp_path / "missing" / "train.log", speak=True)


def test_colours_make_no_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As in a CI, and in a process that a notebook has started."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not terminal.on_terminal()
    open_log(None, speak=True)
    log_table(Table("x" * 200))
    assert "x" * 200 in capsys.readouterr().out, "no line is folded"
    monkeypatch.setattr(sys, "stdout", screen := Terminal())
    assert terminal.on_terminal()
    log_table(result_text({"run_dir": "y" * 200}))
    assert "y" * 200 in screen.getvalue(), "a path can be copied from a narrow one"
    monkeypatch.setenv("TERM", "dumb")
    assert not terminal.on_terminal()


def test_slurm_on_the_machine_changes_nothing(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}{os.pathsep}{os.environ['PATH']}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # without pytest's own exception for it
        outcome = train(*QUIET).ok()
    assert "srun" not in outcome.out + (outcome.folder / "train.log").read_text()
