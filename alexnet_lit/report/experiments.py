"""Runs put together to experiments: the same thing done with several seeds or folds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from alexnet_lit.errors import Mistake
from alexnet_lit.groups import REPEATS, grouped, keys_of, varying
from alexnet_lit.report.runs import Run

# What a run is called, where it lies and who looks at it makes it no other experiment.
_NO_MATTER = (*REPEATS, "name", "ckpt", "logger", "sweep", "data.dir", "data.search", "data.mirrors", "data.cache")
_NO_MATTER_BELOW = ("paths.", "hydra.", "hydra/", "logger.")


@dataclass(frozen=True)
class Experiment:
    """Runs that differ in seed and fold alone. `overrides` are those that tell it from the other experiments.

    name: of runs that have no result, what their folders' names tell.
    """

    overrides: dict[str, str]
    runs: list[Run]
    name: str = ""

    @property
    def label(self) -> str:
        """Like `idea=lrn`; empty where it has nothing that others haven't."""
        return self.name or " ".join(f"{key}={value}" for key, value in self.overrides.items())

    @cached_property
    def completed(self) -> list[Run]:
        """The runs that count: one for each seed and fold, of several the last."""
        return list({run.repeat: run for run in self.runs if run.status == "completed"}.values())

    def scores(self, key: str) -> list[float]:
        """A figure of all runs that count."""
        return [score for run in self.completed if (score := run.figure(key)) is not None]


def experiments_of(runs: Sequence[Run]) -> list[Experiment]:
    """All of them, in the order of their first runs. A run without a result goes where its folder's name says."""
    told = [run for run in runs if run.result]
    keys = [key for key in varying(told) if _matters(key)]
    groups = list(grouped(told, keys).values())
    untold: dict[str, list[Run]] = {}
    for run in runs:
        if not run.result:
            homes = [group for group in groups if run.stem in {other.stem for other in group}]
            home = homes[0] if len(homes) == 1 else untold.setdefault(run.stem or run.folder.name, [])
            home.append(run)
    experiments = [
        Experiment({key: group[0].overrides[key] for key in keys if key in group[0].overrides}, group)
        for group in groups
    ]
    return experiments + [Experiment({}, group, name) for name, group in untold.items()]


def shared(runs: Sequence[Run]) -> dict[str, str]:
    """What all runs that tell were asked alike."""
    told = [run for run in runs if run.result]
    differing = varying(told)
    return {key: told[0].overrides[key] for key in keys_of(told) if key not in differing and _matters(key)}


def baseline_of(experiments: Sequence[Experiment], wanted: str | None) -> Experiment:
    """What the others are compared with: the one whose label is or has `wanted`, else `idea=base`, else the first.

    Raises: Mistake if none or several are meant.
    """
    if wanted is None:
        return next((each for each in experiments if each.overrides.get("idea") == "base"), experiments[0])
    meant = [each for each in experiments if each.label == wanted] or [
        each for each in experiments if wanted in each.label
    ]
    if len(meant) != 1:
        labels = ", ".join(each.label or '""' for each in meant or experiments)
        raise Mistake(f"--baseline={wanted}: {'several are' if meant else 'none is'} called so: there are {labels}")
    return meant[0]


def _matters(key: str) -> bool:
    return key not in _NO_MATTER and not key.startswith(_NO_MATTER_BELOW)
