"""Signals of a sweep, and the state of a process that runs several jobs.

A terminal sends Ctrl-C to all of its processes, and SIGHUP when it closes. joblib's would be killed as soon as the
first of them ends, and submitit's a second later; so the process that started the sweep only leaves a file in its
folder and waits: jobs that run save and end, those that wait aren't started.
"""

import gc
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from unittest import mock

from hydra.core.hydra_config import HydraConfig

from alexnet_lit.terminal import hangup, ignore, say_from_handler

_STOP = ".stop"
_RESTORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def stop_requested(sweep: Path) -> bool:
    """Whether no further job is to start."""
    return (sweep / _STOP).exists()


def install_sigint_handler(sweep: Path) -> None:
    """Let Ctrl-C and SIGHUP end the jobs instead of this process; a second Ctrl-C ends all at once."""

    def request_stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else ignore)
        (sweep / _STOP).touch()
        once_more = "; once more to stop at once" if number == signal.SIGINT else ""
        text = f"{signal.Signals(number).name}: the jobs that run save and end, no other starts{once_more}"
        say_from_handler(partial(print, flush=True), text)

    restore_sigint_handler(sweep)
    if threading.current_thread() is threading.main_thread():  # Python lets no other thread do it
        for number in (signal.SIGINT, *hangup()):
            signal.signal(number, request_stop)


def restore_sigint_handler(sweep: Path) -> None:
    """Let Ctrl-C and SIGHUP end this process, and forget an earlier request to stop."""
    with suppress(OSError):
        (sweep / _STOP).unlink(missing_ok=True)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in hangup():
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def ignore_sigint() -> Iterator[None]:
    """Start processes that ignore Ctrl-C until they run a job."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def worker_signals() -> Iterator[None]:
    """In a launcher's worker process, listen to Ctrl-C and SIGHUP during a job; between jobs it would die of them.

    Beside joblib's others on one screen a job prints nothing: train.log has all of it.
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


@contextmanager
def process_restored() -> Iterator[None]:
    """Restore environment variables, signal handlers and cuDNN's choice of kernels after a job, and free its memory.

    The next job in this process begins as the first one did.
    """
    import torch  # it takes seconds: not before there is a job to run

    handlers = {number: signal.getsignal(number) for number in _RESTORED}
    benchmark = torch.backends.cudnn.benchmark
    try:
        with mock.patch.dict(os.environ):  # which it puts back
            yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                if handler is not None:  # None is a handler that isn't Python's
                    signal.signal(number, handler)
        torch.backends.cudnn.benchmark = benchmark
        gc.collect()  # module, trainer and optimizer hold each other
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # ranks of the next job are other processes, on the same device
