"""A run's curves in memory: what the progress line, result.json and curves.png read from."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


class ScalarLogger(Logger):
    """A logger of scalars alone: it has no folder of its own, and leaves hyper-parameters to .hydra/config.yaml."""

    @property
    def name(self) -> str:
        """Lightning builds folders from loggers' names; this one has none."""
        return ""

    @property
    def version(self) -> str:
        """As `name`."""
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Hyper-parameters live in .hydra/config.yaml."""


class History(ScalarLogger):
    """The logger that every run has, TensorBoard or not. Filled on rank 0, empty on the others.

    `points` maps a tag ("train/loss") to its (global step, value) pairs in the order of steps. A value logged again for
    the same step replaces the earlier one, so a resumed run overwrites what it repeats.
    """

    def __init__(self) -> None:
        super().__init__()
        self.points: dict[str, list[tuple[int, float]]] = {}

    @staticmethod
    def of(trainer: Trainer) -> History:
        """Find the trainer's history; an empty one where there is none (`fast_dev_run` puts every logger away)."""
        return next((logger for logger in trainer.loggers if isinstance(logger, History)), History())

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep the values, all but the "epoch" that Lightning adds to them: against the step it is a mere staircase."""
        step = step or 0
        for tag, value in metrics.items():
            if tag == "epoch":
                continue
            curve = self.points.setdefault(tag, [])
            place = bisect_left(curve, step, key=itemgetter(0))
            same_step = place < len(curve) and curve[place][0] == step
            curve[place : place + same_step] = [(step, float(value))]

    def latest(self, tag: str) -> float | None:
        """Return the newest value of a tag, None before there is one."""
        curve = self.points.get(tag)
        return curve[-1][1] if curve else None

    def state_dict(self) -> dict[str, list[list[float]]]:
        """Return the points as plain lists, which `torch.load(weights_only=True)` reads."""
        return {tag: [[step, value] for step, value in curve] for tag, curve in self.points.items()}

    def load_state_dict(self, state: Mapping[str, list[list[float]]]) -> None:
        """Take over the points of `state_dict` and forget all others."""
        self.points = {tag: [(int(step), float(value)) for step, value in curve] for tag, curve in state.items()}
