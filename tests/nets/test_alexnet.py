"""The course's AlexNet equals a plain nn.Sequential written from the course's description, and its switches switch."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import alexnet_lit
from alexnet_lit.data import Preprocess
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.nets import AlexNet

COURSE: dict[str, Any] = {
    "design": "course",
    "in_channels": 1,
    "num_classes": 10,
    "image_size": 224,
    "activation": "relu",
    "lrn": False,
    "lrn_size": 5,
    "lrn_alpha": 1e-4,
    "lrn_beta": 0.75,
    "lrn_k": 2.0,
    "lrn_reduction": "mean",
    "overlapping_pool": True,
    "dropout": 0.5,
    "init": "xavier",
    "weights": None,
    "compile": False,
}


def reference() -> nn.Sequential:
    """Dive into Deep Learning, chapter AlexNet, layer by layer."""
    return nn.Sequential(
        *(nn.Conv2d(1, 96, kernel_size=11, stride=4, padding=1), nn.ReLU(), nn.MaxPool2d(kernel_size=3, stride=2)),
        *(nn.Conv2d(96, 256, kernel_size=5, padding=2), nn.ReLU(), nn.MaxPool2d(kernel_size=3, stride=2)),
        *(nn.Conv2d(256, 384, kernel_size=3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 384, kernel_size=3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(kernel_size=3, stride=2)),
        nn.Flatten(),
        *(nn.Linear(6400, 4096), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5)),
        nn.Linear(4096, 10),
    )


def real_images(
    count: int, *, image_size: int = 224, mean: float = 0.2860, std: float = 0.3530
) -> tuple[Tensor, Tensor]:
    train, _ = load_sample()
    pixels = Preprocess(source_size=28, image_size=image_size, enlarged=image_size, mean=mean, std=std)
    return pixels(train.images[:count]), train.labels[:count]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), pytest.param(torch.float64, 1e-12, marks=pytest.mark.slow)]
)
def test_equals_the_course_net(dtype: torch.dtype, tolerance: float) -> None:
    ours, theirs = AlexNet(**COURSE).eval().to(dtype), reference().eval().to(dtype)
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.copy_(mine)
    images, labels = real_images(2)

    logits, expected = ours(images.to(dtype)), theirs(images.to(dtype))

    torch.testing.assert_close(logits, expected, rtol=tolerance, atol=tolerance)
    if dtype == torch.float64:  # in float32 the sums of a gradient differ by what the order of their terms makes
        F.cross_entropy(logits, labels).backward()
        F.cross_entropy(expected, labels).backward()
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-9, atol=1e-12)


def test_has_the_course_nets_parameters_in_layer_order() -> None:
    net = alexnet_lit.build_net(alexnet_lit.compose())

    assert sum(parameter.numel() for parameter in net.parameters()) == 46_764_746
    shapes = [tuple(parameter.shape) for parameter in net.parameters()]
    assert shapes == [tuple(parameter.shape) for parameter in reference().parameters()]


@pytest.mark.parametrize("init", ["xavier", "kaiming"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_a_fresh_net_gives_every_class_about_the_same_chance(init: str, activation: str) -> None:
    torch.manual_seed(0)
    # The course's pixels go with the course's weights.
    scale: dict[str, Any] = {"mean": 0.0, "std": 1.0} if init == "xavier" else {}
    images, labels = real_images(32, **scale)
    net = AlexNet(**COURSE | {"init": init, "activation": activation}).eval()

    with torch.no_grad():
        loss = F.cross_entropy(net(images), labels).item()

    assert loss == pytest.approx(math.log(10), rel=0.1)


def layers(**switches: Any) -> list[str]:
    net = AlexNet(**COURSE | {"image_size": 96} | switches)
    return [type(layer).__name__ for layer in net.modules() if not list(layer.children())]


def test_what_is_switched_off_is_absent() -> None:
    assert layers().count("LocalResponseNorm") == 0
    assert layers(lrn=True).count("LocalResponseNorm") == 2
    assert layers().count("Dropout") == 2
    assert layers(dropout=0.0).count("Dropout") == 0
    assert layers(activation="tanh").count("Tanh") == 7
    assert layers(activation="tanh").count("ReLU") == 0


def test_normalisation_stands_between_activation_and_pooling() -> None:
    names = layers(lrn=True)
    # It takes the positive part itself.
    assert names[:4] == ["StridedConv2d", "LocalResponseNorm", "MaxPool2d", "Conv2d"]
    names = layers(lrn=True, activation="tanh")
    assert names[:5] == ["StridedConv2d", "Tanh", "LocalResponseNorm", "MaxPool2d", "Conv2d"]


def test_normalisation_has_the_constants_that_are_given() -> None:
    constants = {"lrn_size": 3, "lrn_alpha": 1e-2, "lrn_beta": 0.5, "lrn_k": 1.0}
    net = AlexNet(**COURSE | {"image_size": 96, "lrn": True, "overlapping_pool": False} | constants)
    images, _ = real_images(2, image_size=96)

    conv = net.features[0]
    expected = F.max_pool2d(F.local_response_norm(conv(images).relu(), 3, alpha=1e-2, beta=0.5, k=1.0), 2)

    torch.testing.assert_close(net.features[:3](images), expected)


def test_windows_without_overlap_are_two_wide() -> None:
    images, _ = real_images(2, image_size=96)
    net = AlexNet(**COURSE | {"image_size": 96, "overlapping_pool": False})

    windows = {layer.kernel_size for layer in net.modules() if isinstance(layer, nn.MaxPool2d)}

    assert windows == {2}
    assert net(images).shape == (2, 10)


@pytest.mark.parametrize(("overlapping_pool", "smallest"), [(True, 65), (False, 37)])
def test_says_the_smallest_size_that_it_takes(overlapping_pool: bool, smallest: int) -> None:
    switches = COURSE | {"overlapping_pool": overlapping_pool}
    with pytest.raises(ValueError, match=f"image_size={smallest - 1} leaves nothing .* use {smallest} or more"):
        AlexNet(**switches | {"image_size": smallest - 1})
    net = AlexNet(**switches | {"image_size": smallest})
    assert net(torch.zeros(1, 1, smallest, smallest)).shape == (1, 10)


def test_training_reaches_every_weight() -> None:
    images, labels = real_images(8, image_size=96)
    net = AlexNet(**COURSE | {"image_size": 96, "lrn": True})

    F.cross_entropy(net(images), labels).backward()

    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in net.parameters())
