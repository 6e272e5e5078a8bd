"""What is counted in a pass over images is what counting all of them at once gives."""

import pytest
import torch
from torch.utils.tensorboard.summary import compute_curve

from alexnet_lit.callbacks.board.tally import Tally


@pytest.fixture
def answers() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, labels and images of 50 images of four classes; each image is flat, its value its number."""
    chance = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, 4, generator=chance)
    labels = torch.randint(0, 4, (50,), generator=chance)
    return logits, labels, torch.arange(50.0).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def tally(answers: tuple[torch.Tensor, torch.Tensor, torch.Tensor], mistakes: int = 5) -> Tally:
    made = Tally(4, mistakes=mistakes, probabilities=True)
    for logits, labels, images in zip(*(part.split(7) for part in answers), strict=True):
        made.add(logits, labels, images)
    return made


def test_confusion_has_true_classes_by_row(answers: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    expected = torch.zeros(4, 4, dtype=torch.int64)
    for logits, label in zip(answers[0], answers[1], strict=True):
        expected[label, logits.argmax()] += 1
    assert tally(answers).confusion().equal(expected)


def test_the_most_certain_mistakes_come_first(answers: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    certainty, given = answers[0].softmax(1).max(1)
    wrong = sorted((-float(certainty[n]), n) for n in range(50) if given[n] != answers[1][n])[:5]
    found = tally(answers).mistakes
    assert found is not None
    assert found.images[:, 0, 0, 0].tolist() == [n for _, n in wrong]
    assert found.certainty.tolist() == pytest.approx([-value for value, _ in wrong])
    assert found.labels.tolist() == answers[1][[n for _, n in wrong]].tolist()
    assert found.answers.tolist() == given[[n for _, n in wrong]].tolist()


def test_where_there_are_fewer_mistakes_the_rest_says_so() -> None:
    made = Tally(2, mistakes=3, probabilities=False)
    made.add(torch.tensor([[1.0, 0], [0, 1], [1, 0]]), torch.tensor([0, 1, 1]), torch.zeros(3, 1, 2, 2))
    assert made.mistakes is not None
    assert (made.mistakes.certainty >= 0).tolist() == [True, False, False]


def test_curves_are_torch_s(answers: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    counts = tally(answers).curves(20)
    for one in range(4):
        true = (answers[1] == one).numpy()
        expected = compute_curve(true, answers[0].softmax(1)[:, one].numpy(), num_thresholds=20)
        assert counts[0, one].tolist() == expected[0].tolist()
        assert counts[1, one].tolist() == expected[1].tolist()


def test_without_images_all_counts_are_zero() -> None:
    empty = Tally(3, mistakes=2, probabilities=True)
    assert empty.confusion().sum() == empty.curves(10).sum() == 0
    assert empty.mistakes is None
