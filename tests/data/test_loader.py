"""Which image is in which split and batch: each once, in an order of seed and epoch alone, whatever the ranks."""

import hashlib
from itertools import chain

import pytest
import torch

import alexnet_lit
from alexnet_lit.data.loader import BatchLoader, EpochSampler, MappedImages, balanced_order
from tests.pictures import data

SIZE = 23
IMAGES = torch.arange(SIZE, dtype=torch.uint8).view(SIZE, 1, 1)  # each image says which it is
LABELS = torch.arange(SIZE)


def batches(*, seed: int = 0, rank: int = 0, world_size: int = 1, shuffle: bool = True) -> BatchLoader:
    sampler = EpochSampler(SIZE, seed=seed, shuffle=shuffle, num_random_values=1)
    return BatchLoader(IMAGES, LABELS, sampler, batch_size=6, rank=rank, world_size=world_size)


def seen(loader: BatchLoader, epoch: int = 0) -> list[list[int]]:
    loader.sampler.set_epoch(epoch)
    return [batch.labels.tolist() for batch in loader]


def test_each_image_once_with_its_label_in_an_order_of_seed_and_epoch() -> None:
    loader = batches()
    assert sorted(chain(*seen(loader))) == list(chain(*seen(batches(shuffle=False)))) == list(range(SIZE))
    assert all((batch.images.flatten() == batch.labels).all() for batch in loader)
    assert [len(batch.labels) for batch in loader] == [6, 6, 6, 5]
    assert len(loader) == 4
    assert seen(batches(), epoch=3) == seen(batches(), epoch=3)
    assert seen(batches(), epoch=3) != seen(batches(), epoch=4)
    assert seen(batches(), epoch=3) != seen(batches(seed=1), epoch=3)


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_each_batch_without_repeats(world_size: int) -> None:
    whole = list(batches())
    parts = [list(batches(rank=rank, world_size=world_size)) for rank in range(world_size)]
    for step, batch in enumerate(whole):
        together = [label for part in parts for label in part[step].labels.tolist()]
        assert sorted(together) == sorted(batch.labels.tolist())
        assert {part[step].total for part in parts} == {len(batch.labels)}


def test_any_run_of_the_order_has_classes_in_proportion() -> None:
    labels = torch.tensor([0] * 1000 + [1] * 100 + [2] * 10 + [4])[torch.randperm(1111)]
    order = balanced_order(labels, seed=1)
    assert sorted(order.tolist()) == list(range(1111))
    assert order.tolist() != balanced_order(labels, seed=2).tolist()
    for start in range(0, 1111, 50):
        counts = torch.bincount(labels[order[start : start + 111]], minlength=5)
        share = torch.tensor([1000, 100, 10, 0, 1]) * int(counts.sum()) / 1111
        assert (counts - share).abs().max() <= 2
    assert 4 not in labels[order[:400]], "what is there once stays with the larger part"
    published = balanced_order(torch.arange(10).repeat(6000), seed=0)  # the split that results are of
    assert hashlib.sha256(published.numpy().tobytes()).hexdigest().startswith("5167170924c4e9c4")


def test_mapped_images_are_the_rows_of_their_tensor() -> None:
    images, where = torch.randint(0, 256, (40, 3, 6, 5), dtype=torch.uint8), torch.tensor([7, 3, 39, 0, 12, 3])
    rows, index, labels = MappedImages(images, where), torch.tensor([5, 0, 2, 2]), torch.arange(6)
    assert torch.equal(rows.index_select(0, index), images[where[index]])
    assert torch.equal(rows[index].index_select(0, torch.tensor([1, 3])), images[where[[0, 2]]])
    assert torch.equal(rows.to(torch.device("cpu")), images[where])
    assert rows.nbytes == 6 * 3 * 6 * 5
    assert rows[index].images.data_ptr() == images.data_ptr(), "a file of them is read where it is looked at"
    mapped, plain = (
        BatchLoader(each, labels, EpochSampler(6, seed=0, shuffle=True), batch_size=4) for each in (rows, images[where])
    )
    for one, other in zip(mapped, plain, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_nothing_is_read_before_it_is_asked_for() -> None:
    config = alexnet_lit.compose("data.dir=/nowhere", "data.search=[]", "data.mirrors=[]", "data.image_size=65")
    _, data = alexnet_lit.build(config)
    assert data.sizes == {"train": 55_000, "val": 5_000, "test": 10_000}


def test_the_split_is_balanced_and_whole() -> None:
    sets = data().images
    assert [len(sets[name][1]) for name in ("train", "val", "test")] == [1600, 400, 500]
    for images, labels in sets.values():
        assert len(images) == len(labels)
        assert len(torch.bincount(labels).unique()) == 1
    train = {image.numpy().tobytes() for image in sets["train"][0]}
    assert not train & {image.numpy().tobytes() for image in sets["val"][0]}
    small, labels = data("data.train_size=250").images["train"]
    assert torch.bincount(labels).tolist() == [25] * 10
    assert {image.numpy().tobytes() for image in small} <= train
    assert len(data("data.val_size=0").images["train"][0]) == 2000


def test_each_image_is_for_validation_in_one_fold() -> None:
    seen: list[bytes] = []
    for fold in range(3):
        folded = data("data.folds=3", f"data.fold={fold}")
        images, labels = folded.images["val"]
        assert folded.sizes["val"] == len(labels) in (666, 667)
        assert folded.sizes["train"] == len(folded.images["train"][1]) == 2000 - len(labels)
        counts = torch.bincount(labels, minlength=10)
        assert counts.max() - counts.min() <= 2
        val = [image.numpy().tobytes() for image in images]
        assert not set(val) & {image.numpy().tobytes() for image in folded.images["train"][0]}
        seen += val
    everything = data("data.val_size=0").images["train"][0]
    assert sorted(seen) == sorted(image.numpy().tobytes() for image in everything)
    images, _ = data("data.folds=5", "data.fold=2").images["val"]
    same = data("data.folds=5", "data.fold=2", "data.val_size=0", "seed=3").images["val"][0]
    assert torch.equal(images, same), "only split_seed changes it"
    assert not torch.equal(images, data("data.folds=5", "data.fold=2", "data.split_seed=1").images["val"][0])
