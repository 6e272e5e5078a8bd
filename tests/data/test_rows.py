"""Images of a file are read when a batch asks for them, and no sooner."""

from itertools import chain
from pathlib import Path

import pytest
import torch
from torch import Tensor

from alexnet_lit.data import Batches, MappedImages, Order
from alexnet_lit.data.cache import Cache
from alexnet_lit.data.folder import scan
from tests.pictures import fill

IMAGES = torch.randint(0, 256, (40, 3, 6, 5), dtype=torch.uint8)
ROWS = torch.tensor([7, 3, 39, 0, 12, 3])


def test_they_are_the_rows_of_the_tensor() -> None:
    rows = MappedImages(IMAGES, ROWS)
    index = torch.tensor([5, 0, 2, 2])
    assert len(rows) == 6
    assert torch.equal(rows[index], IMAGES[ROWS[index]])
    assert torch.equal(rows.take(index)[torch.tensor([1, 3])], IMAGES[ROWS[[0, 2]]])
    assert rows[torch.tensor([], dtype=torch.long)].shape == (0, 3, 6, 5)
    assert torch.equal(rows.to(torch.device("cpu")), IMAGES[ROWS])
    assert rows.nbytes == 6 * 3 * 6 * 5


def test_batches_of_them_are_those_of_a_tensor() -> None:
    labels = torch.arange(6)

    def batches(images: Tensor | MappedImages) -> Batches:
        return Batches(images, labels, Order(6, seed=0, shuffle=True, draws=0), batch_size=4)

    for one, other in zip(batches(MappedImages(IMAGES, ROWS)), batches(IMAGES[ROWS]), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def resident(path: Path) -> int:
    """kB of a file's mapping that this process has in memory."""
    sizes = chain.from_iterable(
        block.splitlines()[1:] for block in Path("/proc/self/smaps").read_text().split("VmFlags") if str(path) in block
    )
    return sum(int(line.split()[1]) for line in sizes if line.startswith("Rss:"))


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells what of a file is in memory")
def test_a_file_is_mapped_and_read_where_it_is_looked_at(tmp_path: Path) -> None:
    fill(tmp_path, train=1)
    cache = Cache(tmp_path / "train", tmp_path, size=256, channels=3)
    cache.update(scan(tmp_path / "train").names, again=False)
    with cache.pixels.open("r+b") as file:
        file.truncate(10_000 * 3 * 256 * 256)  # 2 GB, nearly all of it a hole that takes no disk

    rows = MappedImages(cache.mapped(), torch.arange(10_000)).take(torch.arange(0, 10_000, 5))

    assert rows.images.shape == (10_000, 3, 256, 256)
    assert str(cache.pixels) in Path("/proc/self/maps").read_text()
    before = resident(cache.pixels)
    batch = rows[torch.tensor([0, 1999])]
    assert batch[0].any()
    assert not batch[1].any()
    assert before < 1_000
    assert resident(cache.pixels) < 10_000, "kB, of 2,000,000"
