"""What a run leaves in its event file beside the curves, on one device or two, and the pictures of any net."""

import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout  # type: ignore[attr-defined] # made at import time
from torch import nn
from torch.utils.tensorboard._utils import figure_to_image

import alexnet_lit
from alexnet_lit.callbacks.figures import activations, class_accuracy, gallery, kernels, style, visible
from alexnet_lit.callbacks.tensorboard_images import Predictions, TensorBoardImages
from tests.conftest import Train
from tests.processes import LENET, Runs, rank_group
from tests.runs import equal, weights
from tests.sweep.tiny import TINY

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
    outcome = train(*OFTEN, "model.dropout=0.5").ok()
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

    train(f"ckpt={outcome.folder}", "trainer.max_epochs=3").ok()  # has each picture once
    events = board(outcome.folder)
    found = steps(events)
    assert (found["val/confusion"], found["test/confusion"]) == ([2, 6], [6]), "those of the first end are void"
    assert all(sorted(set(each)) == each for each in found.values()), found
    assert words(events, "run/about")


@pytest.mark.slow
def test_where_there_is_no_time_pictures_come_first_and_last_and_of_what_is_looked_at(train: Train) -> None:
    rare, looks = "callbacks.board.share=0.0001", ("data.validate=test", "objective=null", "data.augment.mixup=1")
    found = steps(board(train(*TINY, *looks, rare, "trainer.max_epochs=5").ok().folder))
    tags = (*OF_TEST, "net/kernels", "net/activations")
    assert found == {**{tag: [2, 10] for tag in tags}, "train/batch": [1, 3]}


def test_the_most_certain_mistakes_come_first() -> None:
    chance = torch.Generator().manual_seed(0)
    logits, labels = 3 * torch.randn(50, 4, generator=chance), torch.randint(0, 4, (50,), generator=chance)
    images = torch.arange(50.0).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)  # each says which it is
    certainty, given = logits.softmax(1).max(1)
    wrong = [n for _, n in sorted((-float(certainty[n]), n) for n in range(50) if given[n] != labels[n])]
    for most in (5, 40):
        made = Predictions(SimpleNamespace(classes="abcd", device="cpu"), mistakes=most)
        for part in [*torch.arange(50).split(7), torch.arange(0)]:  # the last as a rank without images has it
            made.update(logits[part], labels[part], images[part])
        counts = torch.bincount(4 * labels + given, minlength=16).view(4, 4)
        assert made.confusion.compute().equal(counts), "true classes by row"
        found = made.mistakes
        assert found is not None
        shown = found.certainty >= 0  # for the others it is -1
        assert found.images[shown, 0, 0, 0].tolist() == wrong[:most]
        assert found.labels[shown].tolist() == labels[wrong[:most]].tolist()
        assert found.predicted[shown].tolist() == given[wrong[:most]].tolist()


def watch() -> None:
    """Pictures at each validation on the first rank alone, which writes down how many images it draws."""
    draw = TensorBoardImages._draw_predictions

    def counted(self: TensorBoardImages, *more: Any) -> None:
        if self._waiting is not None:
            stage, _, counts, _ = self._waiting
            with Path(os.environ["COUNTS"]).open("a") as file:
                file.write(f"{os.environ['RANK']} {stage} {int(counts.sum())}\n")
        draw(self, *more)

    TensorBoardImages._draw_predictions = counted  # type: ignore[method-assign, assignment] # in this process alone


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["default", "towers"])
def test_each_image_is_counted_once(trainer: str, tmp_path: Path) -> None:
    def environment(rank: int, ranks: int, port: int) -> dict[str, str]:
        return {**rank_group(rank, ranks, port), "COUNTS": str(tmp_path / "counts")}

    run = Runs(tmp_path / "logs", ranks=2, environment=environment)
    short = ("trainer.limit_test_batches=2", "trainer.limit_train_batches=4", "trainer.max_epochs=2")
    assert run(*LENET, *short, f"trainer={trainer}", "callbacks.board.share=1.0", before=watch) == [0, 0], run.text

    assert (tmp_path / "counts").read_text().splitlines() == [*["0 val 64"] * 2, "0 test 64"]
    assert len(list(run.folder.glob("events.*"))) == 1
    found = steps(board(run.folder))
    assert set(found) == {"train/batch", *OF_VALIDATION, *OF_TEST}
    whole = trainer == "default"  # rather than parts, of which pictures of the net come at the end
    for tag in ("net/kernels", "net/activations"):
        assert found[tag] == ([4, 8] if whole else [8]), tag


def drawn(figure: Figure) -> Any:
    """uint8 (3, H, W), as TensorBoard gets it."""
    with style():
        return figure_to_image(figure)


def test_kernels_are_grey_or_coloured_and_towers_lie_below_each_other() -> None:
    for groups, channels in ((1, 1), (2, 3), (2, 5)):
        made = nn.Sequential(nn.Conv2d(channels, 64, 11), nn.Conv2d(64, 8, 3, groups=groups))
        sheet = kernels(made)
        assert sheet is not None
        grey = bool((sheet == sheet[:1]).all())
        assert grey is (channels != 3)
        white = (sheet == 1).all(0).all(1)  # rows that are a gap
        gaps = (white[1:] & ~white[:-1]).sum().item()
        assert gaps == 4, "four rows of 16 kernels"
        longest = max(len(run) for run in "".join("w" if each else " " for each in white).split())
        assert (longest > 6) is (groups == 2)
        assert sheet.shape[2] == 16 * 35 + 2
    assert kernels(nn.Linear(2, 2)) is None


@pytest.mark.parametrize(("model", "shape"), [("lenet", (1, 28, 28)), ("alexnet_owt", (3, 96, 96))])
def test_activations_of_any_net_leave_it_as_it_is(model: str, shape: tuple[int, int, int], small_nets: None) -> None:
    size = (f"data.image_size={shape[1]}", f"model.in_channels={shape[0]}")
    made = alexnet_lit.build_net(alexnet_lit.compose("data=sample", f"model={model}", *size)).train()
    before = torch.get_rng_state()
    picture = drawn(activations(made, torch.randn(shape, generator=torch.Generator().manual_seed(0))))
    assert torch.get_rng_state().equal(before)
    assert made.training
    assert not any(layer._forward_hooks for layer in made.modules())
    assert picture.shape[2] == 640
    assert picture.std() > 20


@pytest.mark.parametrize("count", [2, 1000])
def test_of_many_classes_those_that_fare_worst_are_visible(count: int) -> None:
    confusion = torch.eye(count, dtype=torch.int64) * 10
    confusion[1, 0] = 10
    figure = class_accuracy(confusion, [f"class {n} with a name that goes on and on" for n in range(count)], "accuracy")
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches][:2] == [0.5, 1.0]  # type: ignore[attr-defined] # they are rectangles
    assert len(axes.patches) == min(count, 30)
    confusion[0] = 0
    empty = class_accuracy(confusion[:2, :2], ["a", "b"], "accuracy")
    assert len(empty.axes[0].patches) == 1, "a class without images has no bar"
    assert drawn(figure).shape[1] < 700


def test_images_look_as_they_did_before_they_were_normalised_and_a_gallery_of_them_is_bounded() -> None:
    values = torch.tensor([[0, 64], [128, 255]], dtype=torch.uint8)
    for channels, mean, std in ((1, 0.3, 0.5), (3, torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.4, 0.3]))):
        pixels = cast("nn.Module", SimpleNamespace(mean=mean, std=std))
        mean, std = (torch.as_tensor(each).view(-1, 1, 1) for each in (mean, std))
        images = (values.float().expand(4, channels, 2, 2) / 255 - mean) / std
        assert visible(images, pixels, 96).equal(values[None, ..., None].expand(4, 2, 2, 3))
        assert visible(images.repeat(1, 1, 100, 100), pixels, 96).shape == (4, 96, 96, 3)
    for count in (1, 64):
        captions = [("a class with a very long name", "99%")] * count
        assert max(drawn(gallery(torch.rand(count, channels, 96, 96), pixels, captions, "title")).shape) < 1200
