"""Where a run's text goes: to the person's screen, and to train.log in the run folder."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console, RenderableType
from rich.text import Text

from alexnet_lit.errors import UserError
from alexnet_lit.terminal import Lasting

# No file is named, so the console follows sys.stdout wherever it points; off a terminal rich adds no colour.
console = Console(highlight=False, markup=False, emoji=False)

# Hydra puts handlers on the root logger; what is said here is printed once, by the handlers below.
log = logging.getLogger("alexnet_lit")
log.propagate = False
log.setLevel(logging.DEBUG)
log.addHandler(logging.NullHandler())

_WIDTH = 100  # of tables where there is no terminal to ask
_NATURAL = 1000  # wider than any table: paths and commands in a file stay in one piece
_library_warnings = logging.getLogger("py.warnings")  # where logging.captureWarnings sends them
_open_handlers: list[logging.Handler] = []


def on_terminal() -> bool:
    """Whether lines on stdout can be drawn over. FORCE_COLOR in a CI makes colours, not a terminal."""
    return console.is_terminal and not console.is_dumb_terminal and console.file.isatty()


def open_log(path: Path | None, *, speak: bool) -> None:
    """Print what `log` is told from INFO up if `speak`, and append everything (DEBUG too) to the file at `path`.

    Opened again it starts afresh: one process may do many runs. Warnings of Python libraries go the same way as long
    as the log is open; with neither screen nor file they stay where Python puts them.
    """
    close_log()
    if speak:
        _attach(_Screen())
    if path is not None:
        try:
            _attach(_file(path))
        except OSError as error:
            close_log()
            reason = error.strerror or error
            raise UserError(f"{path} can't be written ({reason}): choose another folder with paths.logs=...") from error
    if _open_handlers:
        _library_warnings.propagate = False
        logging.captureWarnings(True)


@contextmanager
def on_stderr() -> Iterator[None]:
    """Print what `log` is told from INFO up on stderr meanwhile: stdout is for an answer."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.INFO)
    handler.setFormatter(_Message(timed=False))
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def close_log() -> None:
    """Close train.log and fall silent. Harmless when nothing is open."""
    if _open_handlers:
        logging.captureWarnings(False)
        _library_warnings.propagate = True
    while _open_handlers:
        handler = _open_handlers.pop()
        log.removeHandler(handler)
        _library_warnings.removeHandler(handler)
        handler.close()


def show(renderable: RenderableType) -> None:
    """Print a table (or anything that rich draws), and write it to train.log as plain text."""
    log.info("%s", plain(renderable), extra={"renderable": renderable})


def plain(renderable: RenderableType) -> str:
    """Turn it into text of 100 columns, or of as many as keep it in one piece."""
    page = Console(file=io.StringIO(), width=_NATURAL, color_system=None, force_terminal=False, legacy_windows=False)
    width = max(_WIDTH, page.measure(renderable).maximum)
    with page.capture() as capture:
        page.print(renderable, width=width)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _attach(handler: logging.Handler) -> None:
    _open_handlers.append(handler)
    log.addHandler(handler)
    _library_warnings.addHandler(handler)


def _file(path: Path) -> logging.Handler:
    handler = logging.FileHandler(path, mode="a", encoding="utf-8", errors="backslashreplace")  # paths can be any bytes
    handler.stream = Lasting(handler.stream, partial(warn_unwritten, path))  # type: ignore[assignment] # as good as one
    handler.setFormatter(_Message(timed=True))
    return handler


def warn_unwritten(path: Path, error: OSError) -> None:
    """Say of a file beside the run, once, that the disk does not take it: no reason to stop."""
    log.warning("%s can't be written (%s): the run goes on without", path, error.strerror)


class _Message(logging.Formatter):
    """The text alone, or behind the time, a table on lines of its own. A warning says that it is one."""

    def __init__(self, *, timed: bool) -> None:
        super().__init__()
        self._timed = timed

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging calls
        text = record.message.rstrip()
        if record.levelno == logging.WARNING:
            text = f"warning: {text}"
        if not self._timed:
            return text
        return self.formatTime(record, "%Y-%m-%d %H:%M:%S") + ("\n" if hasattr(record, "renderable") else "  ") + text


class _Screen(logging.Handler):
    """Prints through `console`, which knows how to print above a live progress bar."""

    def __init__(self) -> None:
        super().__init__(level=logging.INFO)
        self.setFormatter(_Message(timed=False))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if hasattr(record, "renderable") and console.is_terminal:
                console.print(record.renderable)
            else:
                style = "yellow" if record.levelno == logging.WARNING else ""
                console.print(Text(self.format(record), style=style), soft_wrap=True)
        except Exception:  # as every handler of logging: what can't be printed must not stop the run
            self.handleError(record)
