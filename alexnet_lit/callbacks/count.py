"""How far a long answer is, on stderr: stdout is for the answer."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from alexnet_lit.callbacks.line import duration

_LINE_SECONDS = 30.0  # off a terminal, a line so often instead of a bar


class Count:
    """Counts to `total` things: a bar on a terminal, elsewhere a line now and then. Nothing for what is soon done.

    silent: count for yourself, as the answer is appearing on the same terminal.
    """

    def __init__(self, what: str, total: int, *, silent: bool) -> None:
        self.what = what
        self.total = total
        self.silent = silent
        self.done = 0
        self._began = self._said_at = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(
            *columns,
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,  # it would go to stderr
            redirect_stderr=False,
            disable=silent or not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def add(self, number: int) -> None:
        """So many more are done."""
        self.done += number
        self._bar.advance(self._task, number)
        now, left = time.monotonic(), self.total - self.done
        if self._bar.disable and not self.silent and left and now - self._said_at >= _LINE_SECONDS:
            self._said_at = now
            seconds = (now - self._began) / self.done * left
            self.say(f"{self.what}: {self.done:,} of {self.total:,}, about {duration(seconds)} left")

    def say(self, text: str) -> None:
        """Print a line, above the bar where there is one."""
        if self._bar.disable:
            print(text, file=sys.stderr, flush=True)
        else:
            self._bar.console.print(Text(text), soft_wrap=True)
