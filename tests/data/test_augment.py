"""What augmentation and mixing do to a batch and its loss, against torchvision; random values alone decide it."""

from collections.abc import Iterator, Sequence
from itertools import islice
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision.transforms.functional as F
from torch import Tensor
from torchvision.transforms import v2

import alexnet_lit
from alexnet_lit.data import Augment, Batch, ImageData, Preprocess
from alexnet_lit.data.augment import Mix
from alexnet_lit.data.loader import EpochSampler
from tests.pictures import data

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
    return Preprocess(source_size=28, image_size=SIZE, enlarged=round(SIZE / switches.crop), mean=MEAN, std=STD)


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
    edges = (torch.full((2, switches.num_random_values), edge) for edge in (0, 1 - 2**-24, 1))
    least, most, rounded_up = (change(switches, images, edge) for edge in edges)
    for out in (least, most):
        assert out.isfinite().all()
        assert out.abs().max() < 5
    torch.testing.assert_close(rounded_up, most, rtol=0, atol=1e-6)  # as half precision rounds


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
    off = Mix(mixup=0.0, cutmix=0.0)
    assert (off.num_random_values, off.betas, off.together) == (0, (), 1)
    for mix in (off, BOTH):
        assert mix(batch) is batch


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


SIDE = 16
MIXUP, CUTMIX = Mix(mixup=0.4, cutmix=0.0), Mix(mixup=0.0, cutmix=1.0)
BOTH = Mix(mixup=0.4, cutmix=1.0)


def sampler(size: int, num_random_values: int, betas: tuple[float, ...]) -> EpochSampler:
    return EpochSampler(size, seed=3, shuffle=True, num_random_values=num_random_values, betas=betas)


def batch_of(mix: Mix, count: int, *, channels: int = 1) -> Batch:
    # Other switches have two columns in front.
    values = sampler(count, 2 + mix.num_random_values, mix.betas).random_values()
    return Batch(torch.randn(count, channels, SIDE, SIDE), torch.randint(10, (count,)), values, count)


def mixed(mix: Mix, batch: Batch) -> Batch:
    """Mixes a copy, as the images of the batch itself are changed in place."""
    return mix(batch._replace(images=batch.images.clone()))


def soft(batch: Batch) -> Tensor:
    """The labels as shares of ten classes: (B, 10)."""
    assert batch.mixed_in is not None
    others, shares = batch.mixed_in
    assert (shares <= 0.5).all()
    first, second = (torch.nn.functional.one_hot(labels, 10).float() for labels in (batch.labels, others))
    return first.lerp(second, shares[:, None])


def torchvisions(kind: Any, images: Tensor, labels: Tensor, kept: float, places: Sequence[float] = ()) -> Any:
    """Its v2.MixUp or v2.CutMix with these random values."""
    transform, left = kind(num_classes=10), iter(places)
    transform.__dict__["_dist"] = SimpleNamespace(sample=lambda _: kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randint", lambda most, size: torch.full(size, int(next(left) * most)))
        return transform(images, labels)


def references(mix: Mix, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
    """Each image and its soft label, mixed by torchvision in a batch of its pair."""
    for number, values in enumerate(batch.random_values[:, 2:].tolist()):
        pair = slice(number // 2 * 2, number // 2 * 2 + 2)
        images, labels = batch.images[pair], batch.labels[pair]
        if mix is MIXUP or (mix is BOTH and values[2] < 0.5):
            outcome = torchvisions(v2.MixUp, images, labels, values[-len(mix.betas)])
        else:
            outcome = torchvisions(v2.CutMix, images, labels, values[-1], (values[1], values[0]))
        yield outcome[0][number % 2], outcome[1][number % 2]


@pytest.mark.parametrize("mix", [MIXUP, CUTMIX, BOTH], ids=["mixup", "cutmix", "both"])
def test_a_pair_is_mixed_as_torchvision_does(mix: Mix) -> None:
    batch = batch_of(mix, 60, channels=3)
    out = mixed(mix, batch)
    for image, label, (expected, shares) in zip(out.images, soft(out), references(mix, batch), strict=True):
        torch.testing.assert_close(image, expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(label, shares, rtol=0, atol=1e-6)
    assert not torch.equal(out.images, batch.images)
    odd = mixed(mix, batch_of(mix, 7))
    assert soft(odd)[-1].max() == 1, "an odd last image stays as it is"


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_come_from_a_beta_distribution(alpha: float) -> None:
    _, first, second = sampler(20_000, 1, (alpha, 2 * alpha)).random_values().double().unbind(1)
    for shares, parameter in ((first, alpha), (second, 2 * alpha)):
        assert abs(shares.mean() - 0.5) < 0.01
        assert shares.var().item() == pytest.approx(1 / (4 * (2 * parameter + 1)), rel=0.05)
        assert ((shares >= 0) & (shares <= 1)).all()
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.03


def mixing_data() -> ImageData:
    switches = ("data.augment.mixup=0.4", "data.augment.cutmix=1", "data.augment.crop=0.875", "data.batch_size=12")
    return data("data.train_size=61", "data.val_size=0", "objective=null", *switches)


def epoch(data: ImageData, *, number: int = 3, rank: int = 0, world_size: int = 1, skip: int = 0) -> list[Batch]:
    """The batches that a rank trains on; all behind the first `skip` by a loader that takes their number up."""
    loader = data.train_dataloader()
    loader.rank, loader.world_size = rank, world_size
    loader.sampler.set_epoch(number)
    loader.load_state_dict({"epoch": number, "batches": skip})
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def test_pairs_stay_together_on_any_number_of_ranks() -> None:
    mixing = mixing_data()
    whole = epoch(mixing)
    assert not torch.equal(epoch(mixing, number=4)[0].images, whole[0].images)
    for batch, again in zip(whole[2:], epoch(mixing, skip=2), strict=True):  # resumed in the middle of an epoch
        assert torch.equal(batch.images, again.images)
    for world_size in (2, 3):
        ranks = [epoch(mixing, rank=rank, world_size=world_size) for rank in range(world_size)]
        for number, batch in enumerate(whole):
            parts = [rank[number] for rank in ranks]
            assert {part.total for part in parts} == {len(batch.labels)}
            assert sum(len(part.labels) for part in parts) == len(batch.labels)
            for rank, part in enumerate(parts):
                mine = torch.arange(len(batch.labels)) // 2 % world_size == rank
                torch.testing.assert_close(part.images, batch.images[mine], rtol=0, atol=1e-6)
                assert torch.equal(soft(part), soft(batch)[mine])


def test_the_loss_is_that_of_soft_labels_and_the_larger_share_is_right() -> None:
    module, _ = alexnet_lit.build(alexnet_lit.compose("data=sample", "model=lenet", "data.image_size=32"))
    two = {"rank": 0, "num_replicas": 2}
    module._trainer = SimpleNamespace(distributed_sampler_kwargs=two)  # type: ignore[assignment] # all that is asked
    for parameter in module.net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    batches = epoch(mixing_data(), world_size=2)
    batch = next(islice(batches, 1, None))

    loss = module.training_step(batch, 1)

    logits = module(batch.images)
    torch.testing.assert_close(loss, 2 / 12 * torch.nn.functional.cross_entropy(logits, soft(batch), reduction="sum"))
    right = (logits.argmax(1) == soft(batch).argmax(1)).double().mean()
    assert module.scores["train"].compute()["acc"] == pytest.approx(right.item())
