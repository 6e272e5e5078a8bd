"""What a run leaves in its event file beside the curves, read by TensorBoard's own reader."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout  # type: ignore[attr-defined] # made at import time

from alexnet_lit.callbacks.tensorboard_images import Predictions
from tests.conftest import Train
from tests.sweep.tiny import TINY
from tests.test_run import equal, weights

OFTEN = (*TINY, "callbacks.board.share=1.0", "trainer.max_epochs=2", "model.activation=relu")
OF_VALIDATION = ("val/confusion", "val/classes", "val/mistakes", "net/kernels", "net/activations")
OF_TEST = ("test/confusion", "test/classes", "test/mistakes")


def board(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    return events


def steps(events: EventAccumulator) -> dict[str, list[int]]:
    return {tag: [image.step for image in events.Images(tag)] for tag in events.Tags()["images"]}


def words(events: EventAccumulator, tag: str) -> str:
    (event,) = events.Tensors(f"{tag}/text_summary")
    return str(event.tensor_proto.string_val[0].decode())


@pytest.mark.slow
def test_pictures_text_and_layout(train: Train, tmp_path: Path) -> None:
    outcome = train(*OFTEN, "model.dropout=0.5")
    assert (outcome.status, outcome.err) == (0, "")
    events = board(outcome.folder)

    assert steps(events) == {
        **{key: [2, 4] for key in OF_VALIDATION},
        **{key: [4] for key in OF_TEST},
        "train/batch": [1, 3],  # the first one, and the first one after pictures
    }
    sizes = [len(events.Images(tag)[0].encoded_image_string) for tag in OF_VALIDATION]
    assert sum(sizes) < 200_000
    for tag in events.Tags()["images"]:
        picture = imread(io.BytesIO(events.Images(tag)[0].encoded_image_string))
        assert picture.std() > 0.05, tag
        assert max(picture.shape) < 1000, tag

    about = words(events, "run/about")
    assert "python train.py \\\n  data=sample \\\n  model=lenet \\\n" in about
    assert f"torch {torch.__version__.partition('+')[0]}" in about
    assert str(outcome.result["commit"]) in about
    assert "batch_size: 8" in words(events, "run/config")
    assert "61,706" in words(events, "run/net")

    layout = Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for part in layout.category for chart in part.chart}
    assert charts["loss"][:2] == ["train/loss$", "val/loss$"]
    assert charts["accuracy"][:2] == ["train/acc$", "val/acc$"]

    plain = train(*OFTEN, "model.dropout=0.5", "logger=csv", logs=tmp_path / "csv")
    assert equal(weights(plain.folder), weights(outcome.folder)), "pictures change nothing of the training"
    assert not list(plain.folder.glob("events*"))


@pytest.mark.slow
def test_where_there_is_no_time_pictures_come_first_and_last(train: Train) -> None:
    outcome = train(*TINY, "callbacks.board.share=0.0001", "trainer.max_epochs=5")
    found = steps(board(outcome.folder))
    assert [found[tag] for tag in OF_VALIDATION] == [[2, 10]] * 5
    assert found["train/batch"] == [1, 3]


@pytest.mark.slow
def test_a_run_that_goes_on_has_each_picture_once(train: Train) -> None:
    first = train(*OFTEN)
    longer = train(f"ckpt={first.folder}", "trainer.max_epochs=4")
    assert longer.status == 0, longer.err
    events = board(first.folder)
    found = steps(events)
    assert found["val/confusion"][-2:] == [6, 8]
    assert found["test/confusion"] == [8], "that of the first end is void"
    assert all(sorted(set(each)) == each for each in found.values()), found
    assert words(events, "run/about")


@pytest.mark.slow
def test_a_run_that_looks_at_the_test_has_its_pictures_after_each_epoch(train: Train) -> None:
    outcome = train(*TINY, "data.validate=test", "objective=null", "data.augment.mixup=1")
    assert (outcome.status, outcome.err) == (0, "")
    assert set(steps(board(outcome.folder))) == {"train/batch", "net/kernels", "net/activations", *OF_TEST}


@pytest.fixture
def answers() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, labels and images of 50 images of four classes; each image is flat, its value its number."""
    chance = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, 4, generator=chance)
    labels = torch.randint(0, 4, (50,), generator=chance)
    return logits, labels, torch.arange(50.0).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def gathered(answers: tuple[torch.Tensor, torch.Tensor, torch.Tensor], mistakes: int = 5) -> Predictions:
    made = Predictions(SimpleNamespace(classes="abcd", device="cpu"), mistakes=mistakes)
    for logits, labels, images in zip(*(part.split(7) for part in answers), strict=True):
        made.update(logits, labels, images)
    made.update(*(part[:0] for part in answers))  # as a rank without images has it
    return made


def test_confusion(answers: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    expected = torch.zeros(4, 4, dtype=torch.int64)
    for logits, label in zip(answers[0], answers[1], strict=True):
        expected[label, logits.argmax()] += 1
    assert gathered(answers).confusion.compute().equal(expected), "true classes by row"


def test_the_most_certain_mistakes_come_first(answers: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    certainty, given = answers[0].softmax(1).max(1)
    wrong = sorted((-float(certainty[n]), n) for n in range(50) if given[n] != answers[1][n])[:5]
    found, all_of_them = gathered(answers).mistakes, gathered(answers, mistakes=40).mistakes
    assert found is not None
    assert all_of_them is not None
    assert (all_of_them.certainty >= 0).sum() == (given != answers[1]).sum(), "for the others it is -1"
    assert found.images[:, 0, 0, 0].tolist() == [n for _, n in wrong]
    assert found.labels.tolist() == answers[1][[n for _, n in wrong]].tolist()
    assert found.predicted.tolist() == given[[n for _, n in wrong]].tolist()
