"""Precision and recall of each class, by the probability from which an answer counts."""

from collections.abc import Iterator, Sequence

from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined] # made at import time
from torch import Tensor
from torch.utils.tensorboard.summary import pr_curve_raw

STEPS = 127  # thresholds; TensorBoard's own number
MOST = 30  # classes up to which there are curves


def curves(counts: Tensor, names: Sequence[str]) -> Iterator[Summary]:
    """A curve for each class by counts int64 (2, classes, 127), see Tally.curves."""
    for name, true, false in zip(names, *counts.double(), strict=True):
        found, called = true[0], (true + false).clamp(min=1)
        values = (true, false, false[0] - false, found - true, true / called, true / found.clamp(min=1))
        yield pr_curve_raw(f"pr_curves/{name}", *(value.numpy() for value in values))
