"""What augmentation does to a batch, against torchvision on single images, and that random values alone decide it."""

from statistics import NormalDist
from typing import Any

import pytest
import torch
import torchvision.transforms.functional as F
from torch import Tensor

import alexnet_lit
from alexnet_lit.data import Augment, ImageData, Preprocess

SIZE, ENLARGED = 64, 73  # 64 / 0.875 = 73.1
MEAN, STD = 0.2860, 0.3530
OFF: dict[str, Any] = {"mirror": False, "crop": 1.0, "color_axes": [[0.3530]]}
OFF |= dict.fromkeys(("translate", "color", "erase", "mixup", "cutmix"), 0.0)
ALL: dict[str, Any] = {"mirror": True, "crop": 0.875, "translate": 0.25, "color": 0.1, "erase": 0.5}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def augment(**switches: Any) -> Augment:
    return Augment(**{**OFF, **switches})


def pixels(switches: Augment) -> Preprocess:
    return Preprocess(source_size=28, image_size=SIZE, enlarged=switches.enlarged(SIZE), mean=MEAN, std=STD)


PIXELS = pixels(augment())


def change(switches: Augment, images: Tensor, chances: Tensor) -> Tensor:
    return switches(images, chances, pixels(switches))


def pictures(count: int, *shape: int) -> Tensor:
    return torch.randint(0, 256, (count, *(shape or (28, 28))), dtype=torch.uint8)


def values(switches: Augment, count: int) -> Tensor:
    return torch.rand(count, switches.num_random_values)


def resize(image: Tensor, size: int) -> Tensor:
    """One image (C, H, W) as torchvision enlarges it, values 0..1."""
    large: Tensor = F.resize(image / 255, [size, size], antialias=False)
    return large


def normal(image: Tensor) -> Tensor:
    return (image - MEAN) / STD


@pytest.mark.parametrize("shape", [(28, 28), (3, 40, 21)], ids=str)
def test_a_mirrored_crop_is_torchvisions(shape: tuple[int, ...]) -> None:
    images, switches = pictures(20, *shape), augment(mirror=True, crop=0.875)
    chances = values(switches, 20)

    out = change(switches, images, chances)

    for image, chance, got in zip(images.reshape(20, -1, *shape[-2:]), chances.tolist(), out, strict=True):
        turned = F.hflip(image) if chance[0] < 0.5 else image
        top, left = (int(10 * share) for share in chance[1:])
        expected = normal(F.crop(resize(turned, ENLARGED), top, left, SIZE, SIZE))
        torch.testing.assert_close(got, expected, rtol=0, atol=2e-6)


def test_a_crop_and_a_shift_add_up_and_black_comes_in() -> None:
    images, switches = pictures(20), augment(crop=0.875, translate=0.125)
    chances = values(switches, 20)
    out = change(switches, images, chances)
    for image, chance, got in zip(images, chances.tolist(), out, strict=True):
        top, left = (int(10 * a) + int(17 * b) - 8 for a, b in zip(chance[:2], chance[2:], strict=True))
        padded = F.pad(resize(image[None], ENLARGED), [8])
        torch.testing.assert_close(got, normal(F.crop(padded, top + 8, left + 8, SIZE, SIZE)), rtol=0, atol=2e-6)


def test_colour_moves_all_pixels_of_an_image_along_the_axes() -> None:
    axes = [[0.3, 0.2, 0.1], [0.05, -0.05, 0.02]]
    images, switches = pictures(20, 3, 28, 28), augment(color=0.1, color_axes=axes, crop=0.875)
    plain = augment(crop=0.875)
    chances = values(switches, 20)

    out = change(switches, images, chances)

    before = change(plain, images, chances[:, : plain.num_random_values])
    for one, other, chance in zip(out, before, chances.tolist(), strict=True):
        first, second = (0.1 * NormalDist().inv_cdf(share) for share in chance[-2:])
        for channel in range(3):
            expected = (first * axes[0][channel] + second * axes[1][channel]) / STD
            moved = one[channel] - other[channel]
            torch.testing.assert_close(moved, torch.full_like(moved, expected), rtol=0, atol=1e-5)


def test_a_rectangle_is_erased_as_torchvision_does() -> None:
    images, switches = pictures(200), augment(erase=1.0)

    out = change(switches, images, values(switches, 200))

    for image, got in zip(images, out, strict=True):
        before = normal(resize(image[None], SIZE))
        top, left, height, width = rectangle(got == 0)
        expected = F.erase(before, top, left, height, width, torch.zeros(1))
        torch.testing.assert_close(got, expected, rtol=0, atol=2e-6)


def rectangle(mask: Tensor) -> tuple[int, int, int, int]:
    rows, columns = (mask[0].any(axis).nonzero().flatten().tolist() for axis in (1, 0))
    return rows[0], columns[0], len(rows), len(columns)


def test_erased_rectangles_are_those_of_the_paper() -> None:
    white, switches = torch.full((2000, 28, 28), 255, dtype=torch.uint8), augment(erase=0.5)
    erased = [mask for mask in change(switches, white, values(switches, 2000)) == 0 if mask.any()]
    assert 0.45 < len(erased) / 2000 < 0.55
    _, _, height, width = torch.tensor([rectangle(mask) for mask in erased]).double().unbind(1)
    areas, aspects = height * width / SIZE**2, height / width
    assert 0.015 < areas.min() < 0.04
    assert 0.36 < areas.max() < 0.41
    assert abs(areas.mean() - 0.21) < 0.01, "uniform from 0.02 to 0.4"
    assert 0.25 < aspects.min() < 0.4
    assert 2.8 < aspects.max() < 3.7


def test_the_ends_of_the_random_values_are_within_the_image() -> None:
    images, switches = pictures(2), augment(**ALL)
    least, most, rounded_up = (
        change(switches, images, torch.full((2, switches.num_random_values), edge)) for edge in (0, 1 - 2**-24, 1)
    )
    for out in (least, most):
        assert out.isfinite().all()
        assert out.abs().max() < 5
    torch.testing.assert_close(rounded_up, most, rtol=0, atol=1e-6)  # as half precision rounds


def test_what_happens_to_an_image_does_not_depend_on_its_batch() -> None:
    switches = augment(**ALL)
    images, chances = pictures(24), values(switches, 24)
    whole = change(switches, images, chances)
    assert not torch.equal(whole, pixels(switches)(images))

    singles = [change(switches, images[n : n + 1], chances[n : n + 1]) for n in range(24)]

    torch.testing.assert_close(torch.cat(singles), whole, rtol=0, atol=1e-6)


def test_switched_off_leaves_every_bit() -> None:
    images, nothing = pictures(8), augment()
    assert nothing.num_random_values == 0
    assert torch.equal(nothing(images, torch.rand(8, 0), PIXELS), PIXELS(images))
    mirror = augment(mirror=True)
    turned = torch.tensor([[0.0]] * 8)
    assert mirror.num_random_values == 1
    assert torch.equal(mirror(images, turned, PIXELS), PIXELS(images.flip(-1)))
    assert torch.equal(mirror(images, 1 - turned, PIXELS), PIXELS(images))
    evaluated = data(*EVERYTHING, "data.augment.mixup=0.4")
    batch = next(iter(evaluated.val_dataloader()))
    out = evaluated.on_after_batch_transfer(batch, 0)
    assert torch.equal(out.images, evaluated.pixels(batch.images))
    assert out.mixed_in is None


def data(*overrides: str) -> ImageData:
    _, data = alexnet_lit.build(alexnet_lit.compose("data=sample", "model=lenet", "data.image_size=32", *overrides))
    data.setup("fit")
    return data


EVERYTHING = [f"data.augment.{key}={value}".lower() for key, value in ALL.items()]


def test_an_image_is_changed_by_seed_epoch_and_image_alone() -> None:
    def epoch(number: int, *overrides: str) -> Tensor:
        changed = data("data.train_size=60", "data.val_size=0", "objective=null", *EVERYTHING, *overrides)
        loader = changed.train_dataloader()
        loader.sampler.set_epoch(number)
        images = torch.cat([changed.on_after_batch_transfer(batch, 0).images for batch in loader])
        return images[loader.sampler.indices().argsort()]

    first = epoch(3, "data.batch_size=60")
    torch.testing.assert_close(first, epoch(3, "data.batch_size=7"), rtol=0, atol=1e-6)
    assert not torch.allclose(first, epoch(4, "data.batch_size=60"), atol=0.01)
    assert not torch.allclose(first, epoch(3, "data.batch_size=60", "seed=1"), atol=0.01)
