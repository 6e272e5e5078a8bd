"""The members of the AlexNet family equal independent references, and their switches switch."""

import math
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
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
IMAGENET = {"in_channels": 3, "num_classes": 1000}


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


@pytest.mark.parametrize(("init", "activation"), [("xavier", "relu"), ("kaiming", "relu"), ("kaiming", "tanh")])
def test_a_fresh_net_gives_every_class_about_the_same_chance(init: str, activation: str) -> None:
    torch.manual_seed(0)
    # The course's pixels go with the course's weights.
    scale: dict[str, Any] = {"mean": 0.0, "std": 1.0} if init == "xavier" else {}
    images, labels = real_images(8, **scale)
    net = AlexNet(**COURSE | {"init": init, "activation": activation}).eval()

    with torch.no_grad():
        loss = F.cross_entropy(net(images), labels).item()

    assert loss == pytest.approx(math.log(10), rel=0.1)


def layers(**switches: Any) -> list[str]:
    with torch.device("meta"):
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


@pytest.mark.parametrize(
    ("switches", "parameters"),
    [
        ({"design": "course"}, 46_764_746),
        ({"design": "paper"} | IMAGENET, 60_965_224),
        ({"design": "paper"}, 56_885_962),
        ({"design": "half"}, 55_730_666),
        ({"design": "owt"} | IMAGENET, 61_100_840),
    ],
)
def test_parameters(switches: dict[str, Any], parameters: int) -> None:
    with torch.device("meta"):
        net = AlexNet(**COURSE | switches)
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


def test_owt_equals_torchvisions_alexnet() -> None:
    theirs = torchvision.models.alexnet(weights=None).eval()
    ours = AlexNet(**COURSE | {"design": "owt"} | IMAGENET).eval()
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            mine.copy_(other)
    images = torch.randn(2, 3, 224, 224)

    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)
    kinds = [[type(layer).__name__ for layer in net.classifier] for net in (ours, theirs)]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize(("image_size", "layers"), [(223, 0), (224, 0), (255, 1), (96, 1), (287, 1)])
def test_owt_pools_to_six_px_where_the_map_has_another_size(image_size: int, layers: int) -> None:
    with torch.device("meta"):
        net = AlexNet(**COURSE | {"design": "owt", "image_size": image_size})
        images = torch.zeros(1, 1, image_size, image_size)
    assert [type(layer).__name__ for layer in net.features].count("AdaptiveAvgPool2d") == layers
    assert net.features(images).shape == (1, 256, 6, 6)


@pytest.mark.parametrize(
    ("design", "switches"),
    [("course", {}), ("paper", {"lrn": True, "dropout": 0.0, "activation": "tanh"}), ("half", {}), ("owt", {})],
)
def test_weights_have_the_same_names_in_every_member(design: str, switches: dict[str, Any]) -> None:
    with torch.device("meta"):
        net = AlexNet(**COURSE | {"design": design, "image_size": 96} | switches)
    layers = [f"features.conv{n}" for n in range(1, 6)] + [f"classifier.linear{n}" for n in range(6, 9)]
    assert list(net.state_dict()) == [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]


def two_towers(net: AlexNet, images: Tensor) -> Tensor:
    """The paper's figure 2 from the weights of `net`: two half nets, and what they tell each other before conv3 and the
    linear layers. (B, 1, 224, 224) -> (B, 10).
    """
    layers = {
        name.split(".")[1]: layer for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    }

    def conv(name: str, x: Tensor, tower: int) -> Tensor:
        layer = layers[name]
        half = slice(tower * len(layer.weight) // 2, (tower + 1) * len(layer.weight) // 2)
        assert isinstance(layer, nn.Conv2d)
        out = nn.functional.conv2d(x, layer.weight[half], layer.bias[half], layer.stride, layer.padding)  # type: ignore[index] # it has a bias
        return out.relu()

    def pool(x: Tensor) -> Tensor:
        return nn.functional.max_pool2d(x, 3, 2)

    towers = [pool(conv("conv1", images, tower)) for tower in (0, 1)]
    towers = [pool(conv("conv2", towers[tower], tower)) for tower in (0, 1)]
    both = torch.cat(towers, 1)
    towers = [conv("conv3", both, tower) for tower in (0, 1)]
    towers = [conv("conv4", towers[tower], tower) for tower in (0, 1)]
    towers = [pool(conv("conv5", towers[tower], tower)) for tower in (0, 1)]
    x = torch.cat(towers, 1).flatten(1)
    x = layers["linear7"](layers["linear6"](x).relu()).relu()
    logits: Tensor = layers["linear8"](x)
    return logits


def test_the_papers_net_equals_two_towers_that_meet() -> None:
    torch.manual_seed(0)
    net = AlexNet(**COURSE | {"design": "paper"}).eval()
    images = torch.randn(2, 1, 224, 224)
    torch.testing.assert_close(net(images), two_towers(net, images), rtol=1e-5, atol=1e-5)


def test_the_papers_sizes() -> None:
    sizes = []
    with torch.device("meta"):
        net, images = AlexNet(**COURSE | {"design": "paper"}), torch.zeros(1, 1, 224, 224)
    for layer in net.features:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            layer.register_forward_hook(lambda _, __, out: sizes.append(out.shape[-1]))
    net(images)
    assert sizes == [55, 27, 27, 13, 13, 13, 13, 6]


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


@pytest.mark.parametrize(
    ("net", "takes", "compiled"),
    [("alexnet_owt", (1, 96, 96), False), ("lenet", (1, 28, 28), False), ("lenet", (1, 28, 28), True)],
)
def test_images_that_do_not_fit_are_refused_with_both_shapes(net: str, takes: tuple[int, ...], compiled: bool) -> None:
    module = alexnet_lit.build_net(alexnet_lit.compose(f"model={net}", f"data.image_size={takes[-1]}")).eval()
    if compiled:
        module.compile(backend="eager")
    name, size = type(module).__name__, takes[-1]
    wrong = [torch.zeros(takes), torch.zeros(2, 3, size, size), torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, size, 2)]
    if net != "alexnet_owt":  # which pools any map to one size
        wrong.append(torch.zeros(2, 1, size + 40, size + 40))
    wrong += [torch.zeros(2, *takes, dtype=dtype) for dtype in (torch.uint8, torch.float64)]
    for images in wrong:
        line = f"{name} takes torch.float32 images (B, {str(takes)[1:-1]}), not {images.dtype} {tuple(images.shape)}"
        with pytest.raises(ValueError, match=re.escape(line)):
            module(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert module(torch.zeros(1, *takes, dtype=torch.bfloat16)).shape == (1, 10)
    module.double()
    assert module(torch.zeros(1, *takes).double()).shape == (1, 10)
