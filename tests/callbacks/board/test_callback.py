"""What a run leaves in its event file beside the curves, read by TensorBoard's own reader."""

import io
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout  # type: ignore[attr-defined] # made at import time

import alexnet_lit.callbacks.board.allowance
from alexnet_lit.callbacks.board.allowance import Allowance
from tests.callbacks.tiny import Clock
from tests.conftest import Train
from tests.pictures import TINY as PICTURES
from tests.pictures import fill
from tests.sweep.tiny import TINY
from tests.test_run import equal, scalars, weights

pytestmark = pytest.mark.slow

ALWAYS = ("callbacks.board.share=1.0", "callbacks.board.projector=6")
OFTEN = (*TINY, *ALWAYS, "trainer.max_epochs=2", "callbacks.board.histograms=true", "model.activation=relu")
PROJECTOR = Path("plugins/org_tensorflow_tensorboard_projector")
OF_VALIDATION = ("val/confusion", "val/classes", "val/mistakes", "net/kernels", "net/activations")
OF_TEST = ("test/confusion", "test/classes", "test/mistakes")


@pytest.fixture(autouse=True)
def in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """These runs take a moment: where pictures may take all of the time they do not wait for more of it."""
    monkeypatch.setattr(Allowance, "allows", property(lambda budget: budget.share == 1))


def board(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0, "histograms": 0})
    events.Reload()
    return events


def steps(events: EventAccumulator) -> dict[str, list[int]]:
    return {tag: [image.step for image in events.Images(tag)] for tag in events.Tags()["images"]}


def words(events: EventAccumulator, tag: str) -> str:
    (event,) = events.Tensors(f"{tag}/text_summary")
    return str(event.tensor_proto.string_val[0].decode())


def test_pictures_text_graph_and_layout(train: Train) -> None:
    outcome = train(*OFTEN)
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


def test_what_is_switched_off_is_not_there(train: Train) -> None:
    names = ("batch", "confusion", "classes", "mistakes", "kernels", "activations", "pr_curves")
    switches = [f"callbacks.board.{name}=false" for name in names]
    outcome = train(*TINY, *switches, "callbacks.board.projector=0")
    events = board(outcome.folder)
    assert (outcome.status, events.Tags()["images"], events.Tags()["histograms"]) == (0, [], [])
    assert not (outcome.folder / "plugins").exists()


def test_pictures_change_nothing_of_the_training(train: Train, tmp_path: Path) -> None:
    pictures = train(*OFTEN, "model.dropout=0.5", logs=tmp_path / "pictures")
    for logger in ("csv", "none"):
        plain = train(*OFTEN, "model.dropout=0.5", f"logger={logger}", logs=tmp_path / logger)
        assert plain.status == 0
        assert equal(weights(plain.folder), weights(pictures.folder))
        assert not (plain.folder / "plugins").exists()
        assert not list(plain.folder.glob("events.*"))


def test_pictures_come_as_often_as_they_shall(train: Train) -> None:
    outcome = train(*TINY, *ALWAYS, "trainer.max_epochs=5", "callbacks.board.every=2", "trainer.val_check_interval=1")
    found = steps(board(outcome.folder))
    assert found["val/confusion"] == [2, 4, 6, 8, 10]
    assert found["train/batch"] == [1, 3, 5, 7, 9]


def test_a_run_without_time_for_pictures_has_its_last_ones(train: Train) -> None:
    outcome = train(*TINY, "trainer.max_epochs=3")
    found = steps(board(outcome.folder))
    assert [found[tag] for tag in OF_VALIDATION] == [[6]] * 5
    assert found["train/batch"] == [1]


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


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["data.val_size=0", "objective=null"], {"train/batch", "net/kernels", "net/activations", *OF_TEST}),
        (["data.validate=test", "objective=null"], {"train/batch", "net/kernels", "net/activations", *OF_TEST}),
        (["data.tta=mirror"], {"train/batch", *OF_VALIDATION, *OF_TEST}),
        (["model=alexnet", "data.image_size=65", "data.augment.mixup=1"], {"train/batch", *OF_VALIDATION, *OF_TEST}),
    ],
    ids=["no validation", "validate=test", "two views", "alexnet"],
)
def test_runs_of_all_kinds(typed: list[str], expected: set[str], train: Train) -> None:
    outcome = train(*TINY, *typed, "callbacks.board.projector=6")
    assert (outcome.status, outcome.err) == (0, "")
    assert set(steps(board(outcome.folder))) == expected
    assert (outcome.folder / PROJECTOR / "points.tsv").exists() is ("data.validate=test" not in typed)


def test_ones_own_pictures_in_colour(train: Train, tmp_path: Path) -> None:
    folder = fill(tmp_path / "pictures", train=6, test=2)
    outcome = train(*PICTURES, f"data.dir={folder}", "data.batch_size=8", "trainer.max_epochs=1")
    assert (outcome.status, outcome.err) == (0, "")
    (batch,) = board(outcome.folder).Images("train/batch")
    picture = imread(io.BytesIO(batch.encoded_image_string))
    assert (picture.max(2) - picture.min(2)).mean() > 0.05, "it has colours"


def test_a_trial_run_draws_nothing(train: Train) -> None:
    outcome = train(*TINY, "trainer.fast_dev_run=true")
    assert (outcome.status, outcome.err) == (0, "")
    assert not list(outcome.folder.glob("events.*"))
    assert not (outcome.folder / "plugins").exists()


def test_the_norm_of_gradients_is_that_before_clipping(train: Train, tmp_path: Path) -> None:
    plain = ("scheduler=constant", "optimizer.lr=1.0", "optimizer.momentum=0", "optimizer.nesterov=false")
    typed = (*TINY, *plain, "optimizer.weight_decay=0", "trainer.max_steps=1", "trainer.limit_test_batches=0")
    clippings = ("null", "1e-3", "1e-3 trainer.gradient_clip_algorithm=value")
    runs = [
        train(*typed, *f"trainer.gradient_clip_val={clipping}".split(), logs=tmp_path / str(number)).folder
        for number, clipping in enumerate(clippings)
    ]

    torch.manual_seed(0)
    fresh = alexnet_lit.build_net(alexnet_lit.compose(*TINY)).state_dict()
    moved = weights(runs[0])  # where nothing is clipped, the step is the gradient
    norm = torch.cat([(moved[f"net.{name}"] - value).flatten() for name, value in fresh.items()]).norm()
    for run in runs:
        ((step, value),) = scalars(run)["grad_norm"]
        assert step == 1
        assert value == pytest.approx(float(norm), rel=1e-4)


def test_time_to_an_accuracy(train: Train) -> None:
    levels = "callbacks.milestones.levels=[0.01,0.02,0.999]"
    outcome = train(*TINY, levels, "trainer.max_epochs=3", "optimizer=adamw")
    found = {tag: points for tag, points in scalars(outcome.folder).items() if tag.startswith("seconds_to_acc")}
    accuracies = scalars(outcome.folder)["val/acc"]
    expected = next((step for step, value in accuracies if value >= 0.02), None)
    assert {tag: [step for step, _ in points] for tag, points in found.items()} == (
        {} if expected is None else {f"seconds_to_acc/{level}": [expected] for level in (0.01, 0.02)}
    )
    assert all(0 < seconds < outcome.result["seconds"] for ((_, seconds),) in found.values())


def test_a_budget_is_a_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    clock = Clock()
    monkeypatch.setattr(alexnet_lit.callbacks.board.allowance, "time", clock)
    budget, drawn = Allowance(0.01), []
    budget.start()
    for second in range(1000):
        clock.now += 1
        if budget.allows:
            drawn.append(second)
            with budget.spend():
                clock.now += 1
    assert 8 <= len(drawn) <= 10
    assert drawn[0] < 35
