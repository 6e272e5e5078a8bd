"""Pictures of any net, number of classes and channels: what is where in them, and that they stay small."""

from types import SimpleNamespace
from typing import cast

import pytest
import torch
from torch import nn

import alexnet_lit
from alexnet_lit.callbacks.pictures import activations, class_accuracy, gallery, kernels, rendered, visible


def test_kernels_are_grey_or_coloured_and_towers_lie_below_each_other() -> None:
    class Net(nn.Sequential):
        pass

    for groups, channels in ((1, 1), (2, 3), (2, 5)):
        made = Net(nn.Conv2d(channels, 64, 11), nn.Conv2d(64, 8, 3, groups=groups))
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


def test_each_kernel_has_its_own_scale() -> None:
    made = nn.Conv2d(1, 2, 3)
    with torch.no_grad():
        made.weight[0] = torch.arange(9.0).view(1, 3, 3)
        made.weight[1] = 1e-3 * torch.arange(9.0).view(1, 3, 3)
    sheet = kernels(nn.Sequential(made))
    assert sheet is not None
    for left in (2, 37):
        assert [float(sheet[0, 2, left]), float(sheet[0, 34, left + 32])] == pytest.approx([0, 1])
    assert kernels(nn.Sequential(nn.Linear(2, 2))) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "channels"), [("model=lenet data.image_size=28", 1), ("model=alexnet_owt data.image_size=96", 3)]
)
def test_activations_of_any_net_leave_it_as_it_is(text: str, channels: int) -> None:
    config = alexnet_lit.compose("data=sample", *text.split(), f"model.in_channels={channels}")
    made = alexnet_lit.build_net(config).train()
    size = 28 if "lenet" in text else 96
    before = torch.get_rng_state()
    picture = rendered(activations(made, torch.randn(channels, size, size, generator=torch.Generator().manual_seed(0))))
    assert torch.get_rng_state().equal(before)
    assert made.training
    assert not any(layer._forward_hooks for layer in made.modules())
    assert picture.shape[1] == 640
    assert picture.float().std() > 20


@pytest.mark.parametrize("count", [2, 1000])
def test_of_many_classes_those_that_fare_worst_are_visible(count: int) -> None:
    confusion = torch.eye(count, dtype=torch.int64) * 10
    confusion[1, 0] = 10
    figure = class_accuracy(confusion, [f"class {n} with a name that goes on and on" for n in range(count)], "accuracy")
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches][:2] == [0.5, 1.0]  # type: ignore[attr-defined] # they are rectangles
    assert len(axes.patches) == min(count, 30)
    assert rendered(figure).shape[0] < 700


def test_a_class_without_images_has_no_bar() -> None:
    assert len(class_accuracy(torch.tensor([[1, 1], [0, 0]]), ["a", "b"], "accuracy").axes[0].patches) == 1


def test_images_look_as_they_did_before_they_were_normalised() -> None:
    values = torch.tensor([[0, 64], [128, 255]], dtype=torch.uint8)
    for channels, mean, std in ((1, 0.3, 0.5), (3, torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.4, 0.3]))):
        pixels = cast("nn.Module", SimpleNamespace(mean=mean, std=std))
        mean, std = (torch.as_tensor(each).view(-1, 1, 1) for each in (mean, std))
        images = (values.float().expand(4, channels, 2, 2) / 255 - mean) / std
        assert visible(images, pixels, 96).equal(values[None, ..., None].expand(4, 2, 2, 3))
        assert visible(images.repeat(1, 1, 100, 100), pixels, 96).shape == (4, 96, 96, 3)


@pytest.mark.parametrize("count", [1, 64])
def test_a_gallery_of_any_size_is_bounded(count: int) -> None:
    images = torch.randint(0, 255, (count, 96, 96, 3), dtype=torch.uint8)
    picture = rendered(gallery(images, [("a class with a very long name", "another 99%")] * count, "title"))
    assert max(picture.shape) < 1200
