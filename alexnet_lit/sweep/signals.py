"""Signals of a sweep, and the state of a process that runs several jobs.

A terminal sends Ctrl-C, and SIGHUP when it closes, to all of its processes. joblib would then kill its workers as soon
as one of them ends, and submitit a second later. So the process that started the sweep only writes a file, .stop, into
its folder and waits: running jobs save and end, waiting ones aren't started. The file also tells the jobs of a `kill`
of that process, whose signal does not reach them.
"""

import gc
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from types import FrameType
from unittest import mock

from alexnet_lit.terminal import STOP_SIGNALS, USR_SIGNALS, handling, hangup, ignore, print_from_handler

STOP = ".stop"  # in a sweep's folder


def stop_requested(sweep: Path) -> bool:
    """Whether no further job is to start."""
    return (sweep / STOP).exists()


@contextmanager
def stopping_jobs_first(sweep: Path) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP end the jobs, and this process once they have ended; a second Ctrl-C ends all at
    once.

    Raises: KeyboardInterrupt in the end if one of them has come.
    """

    def request_stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else ignore)
        (sweep / STOP).touch()
        once_more = "; once more to stop at once" if number == signal.SIGINT else ""
        text = f"{signal.Signals(number).name}: the jobs that run save and end, no other starts{once_more}"
        print_from_handler(partial(print, flush=True), text)

    try:
        with handling((signal.SIGINT, signal.SIGTERM, *hangup()), request_stop):
            yield
        if stop_requested(sweep):
            raise KeyboardInterrupt
    finally:
        (sweep / STOP).unlink(missing_ok=True)


@contextmanager
def worker_signals(sweep: Path) -> Iterator[None]:
    """In a launcher's worker process: in a job react to Ctrl-C, SIGHUP and the sweep's .stop; between jobs ignore them.

    The job prints nothing, as several share one terminal; train.log has all of it.
    """
    numbers, over = (signal.SIGINT, *hangup()), threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            if USR_SIGNALS and stop_requested(sweep) and signal.getsignal(USR_SIGNALS[0]) is not ignore:
                os.kill(os.getpid(), USR_SIGNALS[0])  # beside Ctrl-C it changes nothing
                return

    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    watcher = threading.Thread(target=watch, daemon=True)
    with handling(USR_SIGNALS[:1], ignore), open(os.devnull, "w", encoding="utf-8") as nowhere:  # a fit handles it
        watcher.start()
        try:
            with redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield
        finally:
            over.set()
            watcher.join()
            for number in numbers:
                signal.signal(number, ignore)


@contextmanager
def process_restored() -> Iterator[None]:
    """Restore environment variables, signal handlers and cuDNN's choice of kernels after a job, and free its memory."""
    import torch  # it takes seconds: not before there is a job to run

    handlers = {number: signal.getsignal(number) for number in (*STOP_SIGNALS, *hangup())}
    benchmark = torch.backends.cudnn.benchmark
    try:
        with mock.patch.dict(os.environ):  # restores it at the end
            yield
    finally:
        for number, handler in handlers.items():  # a run leaves Lightning's, which hold its trainer
            signal.signal(number, handler)
        torch.backends.cudnn.benchmark = benchmark
        gc.collect()  # module, trainer and optimizer hold each other
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # ranks of the next job are other processes, on the same device
