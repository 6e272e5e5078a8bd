"""How good a net is on images whose classes are known, and how sure one can be of that."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics.functional import classification as metrics

_Z = 1.959964  # standard deviations around the mean that hold 95% of a normal distribution
BINS = 15  # of confidence, as is usual for the calibration error (Guo et al. 2017, section 2)


class ClassScores(NamedTuple):
    """Of one class, each 0..1: how much of what was called so is, how much of it was found, their harmonic mean."""

    precision: float
    recall: float
    f1: float
    images: int


class Scores(NamedTuple):
    """What follows from logits and labels.

    calibration_error: expected calibration error, the mean distance between confidence and accuracy (0..1).
    confusion: int64 (classes, classes), true class by row, answer by column.
    """

    calibration_error: float
    classes: dict[str, ClassScores]
    confusion: Tensor


def score(logits: Tensor, labels: Tensor, names: Sequence[str]) -> Scores:
    """Scores of logits (N, classes) for labels (N,). A class that was never answered has precision 0."""
    answers, count = logits.argmax(1), len(names)
    columns = [
        ask(answers, labels, num_classes=count, average="none")
        for ask in (metrics.multiclass_precision, metrics.multiclass_recall, metrics.multiclass_f1_score)
    ]
    images = torch.bincount(labels, minlength=count)
    rows = zip(*(column.tolist() for column in (*columns, images)), strict=True)
    return Scores(
        float(metrics.multiclass_calibration_error(logits.softmax(1), labels, num_classes=count, n_bins=BINS)),
        {name: ClassScores(*row) for name, row in zip(names, rows, strict=True)},
        metrics.multiclass_confusion_matrix(answers, labels, num_classes=count),
    )


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95% interval of a share that was found in `count` draws (Wilson 1927)."""
    spread = _Z**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * share * (1 - share) + spread**2 / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
