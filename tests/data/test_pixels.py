"""A batch becomes what torch's own resize makes of it, image by image."""

import pytest
import torch
import torch.nn.functional as F

from alexnet_lit.data import Pixels
from alexnet_lit.data.files import load_sample


@pytest.mark.parametrize(
    ("source", "target"), [((28, 28), 224), ((28, 28), 96), ((28, 28), 28), ((40, 21), 64), ((300, 200), 224)]
)
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_equals_interpolate(source: tuple[int, int], target: int, channels: int | None) -> None:
    shape = (4, *source) if channels is None else (4, channels, *source)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    pixels = Pixels(source_size=28, image_size=target, mean=0.2860, std=0.3530)

    values = (images if channels else images[:, None]).float() / 255
    enlarged = F.interpolate(values, size=(target, target), mode="bilinear", align_corners=False)

    torch.testing.assert_close(pixels(images), (enlarged - 0.2860) / 0.3530, rtol=0, atol=1e-5)


def test_real_images_come_out_normalised() -> None:
    train, _ = load_sample()
    out = Pixels(source_size=28, image_size=28, mean=0.2860, std=0.3530)(train.images)
    assert out.mean().abs() < 0.02
    assert (out.std() - 1).abs() < 0.02


def test_follows_the_precision_of_its_module() -> None:
    images = torch.randint(0, 256, (2, 28, 28), dtype=torch.uint8)
    pixels = Pixels(source_size=28, image_size=56, mean=0.0, std=1.0)
    exact = pixels.double()(images)
    assert exact.dtype == torch.float64
    half = pixels.to(torch.bfloat16)(images)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), exact, rtol=0, atol=1e-2)


def test_is_no_part_of_a_checkpoint() -> None:
    assert not Pixels(source_size=28, image_size=224, mean=0.0, std=1.0).state_dict()
