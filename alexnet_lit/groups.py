"""Which runs are the same experiment, done again: told by what was typed when they were started."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

REPEATS = ("seed", "data.fold")  # runs that differ in nothing else are the same experiment
_PYTHON = {"True": "true", "False": "false", "None": "null"}  # how Hydra writes the values of a sweep


class Asked(Protocol):
    """What was asked of a run, key by key."""

    @property
    def overrides(self) -> dict[str, str]:
        """As `key_by_key` gives it."""


Run = TypeVar("Run", bound=Asked)


def key_by_key(typed: Iterable[str]) -> dict[str, str]:
    """`["+model.lrn=True", "seed=0"]` -> `{"model.lrn": "true", "seed": "0"}`."""
    parts = [override.lstrip("+").partition("=") for override in typed]
    return {key: _PYTHON.get(value, value) for key, _, value in parts}


def keys_of(runs: Iterable[Asked]) -> list[str]:
    """The keys of all overrides, in the order in which they were typed."""
    return list(dict.fromkeys(key for run in runs for key in run.overrides))


def varying(runs: Sequence[Asked]) -> list[str]:
    """The keys in which runs differ."""
    return [key for key in keys_of(runs) if len({run.overrides.get(key) for run in runs}) > 1]


def grouped(runs: Iterable[Run], keys: Sequence[str]) -> dict[tuple[str, ...], list[Run]]:
    """Runs by their values of `keys`, "" where one has none, in the order in which they come."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run.overrides.get(key, "") for key in keys), []).append(run)
    return groups
