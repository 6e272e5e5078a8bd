"""Jobs of a sweep in other processes than the person's: what they print, and how Ctrl-C ends them.

A terminal sends Ctrl-C to all of its processes, and SIGHUP when it closes. joblib's would be killed as soon as the
first of them tells of it, and submitit's a second later; so the person's process only leaves a mark in the sweep's
folder and waits: what runs saves and ends, what waits isn't started.
"""

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig

from alexnet_lit.terminal import hangup, ignore, say_from_handler

_MARK = ".stop"


def on_this_machine(launcher: Any) -> bool:
    """Whether jobs are processes of the person's terminal."""
    return str(launcher["_target_"]).endswith((".JoblibLauncher", ".LocalLauncher"))


def stopping(sweep: Path) -> bool:
    """Whether no further job is to start."""
    return (sweep / _MARK).exists()


def leave_out(folder: Path) -> None:
    """Remove what Hydra has made for a job that isn't started, unless an earlier start left something there."""
    if {path.name for path in folder.iterdir()} <= {".hydra"}:
        shutil.rmtree(folder)


def heed(sweep: Path) -> None:
    """Let Ctrl-C and SIGHUP end the jobs instead of this process, until `unheed`; a second Ctrl-C ends all at once."""

    def mark(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else ignore)
        (sweep / _MARK).touch()
        once_more = "; once more to stop at once" if number == signal.SIGINT else ""
        name = signal.Signals(number).name
        say_from_handler(
            partial(print, flush=True), f"{name}: the jobs that run save and end, no other starts{once_more}"
        )

    unheed(sweep)
    if threading.current_thread() is threading.main_thread():  # Python lets no other thread do it
        for number in (signal.SIGINT, *hangup()):
            signal.signal(number, mark)


def unheed(sweep: Path) -> None:
    """Let Ctrl-C and SIGHUP be what they are, and forget the last one."""
    with suppress(OSError):
        (sweep / _MARK).unlink(missing_ok=True)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in hangup():
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def deaf() -> Iterator[None]:
    """Start processes that Ctrl-C does not end until they are at work."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def at_work() -> Iterator[None]:
    """What a job does in a process that isn't the person's. Between jobs that process is deaf to Ctrl-C and SIGHUP: it
    would die of them, and joblib would kill the others.

    Beside joblib's others on one screen it says nothing: train.log has all of it.
    """
    numbers = (signal.SIGINT, *hangup())
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            if str(HydraConfig.get().launcher["_target_"]).endswith(".JoblibLauncher"):
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(redirect_stdout(nowhere))
                stack.enter_context(redirect_stderr(nowhere))
            yield
    finally:
        for number in numbers:
            signal.signal(number, ignore)
