"""The nets equal independent references, and their switches switch."""

import math
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import alexnet_lit
from alexnet_lit.config import to_plain
from alexnet_lit.data import Preprocess
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.nets import AlexNet, LeNet
from alexnet_lit.tools.bench.step import course_net

COURSE: dict[str, Any] = to_plain(alexnet_lit.compose("data=sample"))["model"]
COURSE |= {"in_channels": 1, "num_classes": 10, "image_size": 224}
del COURSE["_target_"]
IMAGENET = {"in_channels": 3, "num_classes": 1000}


def real_images(count: int, *, size: int = 224, mean: float = 0.2860, std: float = 0.3530) -> tuple[Tensor, Tensor]:
    images, labels = load_sample()["train"]
    pixels = Preprocess(source_size=28, image_size=size, enlarged=size, mean=mean, std=std)
    return pixels(images[:count]), labels[:count]


def test_equals_the_course_net() -> None:
    ours, theirs = AlexNet(**COURSE).eval().double(), course_net().eval().double()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    images, labels = real_images(2)

    logits, expected = ours(images.double()), theirs(images.double())
    torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)
    F.cross_entropy(logits, labels).backward()
    F.cross_entropy(expected, labels).backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("init", "activation"), [("xavier", "relu"), ("kaiming", "tanh")])
def test_a_fresh_net_gives_every_class_about_the_same_chance(init: str, activation: str) -> None:
    torch.manual_seed(0)
    # The course's pixels go with the course's weights.
    scale: dict[str, Any] = {"mean": 0.0, "std": 1.0} if init == "xavier" else {}
    images, labels = real_images(8, **scale)
    net = AlexNet(**COURSE | {"init": init, "activation": activation}).eval()

    with torch.no_grad():
        loss = F.cross_entropy(net(images), labels).item()
    assert loss == pytest.approx(math.log(10), rel=0.1)


def test_what_is_switched_off_is_absent_and_normalisation_stands_before_pooling() -> None:
    def layers(**switches: Any) -> list[str]:
        with torch.device("meta"):
            net = AlexNet(**COURSE | {"image_size": 96} | switches)
        return [type(layer).__name__ for layer in net.modules() if not list(layer.children())]

    assert (layers().count("LocalResponseNorm"), layers().count("Dropout")) == (0, 2)
    assert layers(dropout=0.0).count("Dropout") == 0
    names = layers(lrn=True)  # which takes the positive part itself
    assert names[:4] == ["StridedConv2d", "LocalResponseNorm", "MaxPool2d", "Conv2d"]
    names = layers(lrn=True, activation="tanh")
    assert names[:5] == ["StridedConv2d", "Tanh", "LocalResponseNorm", "MaxPool2d", "Conv2d"]
    assert (names.count("LocalResponseNorm"), names.count("Tanh"), names.count("ReLU")) == (2, 7, 0)


@pytest.mark.parametrize(("overlapping_pool", "smallest"), [(True, 65), (False, 37)])
def test_says_the_smallest_size_that_it_takes(overlapping_pool: bool, smallest: int) -> None:
    switches = COURSE | {"overlapping_pool": overlapping_pool}
    with pytest.raises(ValueError, match=f"image_size={smallest - 1} leaves nothing .* use {smallest} or more"):
        AlexNet(**switches | {"image_size": smallest - 1})
    net = AlexNet(**switches | {"image_size": smallest})
    assert net(torch.zeros(1, 1, smallest, smallest)).shape == (1, 10)


@pytest.mark.parametrize(
    ("switches", "parameters"),
    [({"design": "paper"}, 56_885_962), ({"design": "half"}, 55_730_666), ({"design": "owt"} | IMAGENET, 61_100_840)],
)
def test_parameters(switches: dict[str, Any], parameters: int) -> None:
    with torch.device("meta"):
        net = AlexNet(**COURSE | switches)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


def test_owt_equals_torchvisions_alexnet() -> None:
    theirs = torchvision.models.alexnet(weights=None).eval()
    ours = AlexNet(**COURSE | {"design": "owt"} | IMAGENET).eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 224, 224)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)
    kinds = [[type(layer).__name__ for layer in net.classifier] for net in (ours, theirs)]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize(("image_size", "layers"), [(224, 0), (255, 1), (96, 1)])
def test_owt_pools_to_six_px_where_the_map_has_another_size(image_size: int, layers: int) -> None:
    with torch.device("meta"):
        net = AlexNet(**COURSE | {"design": "owt", "image_size": image_size})
        images = torch.zeros(1, 1, image_size, image_size)
    assert [type(layer).__name__ for layer in net.features].count("AdaptiveAvgPool2d") == layers
    assert net.features(images).shape == (1, 256, 6, 6)


@pytest.mark.parametrize("design", ["paper", "owt"])
def test_weights_have_the_same_names_in_every_member(design: str) -> None:
    switches: dict[str, Any] = {"lrn": True, "dropout": 0.0, "activation": "tanh"} if design == "paper" else {}
    with torch.device("meta"):
        net = AlexNet(**COURSE | {"design": design, "image_size": 96} | switches)
    layers = [f"features.conv{n}" for n in range(1, 6)] + [f"classifier.linear{n}" for n in range(6, 9)]
    assert list(net.state_dict()) == [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]


@pytest.mark.parametrize("init", ["paper_2012", "code_2012", "caffe"])
def test_inits_of_2012(init: str) -> None:
    net = AlexNet(**COURSE | {"design": "paper", "init": init})
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]

    deviations = [round(layer.weight.std().item(), 4) for layer in layers]
    biases = [set(layer.bias.tolist()) for layer in layers]  # type: ignore[union-attr] # all have one

    three_to_five = 0.03 if init == "code_2012" else 0.01
    hidden = 0.005 if init == "caffe" else 0.01
    expected = [0.01, 0.01, *[three_to_five] * 3, hidden, hidden, 0.01]
    assert deviations == pytest.approx(expected, rel=0.05)
    one = {0.1 if init == "caffe" else 1.0}
    assert [value != {0.0} for value in biases] == [False, True, False, True, True, True, True, False]
    assert {round(value, 6) for values in biases for value in values} == {0.0} | one


@pytest.mark.parametrize("compiled", [False, True])
def test_images_that_do_not_fit_are_refused_with_both_shapes(compiled: bool) -> None:
    net = alexnet_lit.build_net(alexnet_lit.compose("model=lenet", "data.image_size=28")).eval()
    if compiled:
        net.compile(backend="eager")
    for shape in ((1, 28, 28), (2, 3, 28, 28), (2, 1, 8, 8), (2, 1, 28, 2), (2, 1, 68, 68)):
        with pytest.raises(ValueError, match=re.escape(f"LeNet takes images (B, 1, 28, 28), not {shape}")):
            net(torch.zeros(shape))


def lenet(activation: type[nn.Module], pool: int, *, norm: bool = False, dropout: float = 0.0) -> nn.Sequential:
    """Dive into Deep Learning, chapter LeNet, layer by layer; with normalisation and dropout, which it hasn't."""
    norms = [nn.LocalResponseNorm(3, 0.01, 0.5, 1.0) if norm else nn.Identity() for _ in range(2)]
    return nn.Sequential(
        *(nn.Conv2d(1, 6, kernel_size=5, padding=2), activation(), norms[0], nn.AvgPool2d(pool, stride=2)),
        *(nn.Conv2d(6, 16, kernel_size=5), activation(), norms[1], nn.AvgPool2d(pool, stride=2)),
        *(nn.Flatten(), nn.Linear(400 if pool == 2 else 256, 120), activation(), nn.Dropout(dropout)),
        *(nn.Linear(120, 84), activation(), nn.Dropout(dropout), nn.Linear(84, 10)),
    )


LENET_NORM = "lrn=true lrn_size=3 lrn_alpha=0.01 lrn_beta=0.5 lrn_k=1.0 lrn_reduction=mean"


@pytest.mark.parametrize(
    ("switches", "theirs"),
    [
        ("", lenet(nn.Sigmoid, pool=2)),
        (f"{LENET_NORM} overlapping_pool=true dropout=0.5 activation=tanh", lenet(nn.Tanh, 3, norm=True, dropout=0.5)),
    ],
    ids=["course", "every idea"],
)
def test_lenet_equals_the_course_net(switches: str, theirs: nn.Sequential) -> None:
    keys = [f"model.{switch}" for switch in switches.split()]
    ours = alexnet_lit.build_net(alexnet_lit.compose("model=lenet", "data.image_size=28", *keys))
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    images = torch.randn(3, 1, 28, 28)
    assert isinstance(ours, LeNet)
    names = ["features.conv1", "features.conv2", "classifier.linear3", "classifier.linear4", "classifier.linear5"]
    assert list(ours.state_dict()) == [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]
    logits = []
    for net in (ours, theirs):
        torch.manual_seed(0)  # the same units are dropped
        logits.append(net(images))
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-5, atol=1e-5)
