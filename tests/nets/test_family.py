"""The members of the AlexNet family against independent references."""

import re
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import alexnet_lit
from alexnet_lit.nets import AlexNet
from tests.nets.test_alexnet import COURSE

IMAGENET = {"in_channels": 3, "num_classes": 1000, "dropout": 0.5}


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


@pytest.mark.parametrize("switches", [{}, {"lrn": True, "dropout": 0.0, "activation": "tanh"}])
@pytest.mark.parametrize("design", ["course", "paper", "half", "owt"])
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
    net = AlexNet(**COURSE | {"design": "paper"})
    sizes = []
    for layer in net.features:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            layer.register_forward_hook(lambda _, __, out: sizes.append(out.shape[-1]))
    net(torch.zeros(1, 1, 224, 224))
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


@pytest.mark.parametrize("name", ["alexnet", "alexnet_2012", "alexnet_owt"])
def test_every_member_is_a_choice(name: str) -> None:
    net = alexnet_lit.build_net(alexnet_lit.compose(f"model={name}", "data.image_size=96"))
    assert net(torch.zeros(2, 1, 96, 96)).shape == (2, 10)
    has_lrn = any(type(layer).__name__ == "LocalResponseNorm" for layer in net.modules())
    assert has_lrn == (name == "alexnet_2012")


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("net", "takes"), [("alexnet", (1, 96, 96)), ("alexnet_owt", (1, 224, 224)), ("lenet", (1, 28, 28))]
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
