"""The embedded sample: balanced, real, and reproducible from the whole data set."""

from pathlib import Path

import pytest
import torch

from alexnet_lit.data.files import SAMPLE, SAMPLE_DIR, load_sample
from alexnet_lit.data.idx import unpack
from alexnet_lit.data.sample import write_sample

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
def test_it_can_be_made_again(tmp_path: Path) -> None:
    write_sample(DEBIAN, tmp_path)
    for name in SAMPLE:  # what is inside, since another zlib packs it otherwise
        assert unpack(tmp_path / f"{name}.gz") == unpack(SAMPLE_DIR / f"{name}.gz")
