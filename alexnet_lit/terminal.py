"""The terminal and train.log: what a run and the commands print, to streams that may go away before the program ends.

Only the entry points of the programs put `tolerant_output` around sys.stdout and sys.stderr: a notebook keeps its own.
"""

import codecs
import errno
import io
import logging
import os
import shlex
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from alexnet_lit.errors import UserError

_WIDE = 1000  # columns, wider than any table: paths and commands in a file stay in one piece

# No file is named, so the console follows sys.stdout wherever it points; off a terminal rich adds no colour.
console = Console(highlight=False, markup=False, emoji=False)

# Hydra puts handlers on the root logger: without propagation a message is printed once.
log = logging.getLogger("alexnet_lit")
log.propagate = False
log.setLevel(logging.DEBUG)
log.addHandler(logging.NullHandler())
_library_warnings = logging.getLogger("py.warnings")  # where logging.captureWarnings sends them
_open_handlers: list[logging.Handler] = []


class TolerantStream:
    """A stream that tolerates write errors: on the first OSError calls `failed`, and then drops all text."""

    def __init__(self, stream: Any, failed: Callable[[OSError], None]) -> None:
        self.stream = stream
        self._failed = failed
        self._over = False

    def write(self, data: Any) -> int:
        self._try(self.stream.write, data)
        return len(data)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def close(self) -> None:
        """Close the stream, whether or not it takes what is left to write."""
        with suppress(OSError):
            self.stream.close()

    def _try(self, act: Callable[..., object], *arguments: Any) -> None:
        try:
            if not self._over:
                act(*arguments)
        except OSError as error:
            self._over = True
            self._failed(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def tolerant_output(*, exits: bool) -> Iterator[None]:
    """Tolerate write errors of stdout and stderr; escape characters that their encoding lacks.

    exits: exit once stdout is closed, quietly with status 141, as a command in a shell pipe does. Else continue, with
    train.log alone. A closed stderr is ignored in either case.
    """
    out, err = _tolerant("stdout", exits=exits), _tolerant("stderr", exits=False)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            yield
        finally:
            for stream in (out, err):
                if isinstance(stream, TolerantStream):
                    stream.flush()


def _tolerant(name: str, *, exits: bool) -> Any:
    """The stream of that name, wrapped in a `TolerantStream`."""
    stream = getattr(sys, name)
    stream = stream.stream if isinstance(stream, TolerantStream) else stream
    if not isinstance(stream, io.TextIOWrapper):  # None where it is closed, a StringIO in a test
        return stream
    stream.reconfigure(errors="alexnet_lit")

    def failed(error: OSError) -> None:
        # What is buffered is written at the latest as the interpreter ends, and children inherit the descriptor.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        if not exits:  # DEBUG is for train.log alone
            log.debug("%s: can't be written to any more (%s): the rest is in this file alone", name, error.strerror)
        elif error.errno in (errno.EPIPE, errno.EIO):  # the reader of a pipe, or a terminal, is gone
            sys.exit(128 + 13)  # as a shell does for SIGPIPE
        else:
            print(f"error: {name}: can't be written to ({error.strerror})", file=sys.stderr)
            sys.exit(1)

    return TolerantStream(stream, failed)


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Lines of tables as hyphens and other characters as Python's escapes, where an encoding lacks them."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end].replace("─", "-")
    return lacking.encode("ascii", "backslashreplace").decode(), error.end


codecs.register_error("alexnet_lit", _escape)


# Sent before a cluster's time limit, by sbatch --signal=USR1@120 and by submitit. Windows has neither.
USR_SIGNALS = tuple(signal.Signals[name] for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *USR_SIGNALS)  # those, and SIGHUP, make a run save and end


def hangup() -> tuple[signal.Signals, ...]:
    """SIGHUP, sent when the terminal closes, perhaps twice. Empty under nohup, and on Windows, which has none."""
    number: signal.Signals | None = getattr(signal, "SIGHUP", None)
    return () if number is None or signal.getsignal(number) == signal.SIG_IGN else (number,)


@contextmanager
def handling(numbers: Iterable[int], handler: Any) -> Iterator[None]:
    """Let `handler` take these signals for a while. Only the main thread can: in others nothing changes."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in numbers if main}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def print_from_handler(say: Callable[[str], object], text: str) -> None:
    """Print or log in a signal handler, by a thread: the main thread may be in the middle of a write to that stream."""
    threading.Thread(target=say, args=(text,)).start()


def ignore(number: int, frame: object) -> None:
    """Signal handler that does nothing. Unlike SIG_IGN it isn't taken for nohup's, nor inherited by child processes."""


def program(name: str) -> str:
    """How a program of this environment is started: by its name alone where the shell's PATH finds it."""
    here = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    return name if found and Path(found).parent == here.parent else str(here)


def train_command() -> str:
    """How a training is started from here: by the checkout's train.py, else by the installed command."""
    file = Path(__file__).parents[1] / "train.py"
    name = file.name if file.parent == Path.cwd() else shlex.quote(str(file))
    return f"{program('python')} {name}" if file.is_file() else f"{program('alexnet-lit')} train"


def on_terminal(screen: Console = console) -> bool:
    """Whether lines on it can be overwritten. FORCE_COLOR, as CI sets it, makes colours but no terminal."""
    return screen.is_terminal and not screen.is_dumb_terminal and screen.file.isatty()


def open_log(path: Path | None, *, speak: bool, screen: Console = console) -> None:
    """Print messages of `log` from INFO up if `speak`, and append all of them (DEBUG too) to the file at `path`.

    Closes an open log first. Python's warnings go the same way as long as the log is open.
    screen: where they are printed; that of a command whose answer goes to stdout is on stderr.
    Raises: UserError if the file can't be written.
    """
    close_log()
    if speak:
        _open_handlers.append(_Screen(screen))
    if path is not None:
        try:
            file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")  # paths can be any bytes
        except OSError as error:
            close_log()
            hint = "choose another folder with paths.logs=..."
            raise UserError(f"{path} can't be written ({error.strerror or error}): {hint}") from error
        file.stream = TolerantStream(file.stream, partial(warn_unwritten, path))  # type: ignore[assignment] # as good as one
        file.setFormatter(_Timed())
        _open_handlers.append(file)
    for handler in _open_handlers:
        log.addHandler(handler)
        _library_warnings.addHandler(handler)
    if _open_handlers:
        logging.captureWarnings(True)
        _library_warnings.propagate = False


def close_log() -> None:
    """Close train.log and print nothing more. Harmless when nothing is open."""
    if _open_handlers:
        logging.captureWarnings(False)
        _library_warnings.propagate = True
    while _open_handlers:
        handler = _open_handlers.pop()
        log.removeHandler(handler)
        _library_warnings.removeHandler(handler)
        handler.close()


def log_table(renderable: RenderableType) -> None:
    """Print a table (or anything that rich draws), and write it to train.log as plain text."""
    log.info("%s", plain_text(renderable), extra={"renderable": renderable})


def plain_text(renderable: RenderableType) -> str:
    """Render as text without colours or line wrapping."""
    page = Console(file=io.StringIO(), width=_WIDE, color_system=None, force_terminal=False, legacy_windows=False)
    with page.capture() as capture:
        page.print(renderable)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def warn_unwritten(path: Path, error: OSError) -> None:
    """Warn that a file of the run can't be written, which is no reason to stop it."""
    log.warning("%s can't be written (%s): the run goes on without", path, error.strerror)


def _text(record: logging.LogRecord) -> str:
    return ("warning: " if record.levelno == logging.WARNING else "") + record.getMessage().rstrip()


class _Timed(logging.Formatter):
    """The text behind the time, a table on lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging calls
        end = "\n" if hasattr(record, "renderable") else "  "
        return self.formatTime(record, "%Y-%m-%d %H:%M:%S") + end + _text(record)


class _Screen(logging.Handler):
    """Prints through a console, which knows how to print above a live progress bar."""

    def __init__(self, screen: Console) -> None:
        super().__init__(level=logging.INFO)
        self.screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno == logging.WARNING else ""
        try:
            table = getattr(record, "renderable", None) if on_terminal(self.screen) else None
            self.screen.print(table or Text(_text(record), style=style), soft_wrap=True)
        except Exception:  # like logging's handlers: a message that can't be printed must not stop the run
            self.handleError(record)


_IGNORED = (
    # Lightning 2.6 calls a function that torch has deprecated, on each fit.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # The training curve has a point at the end of each epoch, however few steps that has.
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    # On a cluster's front node, where Slurm is not meant.
    "The `srun` command is available on your system but is not used",
    # Who takes a callback out of a run that goes on, or lets it monitor something else, has typed that.
    "Be aware that when using `ckpt_path`, callbacks used to create the checkp",
)


def quiet_libraries() -> None:
    """Let Lightning warn, but not list absent devices, advertise, or repeat what the run's own console says."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _IGNORED:
        warnings.filterwarnings("ignore", message=message)
