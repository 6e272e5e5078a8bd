"""User errors, exceptions that end training, and atomic file writes."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class UserError(ValueError):
    """Wrong input. Its text is one line that names the key or file, the value, and the way out.

    The command line prints that line and exits with status 2; any other exception is a bug and shows its traceback.
    """


class Interrupted(Exception):
    """Training stopped after a finished step because of a signal; the text is the signal's name."""


class Diverged(Exception):
    """The loss is no longer finite."""


class Exited(Exception):
    """Code that a run calls, such as a callback or a net, called `sys.exit`."""


def check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Raises: UserError if `value` is none of the choices."""
    if value not in choices:
        raise UserError(f"{key}={value}: should be {', '.join(choices[:-1])} or {choices[-1]}")


def first_few(names: Sequence[str]) -> str:
    """Name a few of many: "a, b, c and 7 more"."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    # A file may be called anything: what would break the line is written as Python writes it.
    return ", ".join(name if name.isprintable() else repr(name)[1:-1] for name in names[:3]) + more


def reason_of(error: BaseException) -> str:
    """The error in one line of at most 300 characters."""
    text = str(error) if isinstance(error, UserError | Exited) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]


@contextmanager
def exits_raised() -> Iterator[None]:
    """Raise Exited for `sys.exit(3)`, which would end a sweep, and KeyboardInterrupt for Lightning's on Ctrl-C."""
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt | BrokenPipeError):
            raise KeyboardInterrupt from error
        status = f"1: {error.code}" if isinstance(error.code, str) else error.code or 0
        raise Exited(f"exited with status {status}").with_traceback(error.__traceback__) from None


@contextmanager
def writing(path: Path, hint: str = "") -> Iterator[None]:
    """Write a file, without `hint` one of a run. Raises: UserError where the disk refuses it, being full."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):  # torch raises a RuntimeError in its place
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            raise
        raise unwritten(path, cause, hint) from error


def unwritten(path: Path, error: OSError, hint: str = "") -> UserError:
    """The error for a file that can't be written; without `hint` it is a file of a run."""
    hint = hint or "make room there, or set paths.logs to another folder"
    return UserError(f"{path}: cannot be written ({error.strerror or error}): {hint}")


def check_free(path: Path, *, force: bool) -> None:
    """Check, before the work starts, that `path` can be written; `force`: an existing file may be replaced.

    Raises: UserError if it can't.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is {'a folder' if path.is_dir() else 'a device'}: name a file with --out")
    if path.exists() and not force:
        raise UserError(f"{path}: is there already: --force replaces it, --out names another file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}: make it, or name another file with --out")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"{path}: can't be written: name a file elsewhere with --out")


@contextmanager
def replacing(path: Path, hint: str = "") -> Iterator[Path]:
    """Yield <path>.part to write to; it replaces <path> when the block succeeds. Raises: as `writing` does."""
    part = path.with_name(f"{path.name}.part")
    with writing(path, hint):
        try:
            yield part
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
