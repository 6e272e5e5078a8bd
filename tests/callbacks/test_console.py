import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.table import Table

from alexnet_lit.errors import UserError
from alexnet_lit.terminal import close_log, log, on_terminal, open_log, show
from tests.callbacks.tiny import Terminal


@pytest.fixture(autouse=True)
def silence_afterwards() -> Iterator[None]:
    yield
    close_log()


def test_messages_go_to_the_screen_as_they_are_and_to_the_file_with_the_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_log(tmp_path / "train.log", speak=True)
    log.info("device: [cpu] :smile: 100%")
    log.warning("few images")
    log.debug("for the file alone")
    assert capsys.readouterr().out == "device: [cpu] :smile: 100%\nwarning: few images\n"
    lines = (tmp_path / "train.log").read_text().splitlines()
    assert [line[21:] for line in lines] == ["device: [cpu] :smile: 100%", "warning: few images", "for the file alone"]
    assert all(line[:3] == "202" and line[13] == ":" for line in lines)


def test_off_a_terminal_long_lines_stay_whole_and_plain(capsys: pytest.CaptureFixture[str]) -> None:
    open_log(None, speak=True)
    log.warning("word " * 60)
    assert capsys.readouterr().out == "warning: " + ("word " * 60).rstrip() + "\n"


def test_who_does_not_speak_still_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_log(tmp_path / "train.log", speak=False)
    log.info("quiet")
    assert capsys.readouterr() == ("", "")
    assert "quiet" in (tmp_path / "train.log").read_text()


def test_the_next_run_of_a_process_has_a_log_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in ("first", "second"):
        open_log(tmp_path / run, speak=True)
        log.info(run)
    assert capsys.readouterr().out == "first\nsecond\n"
    assert "second" not in (tmp_path / "first").read_text()
    open_log(tmp_path / "first", speak=False)
    log.info("resumed")
    assert len((tmp_path / "first").read_text().splitlines()) == 2


def test_closed_or_never_opened_it_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    log.warning("nobody listens")
    assert capsys.readouterr() == ("", "")


def test_a_table_is_printed_and_logged_in_one_piece(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = "/runs/" + "x" * 150
    table = Table("key", "value")
    table.add_row("checkpoint", path)
    open_log(tmp_path / "train.log", speak=True)
    show(table)
    printed, written = capsys.readouterr().out, (tmp_path / "train.log").read_text()
    assert path in printed
    assert path in written
    assert written.splitlines()[1:] == printed.splitlines()


def test_warnings_of_libraries_reach_screen_and_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_log(tmp_path / "train.log", speak=True)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("the library is worried", stacklevel=1)
    printed = capsys.readouterr()
    assert "UserWarning: the library is worried" in printed.out
    assert printed.err == ""
    assert "warning: " in (tmp_path / "train.log").read_text()
    assert "the library is worried" in (tmp_path / "train.log").read_text()


def test_without_a_log_warnings_stay_where_python_puts_them() -> None:
    before = warnings.showwarning
    open_log(None, speak=False)
    assert warnings.showwarning is before
    open_log(None, speak=True)
    assert warnings.showwarning is not before
    close_log()
    assert warnings.showwarning is before


def test_a_folder_that_takes_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing/train\.log can't be written \(No such file.*paths\.logs="):
        open_log(tmp_path / "missing" / "train.log", speak=True)


def test_colours_in_a_ci_do_not_make_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert not on_terminal()
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert on_terminal()
    monkeypatch.setenv("TERM", "dumb")
    assert not on_terminal()
