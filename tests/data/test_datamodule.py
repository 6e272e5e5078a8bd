"""The split, and what happens to a batch on its way to the net."""

import torch

import alexnet_lit
from alexnet_lit.data import ImageData
from alexnet_lit.data.datamodule import Pair, Split


def data(*overrides: str) -> ImageData:
    _, data = alexnet_lit.build(alexnet_lit.compose("data=sample", "model=lenet", "data.image_size=32", *overrides))
    data.setup("fit")
    return data


class Stripes(ImageData):
    """As the docstring of ImageData has it: a data set in a few lines."""

    train_total, test_total = 40, 10
    source_size, channels, classes = 8, 3, ("dark", "light")
    origin = "this file"

    def read(self) -> dict[Split, Pair]:
        labels = torch.arange(50) % 2
        images = (200 * labels).byte().view(-1, 1, 1, 1).repeat(1, 3, 8, 8)
        return {"train": (images[:40], labels[:40]), "test": (images[40:], labels[40:])}


def test_a_data_set_is_a_subclass_and_a_config() -> None:
    module, stripes = alexnet_lit.build(
        alexnet_lit.compose(
            *("data=sample", f"data._target_={__name__}.Stripes", "data.val_size=0.25", "data.image_size=32"),
            *("model=lenet", "model.in_channels=3", "model.num_classes=2", "data.batch_size=8"),
        )
    )
    assert stripes.sizes == {"train": 30, "val": 10, "test": 10}
    batches = [stripes.on_after_batch_transfer(batch, 0) for batch in stripes.train_dataloader()]
    assert [tuple(batch.images.shape) for batch in batches] == [(8, 3, 32, 32)] * 3 + [(6, 3, 32, 32)]
    assert module(batches[0].images).shape == (8, 2)
    assert torch.bincount(stripes.images["val"][1]).tolist() == [5, 5]


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
