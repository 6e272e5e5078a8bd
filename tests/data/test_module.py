"""The split, and what happens to a batch on its way to the net."""

from pathlib import Path

import pytest
import torch

import alexnet_lit
from alexnet_lit.data import Augment, Batch, ImageData

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def data(*overrides: str) -> ImageData:
    _, data = alexnet_lit.build(alexnet_lit.compose("data=sample", "data.image_size=65", *overrides))
    data.setup("fit")
    return data


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


def test_only_split_seed_changes_the_split() -> None:
    _, labels = data().images["val"]
    images = data("seed=1").images["val"][0]
    assert torch.equal(images, data("seed=2").images["val"][0])
    assert not torch.equal(images, data("data.split_seed=1").images["val"][0])
    assert len(labels) == 400


def test_a_smaller_training_set_is_balanced_and_part_of_the_larger() -> None:
    small, labels = data("data.train_size=250").images["train"]
    large = {image.numpy().tobytes() for image in data().images["train"][0]}
    assert torch.bincount(labels).tolist() == [25] * 10
    assert {image.numpy().tobytes() for image in small} <= large


def test_a_training_batch_is_mirrored_by_its_draws_and_enlarged() -> None:
    sample = data()
    batch = next(iter(sample.train_dataloader()))
    turned = batch.draws[:, 0] < 0.5
    assert 0 < turned.sum() < len(turned)

    out = sample.on_after_batch_transfer(batch, 0)

    assert out.images.shape == (64, 1, 65, 65)
    torch.testing.assert_close(out.images[~turned], sample.pixels(batch.images[~turned]))
    torch.testing.assert_close(out.images[turned], sample.pixels(batch.images[turned]).flip(-1), rtol=0, atol=1e-5)


def test_evaluation_sees_images_as_they_are() -> None:
    sample = data()
    batch = next(iter(sample.test_dataloader()))
    out = sample.on_after_batch_transfer(batch, 0)
    torch.testing.assert_close(out.images, sample.pixels(batch.images))
    assert batch.labels.tolist() == sample.images["test"][1][:64].tolist()


def test_half_of_all_images_are_mirrored_in_an_epoch_and_others_in_the_next() -> None:
    images = torch.arange(2.0).repeat(1000, 1, 1).to(torch.uint8)  # (1000, 1, 2), left darker than right
    augment = Augment(mirror=True)

    turned = [augment(images, torch.rand(1000, 1))[:, 0, 0] == 1 for _ in range(2)]

    assert 400 < turned[0].sum() < 600
    assert 300 < (turned[0] != turned[1]).sum() < 700
    assert torch.equal(Augment(mirror=False)(images, torch.rand(1000, 0)), images)


def test_without_validation_images_all_are_for_training() -> None:
    sample = data("data.val_size=0")
    assert len(sample.val_dataloader()) == 0
    assert len(sample.images["train"][0]) == 2000


@pytest.mark.skipif(not DEBIAN.exists(), reason="the real Fashion-MNIST is not on this machine")
def test_the_real_data() -> None:
    _, data = alexnet_lit.build(alexnet_lit.compose("data.image_size=65"))
    data.setup("fit")
    (images, labels) = data.images["train"]
    assert images.shape == (55_000, 28, 28)
    assert torch.bincount(labels).tolist() == [5_500] * 10
    assert data.images["test"][1][:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert isinstance(next(iter(data.val_dataloader())), Batch)
