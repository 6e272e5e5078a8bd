"""Scores that follow from logits and labels, by hand."""

import pytest
import torch

from alexnet_lit.tools.evaluate.scores import score, wilson


@pytest.mark.parametrize(
    ("share", "count", "interval"),
    [  # of Wilson's formula, worked out by hand
        (0.5, 10, (0.2366, 0.7634)),
        (0.9, 100, (0.8256, 0.9448)),
        (1.0, 10, (0.7225, 1.0)),
        (0.0, 10, (0.0, 0.2775)),
    ],
)
def test_the_interval_of_a_share(share: float, count: int, interval: tuple[float, float]) -> None:
    assert wilson(share, count) == pytest.approx(interval, abs=5e-5)


def test_each_class_is_scored_by_hits_among_answers_and_among_images() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    answers = torch.tensor([0, 0, 0, 1, 1, 0, 1, 1])
    logits = torch.nn.functional.one_hot(answers, 4).float()

    scores = score(logits, labels, ["a", "b", "c", "d"])

    assert tuple(scores.classes["a"]) == pytest.approx((3 / 4, 3 / 4, 3 / 4, 4))
    assert tuple(scores.classes["b"]) == pytest.approx((1 / 4, 1 / 2, 1 / 3, 2))
    assert tuple(scores.classes["c"]) == (0, 0, 0, 2)
    assert tuple(scores.classes["d"]) == (0, 0, 0, 0)
    assert scores.confusion.tolist() == [[3, 1, 0, 0], [1, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0]]


def test_calibration_is_the_distance_of_confidence_and_accuracy_bin_by_bin() -> None:
    # Two bins of 15: three answers at 0.9, two of them right, and one at 0.55, right.
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.55, 0.45]])
    scores = score(probabilities.log(), torch.tensor([0, 1, 1, 0]), ["a", "b"])
    expected = 3 / 4 * abs(0.9 - 2 / 3) + 1 / 4 * abs(0.55 - 1)
    assert scores.calibration_error == pytest.approx(expected, abs=1e-6)
