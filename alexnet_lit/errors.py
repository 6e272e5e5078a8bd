"""What tells a person's mistake from a fault of ours."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class UserError(ValueError):
    """A person's mistake. Its text is one line that names the key or file, the value, and the way out.

    The command line prints that line and exits non-zero; any other exception is a fault of ours and shows its
    traceback.
    """


def check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Raise the UserError of a value that is none of the choices."""
    if value not in choices:
        raise UserError(f"{key}={value}: should be {', '.join(choices[:-1])} or {choices[-1]}")


def reason_of(error: BaseException) -> str:
    """What went wrong, in one line."""
    text = str(error) if isinstance(error, UserError | Exited) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]


def refusal_of(error: BaseException) -> str | None:
    """Why the disk refused a write, as "No space left on device"; None if something else is wrong. torch hides that
    error behind one of its own.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError):
            return seen.strerror or str(seen)
        seen = seen.__cause__ or seen.__context__
    return None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Write a file of a run. Raises: UserError where the disk refuses it, as one that is full does."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if (why := refusal_of(error)) is None:
            raise
        raise unwritten(path, why) from error


def unwritten(path: Path | str, why: str | None) -> UserError:
    """The mistake of a disk that refuses a file of a run."""
    return UserError(f"{path}: cannot be written ({why}): make room there, or set paths.logs to another folder")


class Interrupted(Exception):
    """Training stopped after a finished step, as a person or the machine asked for it by the signal that it names."""


class Diverged(Exception):
    """The loss is no longer a number, so that further training is pointless."""


class Exited(Exception):
    """Something that a run calls, as a callback or a net, would have ended the process with a status."""


@contextmanager
def exits_raised() -> Iterator[None]:
    """Raise Exited for `sys.exit(3)`, which would end a sweep, and KeyboardInterrupt for Lightning's on Ctrl-C."""
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt | BrokenPipeError):
            raise KeyboardInterrupt from error
        code = 0 if error.code is None else error.code
        status = code if isinstance(code, int) else f"1: {code}"
        raise Exited(f"exited with status {status}").with_traceback(error.__traceback__) from None
