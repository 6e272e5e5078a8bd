"""The embedded sample: balanced, real, and reproducible from the whole data set."""

from pathlib import Path

import pytest
import torch

from alexnet_lit.data.fashion_mnist import SAMPLE_DIR, load_fashion_mnist, load_sample

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def test_shapes_types_and_balance() -> None:
    train, test = load_sample()
    assert train.images.shape == (2000, 28, 28)
    assert test.images.shape == (500, 28, 28)
    assert train.images.dtype == test.images.dtype == torch.uint8
    assert train.labels.bincount().tolist() == [200] * 10
    assert test.labels.bincount().tolist() == [50] * 10


def test_labels_fit_their_images() -> None:
    """Mean images of the training classes, taken as a classifier, are right far more often than one time in ten."""
    train, test = load_sample()
    means = torch.stack([train.images[train.labels == label].float().mean(0).flatten() for label in range(10)])
    guesses = torch.cdist(test.images.float().flatten(1), means).argmin(1)
    assert (guesses == test.labels).float().mean() > 0.6


def test_it_is_small_and_its_licence_lies_beside_it() -> None:
    assert sum(path.stat().st_size for path in SAMPLE_DIR.glob("*.gz")) < 1_200_000
    licence = (SAMPLE_DIR / "LICENSE").read_text()
    assert "Zalando SE" in licence
    assert "Permission is hereby granted, free of charge" in licence


@pytest.mark.skipif(not DEBIAN.exists(), reason="needs Debian's package dataset-fashion-mnist")
def test_it_is_the_first_images_of_each_class() -> None:
    whole = load_fashion_mnist(dir=DEBIAN, search=[], mirrors=[])
    for (images, labels), sample, count in zip(whole, load_sample(), (200, 50), strict=True):
        of_class = [(labels == label).nonzero().flatten()[:count] for label in range(10)]
        chosen = torch.cat(of_class).sort().values  # in the order of the file
        assert torch.equal(images[chosen], sample.images)
        assert torch.equal(labels[chosen], sample.labels)
