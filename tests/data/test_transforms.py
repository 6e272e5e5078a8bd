"""A batch becomes what torch's own resize makes of it, image by image; and views of it are averaged in tests alone."""

from typing import Any

import pytest
import torch
import torchvision.transforms.functional as F
from lightning import Trainer
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torchvision.transforms import v2

import alexnet_lit
from alexnet_lit.data import ImageData, Preprocess
from alexnet_lit.data import transforms as module
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.lit import Classifier
from tests.callbacks.tiny import LIGHTNING_CHATTER
from tests.runs import same_with_any


@pytest.mark.parametrize(("source", "size", "enlarged"), [(28, 224, 256), (40, 64, 71)])
def test_the_middle_is_torchvisions_centre_crop(source: int, size: int, enlarged: int) -> None:
    channels = 3
    images = torch.randint(0, 256, (4, channels, source, source), dtype=torch.uint8)
    pixels = Preprocess(source_size=28, image_size=size, enlarged=enlarged, mean=0.2860, std=0.3530)
    evaluation = v2.Compose(
        [
            *(v2.ToDtype(torch.float32, scale=True), v2.Resize(enlarged, antialias=False), v2.CenterCrop(size)),
            v2.Normalize([0.2860] * channels, [0.3530] * channels),
        ]
    )
    torch.testing.assert_close(pixels(images), evaluation(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("changed", [False, True])
def test_each_channel_has_a_mean_and_a_std_of_its_own(changed: bool) -> None:
    count = 5
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    images = torch.randint(0, 256, (count, 3, 40, 30), dtype=torch.uint8)
    corners = torch.randint(-3, 9, (count, 2)) if changed else None
    color = torch.randn(count, 3) / 10 if changed else None
    size = {"source_size": 40, "image_size": 32, "enlarged": 36}

    out = Preprocess(**size, mean=mean, std=std)(images, corners=corners, color=color)
    assert out.shape == (count, 3, 32, 32)
    for channel in range(3):
        part = slice(channel, channel + 1)
        alone = Preprocess(**size, mean=mean[channel], std=std[channel])
        one = alone(images[:, part], corners=corners, color=None if color is None else color[:, part])
        torch.testing.assert_close(out[:, part], one, rtol=0, atol=1e-5)


@pytest.mark.parametrize("windows", [False, True])
def test_an_image_does_not_depend_on_its_batch_to_the_last_bit(windows: bool) -> None:
    images, corners = torch.randint(0, 256, (70, 28, 28), dtype=torch.uint8), torch.randint(-9, 40, (70, 2))
    pixels = Preprocess(source_size=28, image_size=224, enlarged=256, mean=0.2860, std=0.3530)

    def enlarge(part: slice) -> Tensor:
        large: Tensor = pixels(images[part], corners=corners[part] if windows else None)
        return large

    parts = [enlarge(slice(first, end)) for first, end in ((0, 1), (1, 7), (7, 35), (35, 70))]
    assert torch.equal(torch.cat(parts), enlarge(slice(70)))


@pytest.mark.skipif(not module.has_kernel(torch.ones(1).byte(), torch.float32), reason="no C compiler with OpenMP")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(7, 28, 28), (7, 3, 40, 21)], ids=str)
def test_the_compiled_kernel(dtype: torch.dtype, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    images, corners = torch.randint(0, 256, shape, dtype=torch.uint8), torch.randint(-80, 80, (shape[0], 2))
    color = torch.randn(shape[0], 1 if len(shape) == 3 else shape[1])
    pixels = Preprocess(source_size=28, image_size=64, enlarged=73, mean=0.2860, std=0.3530).to(dtype)
    choices: list[dict[str, Any]] = [{}, {"whole": True}, {"color": color}, {"corners": corners, "color": color}]

    compiled = [pixels(images, **choice) for choice in choices]
    monkeypatch.setattr(module, "_kernel", lambda dtype: None)  # as on a machine without a compiler

    for mine, choice in zip(compiled, choices, strict=True):
        torch.testing.assert_close(mine, pixels(images, **choice), rtol=0, atol=3e-6)


@pytest.mark.parametrize("device", ["meta", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("channels", [1, 3])
def test_another_device_makes_the_same_of_it(device: str, channels: int) -> None:
    images, corners = torch.randint(0, 256, (9, channels, 28, 40), dtype=torch.uint8), torch.randint(-9, 20, (9, 2))
    pixels = Preprocess(source_size=28, image_size=64, enlarged=73, mean=0.2860, std=0.3530)

    def enlarge(device: str) -> list[Tensor]:
        there, where = images.to(device), corners.to(device)
        pixels.to(device)
        return [pixels(there), pixels(there, corners=where), pixels(there, whole=True)]

    for ours, theirs in zip(enlarge("cpu"), enlarge(device), strict=True):
        assert (theirs.device.type, theirs.shape, theirs.dtype) == (device, ours.shape, ours.dtype)
        if device != "meta":  # where there are shapes and no values
            torch.testing.assert_close(theirs.cpu(), ours, rtol=0, atol=1e-5)


def test_gaps_and_threads_change_nothing_and_precision_is_that_of_the_module() -> None:
    images = torch.randint(0, 256, (9, 3, 40, 60), dtype=torch.uint8)
    pixels = Preprocess(source_size=28, image_size=64, enlarged=73, mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7])
    for part in (images[::2], images[..., ::2], images.mT, images[:1].expand(9, 3, 40, 60)):
        assert torch.equal(pixels(part), pixels(part.contiguous()))
    assert same_with_any(lambda: pixels(images))
    torch.testing.assert_close(make_fx(pixels)(images)(images.flip(0)), pixels(images.flip(0)))  # traced
    assert not pixels.state_dict(), "no part of a checkpoint"
    exact, half = pixels.double()(images), pixels.to(torch.bfloat16)(images)
    assert (exact.dtype, half.dtype) == (torch.float64, torch.bfloat16)
    torch.testing.assert_close(half.double(), exact, rtol=1e-2, atol=2e-2)


pytestmark = [pytest.mark.filterwarnings(chatter) for chatter in LIGHTNING_CHATTER]
SIZE, ENLARGED = 67, 77  # 67 / 0.875 = 76.6; an even margin, else torchvision's mirrored centre is another px
CROP = "data.augment.crop=0.875"
TEN_CROP = ("data.tta=ten_crop", CROP)


def made(*overrides: str) -> tuple[Trainer, Classifier, ImageData]:
    small = ("data=sample", f"data.image_size={SIZE}", "model=lenet", "data.batch_size=16")
    unused = ("logger", "enable_checkpointing", "enable_progress_bar", "use_distributed_sampler")
    off: Any = dict.fromkeys(unused, False)
    trainer = Trainer(accelerator="cpu", limit_test_batches=2, limit_val_batches=1, **off)
    return trainer, *alexnet_lit.build(alexnet_lit.compose(*small, *overrides))


def reference(images: Tensor, module: torch.nn.Module, tta: str, enlarged: int) -> Tensor:
    """Mean probabilities, an image at a time, by torchvision."""
    means = []
    for image in images[:, None] / 255:
        large = (F.resize(image, [enlarged, enlarged], antialias=False) - 0.2860) / 0.3530
        middle = F.center_crop(large, [SIZE, SIZE])
        views = {"none": [middle], "mirror": [middle, F.hflip(middle)]}.get(tta) or F.ten_crop(large, [SIZE, SIZE])
        with torch.no_grad():
            means.append(module(torch.stack(list(views))).softmax(1).mean(0))
    return torch.stack(means)


@pytest.mark.parametrize("overrides", [("data.tta=none",), ("data.tta=mirror", CROP), TEN_CROP], ids=" ".join)
def test_test_scores_the_mean_probabilities(overrides: tuple[str, ...]) -> None:
    trainer, module, data = made(*overrides)
    with torch.no_grad():  # a net that is far from sure of the same class for each view
        for parameter in module.net.parameters():
            parameter.mul_(2)

    trainer.test(module, datamodule=data, verbose=False)
    images, labels = load_sample()["test"]
    tta, enlarged = overrides[0].removeprefix("data.tta="), ENLARGED if CROP in overrides else SIZE
    mean = reference(images[:32], module.eval(), tta, enlarged)
    loss = torch.nn.functional.nll_loss(mean.log(), labels[:32])
    assert module.published["test/loss"] == pytest.approx(loss.item(), rel=1e-5)
    correct = (mean.argmax(1) == labels[:32]).double().mean()
    assert module.published["test/acc"] == pytest.approx(correct.item(), abs=0.04)


@pytest.mark.parametrize("tta", ["none", "ten_crop"])
def test_validation_and_predictions_see_the_middle(tta: str) -> None:
    trainer, module, data = made(f"data.tta={tta}", CROP)
    trainer.validate(module, datamodule=data, verbose=False)
    images, labels = (part[:16] for part in data.images["val"])
    expected = reference(images, module.eval(), "none", ENLARGED)
    loss = torch.nn.functional.nll_loss(expected.log(), labels)
    assert module.published["val/loss"] == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(module.predict(images), expected, rtol=1e-4, atol=1e-6)
