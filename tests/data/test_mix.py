"""What mixing does to a batch and its loss, against torchvision, and what decides it: seed, epoch and image."""

from collections.abc import Iterator
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

import alexnet_lit
from alexnet_lit.data import Batch, EpochSampler, ImageData
from alexnet_lit.data.augment import Mix

SIZE = 16
MIXUP, CUTMIX = Mix(mixup=0.4, cutmix=0.0), Mix(mixup=0.0, cutmix=1.0)
BOTH = Mix(mixup=0.4, cutmix=1.0)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def sampler(size: int, num_random_values: int, betas: tuple[float, ...]) -> EpochSampler:
    return EpochSampler(size, seed=3, shuffle=True, num_random_values=num_random_values, betas=betas)


def batch_of(mix: Mix, count: int, *, channels: int = 1) -> Batch:
    # Other switches have two columns in front.
    values = sampler(count, 2 + mix.num_random_values, mix.betas).random_values()
    return Batch(torch.randn(count, channels, SIZE, SIZE), torch.randint(10, (count,)), values, count)


def mixed(mix: Mix, batch: Batch) -> Batch:
    """Mixes a copy, as the images of the batch itself are changed in place."""
    return mix(batch._replace(images=batch.images.clone()))


def soft(batch: Batch) -> Tensor:
    """The labels as shares of ten classes: (B, 10)."""
    assert batch.mixed_in is not None
    others, shares = batch.mixed_in
    assert (shares <= 0.5).all()
    first, second = (F.one_hot(labels, 10).float() for labels in (batch.labels, others))
    return first.lerp(second, shares[:, None])


def torchvisions_mixup(images: Tensor, labels: Tensor, kept: float) -> tuple[Tensor, Tensor]:
    transform = v2.MixUp(num_classes=10)
    transform.__dict__["_dist"] = SimpleNamespace(sample=lambda _: kept)
    pair: tuple[Tensor, Tensor] = transform(images, labels)
    return pair


def torchvisions_cutmix(images: Tensor, labels: Tensor, kept: float, row: float, column: float) -> Any:
    transform = v2.CutMix(num_classes=10)
    transform.__dict__["_dist"] = SimpleNamespace(sample=lambda _: kept)
    with pytest.MonkeyPatch.context() as patch:
        places = iter((column, row))
        patch.setattr(torch, "randint", lambda most, size: torch.full(size, int(next(places) * most)))
        return transform(images, labels)


def references(mix: Mix, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
    """Each image and its soft label, mixed by torchvision in a batch of its pair."""
    for number, values in enumerate(batch.random_values[:, 2:].tolist()):
        pair = slice(number // 2 * 2, number // 2 * 2 + 2)
        images, labels = batch.images[pair], batch.labels[pair]
        if mix is MIXUP or (mix is BOTH and values[2] < 0.5):
            outcome = torchvisions_mixup(images, labels, values[-len(mix.betas)])
        else:
            outcome = torchvisions_cutmix(images, labels, values[-1], *values[:2])
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


def test_switched_off_or_in_evaluation_a_batch_stays_as_it_is() -> None:
    off = Mix(mixup=0.0, cutmix=0.0)
    assert (off.num_random_values, off.betas, off.together) == (0, (), 1)
    batch = batch_of(off, 4)
    assert off(batch) is batch
    assert BOTH(without := batch._replace(random_values=torch.rand(4, 0))) is without


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_come_from_a_beta_distribution(alpha: float) -> None:
    _, first, second = sampler(20_000, 1, (alpha, 2 * alpha)).random_values().double().unbind(1)
    for shares, parameter in ((first, alpha), (second, 2 * alpha)):
        assert abs(shares.mean() - 0.5) < 0.01
        assert shares.var().item() == pytest.approx(1 / (4 * (2 * parameter + 1)), rel=0.05)
        assert ((shares >= 0) & (shares <= 1)).all()
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.03


def data(*overrides: str) -> ImageData:
    small = ("data=sample", "data.image_size=32", "model=lenet", "data.train_size=61", "data.val_size=0")
    switches = ("data.augment.mixup=0.4", "data.augment.cutmix=1", "data.augment.crop=0.875", "data.batch_size=12")
    _, data = alexnet_lit.build(alexnet_lit.compose("objective=null", *small, *switches, *overrides))
    data.setup("fit")
    return data


def epoch(data: ImageData, *, number: int = 3, rank: int = 0, world_size: int = 1, skip: int = 0) -> list[Batch]:
    """The batches that a rank trains on; all behind the first `skip` by a loader that takes their number up."""
    loader = data.train_dataloader()
    loader.rank, loader.world_size = rank, world_size
    loader.sampler.set_epoch(number)
    loader.load_state_dict({"epoch": number, "batches": skip})
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def test_pairs_stay_together_on_any_number_of_ranks() -> None:
    mixing = data()
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
    batches = epoch(data(), world_size=2)
    batch = next(islice(batches, 1, None))

    loss = module.training_step(batch, 1)

    logits = module(batch.images)
    torch.testing.assert_close(loss, 2 / 12 * F.cross_entropy(logits, soft(batch), reduction="sum"))
    right = (logits.argmax(1) == soft(batch).argmax(1)).double().mean()
    assert module.scores["train"].compute()["acc"] == pytest.approx(right.item())
