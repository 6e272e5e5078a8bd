"""The terminal, pipe or file that a program prints to: it may go away before the program ends, or know few characters.

The doors of the programs alone put `printing` in the place of sys.stdout and sys.stderr: a notebook keeps its own.
"""

import codecs
import errno
import io
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

_READER_IS_GONE = (errno.EPIPE, errno.EIO)  # of a pipe, of a terminal
_SIGPIPE = 128 + 13  # the exit status of what a shell's pipe ends


class Lasting:
    """A stream that outlives its end: after the first error in writing to it, `failed` is told, and text is dropped."""

    def __init__(self, stream: Any, failed: Callable[[OSError], None]) -> None:
        self.stream = stream
        self._failed = failed
        self._over = False

    def write(self, data: Any) -> int:
        """Write, as far as that is possible."""
        if not self._over:
            self._try(self.stream.write, data)
        return len(data)

    def flush(self) -> None:
        """Flush, as far as that is possible."""
        if not self._over:
            self._try(self.stream.flush)

    def close(self) -> None:
        """Close the stream, whether or not it takes what is left to write."""
        self._try(self.stream.close)

    def _try(self, act: Callable[..., object], *arguments: Any) -> None:
        try:
            act(*arguments)
        except OSError as error:
            told, self._over = self._over, True
            if not told:
                self._failed(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def printing(*, ends: bool) -> Iterator[None]:
    """Print whatever becomes of stdout and stderr; of characters that their encoding lacks, the numbers.

    ends: the text is the answer, so that a stdout that is gone ends the program, quietly with status 141 as a shell's
    pipe does. Else it goes on, with train.log alone. Without stderr either goes on.
    """
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    errors: dict[io.TextIOWrapper, str | None] = {}
    for name, stream in before.items():
        stream = stream.stream if isinstance(stream, Lasting) else stream
        if isinstance(stream, io.TextIOWrapper):  # None where it is closed, a StringIO where somebody listens
            errors.setdefault(stream, stream.errors)
            stream.reconfigure(errors="alexnet_lit")
            lasting = Lasting(stream, _failure(name, stream, ends=ends and name == "stdout"))
            setattr(sys, name, cast("TextIO", lasting))
    try:
        yield
    finally:
        try:
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, Lasting):
                    stream.flush()
        finally:
            for stream, handler in errors.items():
                stream.reconfigure(errors=handler)
            sys.stdout, sys.stderr = before["stdout"], before["stderr"]


def _failure(name: str, stream: io.TextIOWrapper, *, ends: bool) -> Callable[[OSError], None]:
    """What to do once `stream` can't be written to."""

    def failed(error: OSError) -> None:
        # What it holds back is written at the latest as the interpreter ends, and children inherit where it goes.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        if not ends:  # DEBUG is for train.log alone
            text = "%s: can't be written to any more (%s): the rest is in this file alone"
            logging.getLogger("alexnet_lit").debug(text, name, error.strerror)
            return
        if error.errno not in _READER_IS_GONE:
            print(f"error: {name}: can't be written to ({error.strerror})", file=sys.stderr)
            sys.exit(1)
        sys.exit(_SIGPIPE)

    return failed


def _by_number(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding lacks: hyphens for the lines of tables, else Python's escapes."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end].replace("─", "-")
    return lacking.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error("alexnet_lit", _by_number)


def json_text(content: Any) -> str:
    """JSON for stdout, with characters as they are if it has all of them, else escaped as JSON does it."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return json.dumps(content, indent=2, ensure_ascii=not codecs.lookup(encoding).name.startswith("utf"))


def hangup() -> tuple[signal.Signals, ...]:
    """SIGHUP, which comes as a terminal closes, perhaps twice. Empty where the program is to outlive that, as under
    nohup, and on Windows, which has none.
    """
    number: signal.Signals | None = getattr(signal, "SIGHUP", None)
    return () if number is None or signal.getsignal(number) == signal.SIG_IGN else (number,)


def say_from_handler(say: Callable[[str], object], text: str) -> None:
    """Print or log in a signal handler, by a thread: the main thread may be in the middle of a write to that stream."""
    threading.Thread(target=say, args=(text,)).start()


def ignore(number: int, frame: object) -> None:
    """Do nothing on a signal. Unlike SIG_IGN it isn't taken for nohup's, nor inherited by started processes."""
