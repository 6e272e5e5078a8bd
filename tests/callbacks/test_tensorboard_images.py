"""What a run leaves in its event file beside the curves, read by TensorBoard's own reader."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout  # type: ignore[attr-defined] # made at import time
from torch import nn
from torch.utils.tensorboard.summary import compute_curve

from alexnet_lit.callbacks.tensorboard_images import Embedding, Predictions
from tests.conftest import Train
from tests.sweep.tiny import TINY
from tests.test_run import equal, weights

ALWAYS = ("callbacks.board.share=1.0", "callbacks.board.projector=6")
OFTEN = (*TINY, *ALWAYS, "trainer.max_epochs=2", "callbacks.board.histograms=true", "model.activation=relu")
PROJECTOR = Path("plugins/org_tensorflow_tensorboard_projector")
OF_VALIDATION = ("val/confusion", "val/classes", "val/mistakes", "net/kernels", "net/activations")
OF_TEST = ("test/confusion", "test/classes", "test/mistakes")


def board(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0, "histograms": 0})
    events.Reload()
    return events


def steps(events: EventAccumulator) -> dict[str, list[int]]:
    return {tag: [image.step for image in events.Images(tag)] for tag in events.Tags()["images"]}


def words(events: EventAccumulator, tag: str) -> str:
    (event,) = events.Tensors(f"{tag}/text_summary")
    return str(event.tensor_proto.string_val[0].decode())


@pytest.mark.slow
def test_pictures_text_graph_and_layout(train: Train, tmp_path: Path) -> None:
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
    names = {f"{kind}/features.conv1.weight" for kind in ("weights", "gradients")}
    assert names <= set(events.Tags()["histograms"])
    assert len(events.Tags()["histograms"]) == 20  # five layers, weight and bias

    about = words(events, "run/about")
    assert "python train.py \\\n  data=sample \\\n  model=lenet \\\n" in about
    assert f"torch {torch.__version__.partition('+')[0]}" in about
    assert str(outcome.result["commit"]) in about
    assert "batch_size: 8" in words(events, "run/config")
    assert "61,706" in words(events, "run/net")
    nodes = [node.name for node in events.Graph().node]
    assert nodes[:4] == ["images", "features/conv1", "features/relu1", "features/pool1"]
    assert [list(node.input) for node in events.Graph().node] == [[], *([name] for name in nodes[:-1])]

    layout = Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for part in layout.category for chart in part.chart}
    assert charts["loss"][:2] == ["train/loss$", "val/loss$"]
    assert charts["accuracy"][:2] == ["train/acc$", "val/acc$"]

    curves = [tag for tag in events.Tags()["tensors"] if tag.startswith("pr_curves/")]
    assert len(curves) == 10
    files = outcome.folder / PROJECTOR
    assert len((files / "points.tsv").read_text().splitlines()) == 6
    assert (files / "classes.tsv").read_text().splitlines()[:2] == ["Ankle boot", "Pullover"]
    assert imread(files / "images.png").shape[:2] == (3 * 28, 3 * 28)

    plain = train(*OFTEN, "model.dropout=0.5", "logger=csv", logs=tmp_path / "csv")
    assert equal(weights(plain.folder), weights(outcome.folder)), "pictures change nothing of the training"
    assert not [path.name for path in plain.folder.iterdir() if path.name.startswith(("plugins", "events"))]


@pytest.mark.slow
def test_what_is_switched_off_is_not_there(train: Train) -> None:
    names = ("batch", "confusion", "classes", "mistakes", "kernels", "activations", "pr_curves")
    switches = [f"callbacks.board.{name}=false" for name in names]
    outcome = train(*TINY, *switches, "callbacks.board.projector=0")
    events = board(outcome.folder)
    assert (outcome.status, events.Tags()["images"], events.Tags()["histograms"]) == (0, [], [])
    assert not (outcome.folder / "plugins").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "at"),
    [(["callbacks.board.share=1.0", "callbacks.board.every=2"], [4, 8]), (["callbacks.board.share=0.0001"], [2, 10])],
    ids=["every second", "no time"],
)
def test_pictures_come_as_often_as_they_shall(typed: list[str], at: list[int], train: Train) -> None:
    outcome = train(*TINY, *typed, "trainer.max_epochs=5", "callbacks.board.projector=0")
    found = steps(board(outcome.folder))
    assert [found[tag] for tag in OF_VALIDATION[:3]] == [at] * 3
    assert found["net/kernels"] == sorted({*at, 10}), "those of the trained net in any case"
    assert found["train/batch"][:2] == [1, at[0] + 1]


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
@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["data.validate=test", "objective=null"], {"train/batch", "net/kernels", "net/activations", *OF_TEST}),
        (
            ["model=alexnet", "data.image_size=65", "data.augment.mixup=1", "data.tta=mirror"],
            {"train/batch", *OF_VALIDATION, *OF_TEST},
        ),
    ],
    ids=["validate=test", "alexnet, two views"],
)
def test_runs_of_all_kinds(typed: list[str], expected: set[str], train: Train) -> None:
    outcome = train(*TINY, *typed, "callbacks.board.projector=6")
    assert (outcome.status, outcome.err) == (0, "")
    assert set(steps(board(outcome.folder))) == expected
    assert (outcome.folder / PROJECTOR / "points.tsv").exists() is ("data.validate=test" not in typed)


@pytest.fixture
def answers() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, labels and images of 50 images of four classes; each image is flat, its value its number."""
    chance = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, 4, generator=chance)
    labels = torch.randint(0, 4, (50,), generator=chance)
    return logits, labels, torch.arange(50.0).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def gathered(answers: tuple[torch.Tensor, torch.Tensor, torch.Tensor], mistakes: int = 5) -> Predictions:
    made = Predictions(SimpleNamespace(classes="abcd", device="cpu"), mistakes=mistakes, curves=True)
    for logits, labels, images in zip(*(part.split(7) for part in answers), strict=True):
        made.update(logits, labels, images)
    made.update(*(part[:0] for part in answers))  # as a rank without images has it
    return made


def test_confusion_and_curves(answers: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    expected = torch.zeros(4, 4, dtype=torch.int64)
    for logits, label in zip(answers[0], answers[1], strict=True):
        expected[label, logits.argmax()] += 1
    found = gathered(answers)
    assert found.confusion.confmat.equal(expected), "true classes by row"
    assert found.curves is not None
    counts = found.curves.confmat.flatten(2).permute(2, 1, 0).flip(0)  # tp, fn, fp, tn
    for one in range(4):
        true = (answers[1] == one).numpy()
        curve = compute_curve(true, answers[0].softmax(1)[:, one].numpy(), num_thresholds=127)
        assert counts[0, one].tolist() == curve[0].tolist()
        assert counts[2, one].tolist() == curve[1].tolist()


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


def test_an_embedding_is_of_the_last_hidden_layer_and_of_the_first_view() -> None:
    net, inputs = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), torch.randn(7, 4)
    last = net[1]
    assert isinstance(last, nn.Linear)
    embedding = Embedding(last, 5)
    for batch in inputs.split(3):
        net(batch)
        net(-batch)  # another view of the same images
        if embedding.left > 0:
            embedding.add(torch.zeros(len(batch), 2, 2, 3, dtype=torch.uint8), torch.arange(len(batch)))
    net(inputs)
    assert torch.cat(embedding._units).equal(net[0](inputs[:5]))
    assert torch.cat(embedding._labels).tolist() == [0, 1, 2, 0, 1]
