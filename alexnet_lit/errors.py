"""What tells a person's mistake from a fault of ours."""

from collections.abc import Sequence


class Mistake(ValueError):
    """A person's mistake. Its text is one line that names the key or file, the value, and the way out.

    The command line prints that line and exits non-zero; any other exception is a fault of ours and shows its
    traceback.
    """


def check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Raise the Mistake of a value that is none of the choices."""
    if value not in choices:
        raise Mistake(f"{key}={value}: should be {', '.join(choices[:-1])} or {choices[-1]}")


def reason_of(error: BaseException) -> str:
    """What went wrong, in one line."""
    text = str(error) if isinstance(error, Mistake) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]


class Interrupted(Exception):
    """Training stopped after a finished step, as a person or the machine asked for it by the signal that it names."""


class Diverged(Exception):
    """The loss is no longer a number, so that further training is pointless."""
