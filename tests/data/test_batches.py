"""Which image is in which batch: each once, in an order that only seed and epoch decide, whatever the ranks."""

import hashlib
from itertools import chain

import pytest
import torch
from torch import Tensor

from alexnet_lit.data import Batches, Order
from alexnet_lit.data.batches import balanced_order

SIZE = 23
IMAGES = torch.arange(SIZE, dtype=torch.uint8).view(SIZE, 1, 1)  # each image says which it is
LABELS = torch.arange(SIZE)


def batches(*, seed: int = 0, rank: int = 0, world_size: int = 1, shuffle: bool = True) -> Batches:
    order = Order(SIZE, seed=seed, shuffle=shuffle, draws=1)
    return Batches(IMAGES, LABELS, order, batch_size=6, rank=rank, world_size=world_size)


def seen(loader: Batches, epoch: int = 0) -> list[list[int]]:
    loader.sampler.set_epoch(epoch)
    return [batch.labels.tolist() for batch in loader]


def test_each_image_once_with_its_label() -> None:
    loader = batches()
    assert sorted(chain(*seen(loader))) == list(range(SIZE))
    assert all((batch.images.flatten() == batch.labels).all() for batch in loader)
    assert [len(batch.labels) for batch in loader] == [6, 6, 6, 5]
    assert len(loader) == 4


def test_without_shuffling_in_the_order_of_the_set() -> None:
    assert list(chain(*seen(batches(shuffle=False)))) == list(range(SIZE))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    assert seen(batches(), epoch=3) == seen(batches(), epoch=3)
    assert seen(batches(), epoch=3) != seen(batches(), epoch=4)
    assert seen(batches(), epoch=3) != seen(batches(seed=1), epoch=3)


def test_draws_belong_to_the_image_and_change_with_the_epoch() -> None:
    def draws(loader: Batches, epoch: int) -> Tensor:
        loader.sampler.set_epoch(epoch)
        parts = list(loader)
        return torch.cat([part.draws for part in parts])[torch.cat([part.labels for part in parts]).argsort()]

    assert torch.equal(draws(batches(shuffle=False), 2), draws(batches(shuffle=True), 2))
    assert not torch.equal(draws(batches(), 2), draws(batches(), 3))


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_ranks_share_each_batch_without_repeats(world_size: int) -> None:
    whole = list(batches())
    parts = [list(batches(rank=rank, world_size=world_size)) for rank in range(world_size)]
    for step, batch in enumerate(whole):
        together = [label for part in parts for label in part[step].labels.tolist()]
        assert sorted(together) == sorted(batch.labels.tolist())
        assert {part[step].total for part in parts} == {len(batch.labels)}


def test_goes_on_in_the_middle_of_an_epoch() -> None:
    loader = batches()
    loader.sampler.set_epoch(5)
    iterator = iter(loader)
    first = [next(iterator).labels.tolist(), next(iterator).labels.tolist()]
    state = loader.state_dict()

    resumed = batches()
    resumed.load_state_dict(state)

    assert first + seen(resumed, epoch=5) == seen(batches(), epoch=5)
    assert seen(resumed, epoch=6) == seen(batches(), epoch=6), "the next epoch is whole"


def test_every_prefix_of_the_balanced_order_is_balanced() -> None:
    labels = torch.arange(10).repeat(50)[torch.randperm(500)]
    order = balanced_order(labels, seed=1)
    assert sorted(order.tolist()) == list(range(500))
    for size in (10, 100, 250, 255):
        counts = torch.bincount(labels[order[:size]], minlength=10)
        assert counts.max() - counts.min() <= 1
    assert order.tolist() == balanced_order(labels, seed=1).tolist()
    assert order.tolist() != balanced_order(labels, seed=2).tolist()


def test_the_split_of_fashion_mnist_is_that_of_published_results() -> None:
    order = balanced_order(torch.arange(10).repeat(6000), seed=0)
    assert order[:5].tolist() == [35845, 27522, 33254, 11299, 16178]
    assert hashlib.sha256(order.numpy().tobytes()).hexdigest().startswith("5167170924c4e9c4")


def test_any_run_of_the_order_has_classes_in_proportion() -> None:
    labels = torch.tensor([0] * 1000 + [1] * 100 + [2] * 10 + [4])[torch.randperm(1111)]
    order = balanced_order(labels, seed=1)
    assert sorted(order.tolist()) == list(range(1111))
    for start in range(0, 1111, 50):
        counts = torch.bincount(labels[order[start : start + 111]], minlength=5)
        share = torch.tensor([1000, 100, 10, 0, 1]) * int(counts.sum()) / 1111
        assert (counts - share).abs().max() <= 2
    assert 4 not in labels[order[:400]], "what is there once stays with the larger part"


def test_batches_come_from_where_the_images_are() -> None:
    order = Order(SIZE, seed=0, shuffle=True, draws=1)
    loader = Batches(IMAGES.to("meta"), LABELS.to("meta"), order, batch_size=6)
    assert {part.device.type for batch in loader for part in batch[:3]} == {"meta"}
