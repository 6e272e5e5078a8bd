"""Trained weights; torchvision's net is the reference."""

import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

import alexnet_lit
from alexnet_lit.errors import UserError
from alexnet_lit.nets import AlexNet, weights
from alexnet_lit.nets.weights import copy_weights
from tests.nets.test_alexnet import COURSE

COLOUR: dict[str, Any] = COURSE | {"design": "owt", "in_channels": 3, "num_classes": 7}
RUN = ("model=alexnet_owt", "model.weights=imagenet", "data=sample", "data.image_size=96")


def small_state() -> dict[str, Tensor]:
    """A state dict of a small net for three channels and seven classes, with torchvision's names."""
    with torch.device("meta"):
        names = torchvision.models.alexnet(weights=None).state_dict()
    state = AlexNet(**COLOUR | {"init": "kaiming"}).state_dict()
    torch.nn.init.normal_(state["classifier.linear8.weight"])  # kaiming leaves it at 0
    return dict(zip(names, state.values(), strict=True))


@pytest.fixture
def published(small_nets: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small state dict at the address of torchvision's; nothing has been downloaded yet."""
    assert torchvision.models.AlexNet_Weights.IMAGENET1K_V1.url == weights.IMAGENET
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    torch.save(small_state(), tmp_path / "state")
    name = f"alexnet-owt-{hashlib.sha256((tmp_path / 'state').read_bytes()).hexdigest()[:8]}.pth"
    file = (tmp_path / "state").rename(tmp_path / name)
    monkeypatch.setattr(weights, "IMAGENET", file.as_uri())
    return file


def test_imagenets_are_downloaded_once_and_a_checkpoint_asks_for_none(published: Path, tmp_path: Path) -> None:
    state = torch.load(published, weights_only=True)
    net = AlexNet(**COLOUR | {"weights": "imagenet"})
    assert all(torch.equal(mine, other) for mine, other in zip(net.parameters(), state.values(), strict=True))
    published.unlink()
    module, _ = alexnet_lit.build(alexnet_lit.compose(*RUN))
    assert torch.equal(module.net.get_parameter("features.conv2.weight"), state["features.3.weight"])

    shutil.rmtree(tmp_path / "torch")
    checkpoint = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    torch.save(checkpoint, tmp_path / "best.ckpt")
    loaded = alexnet_lit.load(tmp_path / "best.ckpt")
    again = alexnet_lit.build_net(alexnet_lit.compose(*RUN, f"model.weights={tmp_path / 'best.ckpt'}"))
    assert all(torch.equal(*pair) for pair in zip(again.parameters(), module.net.parameters(), strict=True))
    resumed, _ = alexnet_lit.build(alexnet_lit.compose(*RUN, f"ckpt={tmp_path}"))
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, module.state_dict()[name])
    for each in (module, loaded, resumed):
        assert each.hparams["config"]["model"]["weights"] == "imagenet"


@pytest.mark.parametrize("fault", ["No such file", "invalid hash value"])
def test_a_download_that_fails_is_one_readable_line(fault: str, published: Path, tmp_path: Path) -> None:
    published.unlink()
    if fault == "invalid hash value":
        published.write_text("<html>please log in</html>")

    with pytest.raises(UserError) as caught:
        alexnet_lit.build(alexnet_lit.compose(*RUN))

    start, end = "model: weights=imagenet: can't be read (", f"download {weights.IMAGENET} elsewhere and say model."
    assert re.fullmatch(rf"{re.escape(start)}.*{fault}.*\): {re.escape(end)}weights=<file>", str(caught.value))
    assert not [path for path in (tmp_path / "torch").rglob("*") if path.is_file()]


def test_other_numbers_of_channels_and_classes_fit_too(small_nets: None) -> None:
    """Grey pictures look as they do in colour; the last layer is the net's own."""
    state, images = small_state(), torch.randn(2, 1, 224, 224)
    colour, grey = (AlexNet(**COLOUR | {"in_channels": channels, "num_classes": 10}).eval() for channels in (3, 1))
    before = grey.get_parameter("classifier.linear8.weight").detach().clone()
    for net in (colour, grey):
        copy_weights(net, state)
    assert torch.equal(grey.get_parameter("classifier.linear8.weight"), before)
    colour.get_submodule("classifier.linear8").load_state_dict(grey.get_submodule("classifier.linear8").state_dict())
    torch.testing.assert_close(grey(images), colour(images.expand(2, 3, 224, 224)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"classifier.6.bias": None}, r"15 tensors for the net's 16 parameters: use a .ckpt file"),
        ({"features.3.weight": torch.zeros(3, 3)}, r"features.3.weight \(3, 3\) .*conv2.weight \(24, 8, 5, 5\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_is_named(change: dict[str, Tensor | None], line: str, small_nets: None) -> None:
    state = {name: tensor for name, tensor in (small_state() | change).items() if tensor is not None}
    net = AlexNet(**COLOUR)
    before = [parameter.clone() for parameter in net.parameters()]
    with pytest.raises(ValueError, match=line):
        copy_weights(net, state)
    assert all(torch.equal(mine, was) for mine, was in zip(net.parameters(), before, strict=True))


def test_a_file_of_something_else_is_refused(tmp_path: Path, small_nets: None) -> None:
    run, text = tmp_path / "last.ckpt", tmp_path / "notes.txt"
    torch.save({"state_dict": {}, "epoch": 1}, run)
    text.write_text("alexnet")
    for file, why in ((run, "0 tensors for the net's 16 parameters"), (text, "can't be read")):
        with pytest.raises(ValueError, match=rf"weights={file}: {why}.*: use a .ckpt file of a run, or a state dict"):
            AlexNet(**COLOUR | {"weights": str(file)})
