"""Where the four files are looked for, in which order, and what becomes of those that are not right."""

import gzip
import hashlib
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from alexnet_lit.data import files
from alexnet_lit.data.files import FASHION_MNIST, SAMPLE, SAMPLE_DIR, fetch, load_fashion_mnist, load_sample
from alexnet_lit.data.idx import unpack
from alexnet_lit.errors import Mistake

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = SAMPLE


@pytest.fixture
def put() -> Callable[..., Path]:
    """Puts right files of the sample into a folder: all of them or those named, as gz or raw."""

    def put_files(folder: Path, *names: str, raw: bool = False) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names or SAMPLE:
            if raw:
                (folder / name).write_bytes(unpack(SAMPLE_DIR / f"{name}.gz"))
            else:
                shutil.copy(SAMPLE_DIR / f"{name}.gz", folder)
        return folder

    return put_files


Put = Callable[..., Path]


def places(folder: Path, *search: Path) -> dict[str, Path]:
    """Where each file of the sample is found when it is looked for in `folder`, then in `search`, with no mirror."""
    return fetch(dir=folder, search=[str(place) for place in search], mirrors=[], expected=SAMPLE)


def mistake(folder: Path, *search: Path) -> str:
    with pytest.raises(Mistake) as caught:
        places(folder, *search)
    text = str(caught.value)
    assert "\n" not in text
    return text


def rewrite(path: Path, change: Callable[[bytearray], object]) -> Path:
    content = bytearray(unpack(path))
    change(content)
    path.write_bytes(gzip.compress(bytes(content)))
    return path


@pytest.mark.parametrize("raw", [False, True], ids=["gz", "raw"])
@pytest.mark.parametrize("below", ["", "FashionMNIST/raw"])
def test_files_in_dir(tmp_path: Path, put: Put, below: str, raw: bool) -> None:
    folder = put(tmp_path / below, raw=raw)
    data = load_fashion_mnist(dir=tmp_path, search=[], mirrors=[], expected=SAMPLE)
    assert data.train.images.shape == (2000, 28, 28)
    assert data.test.labels.shape == (500,)
    assert torch.equal(data.train.images, load_sample().train.images)
    assert torch.equal(data.test.labels, load_sample().test.labels)
    assert places(tmp_path)[TRAIN_IMAGES] == folder / (TRAIN_IMAGES if raw else f"{TRAIN_IMAGES}.gz")


def test_dir_goes_before_search_and_search_runs_in_order(tmp_path: Path, put: Put) -> None:
    own = put(tmp_path / "own", TRAIN_IMAGES)
    first = put(tmp_path / "first", TRAIN_IMAGES, TRAIN_LABELS)
    second = put(tmp_path / "second" / "FashionMNIST" / "raw", raw=True)
    assert places(own, first, tmp_path / "absent", tmp_path / "second") == {
        TRAIN_IMAGES: own / f"{TRAIN_IMAGES}.gz",
        TRAIN_LABELS: first / f"{TRAIN_LABELS}.gz",
        TEST_IMAGES: second / TEST_IMAGES,
        TEST_LABELS: second / TEST_LABELS,
    }


def test_home_is_expanded(tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "data")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places(tmp_path / "absent", Path("~/data"))[TRAIN_IMAGES].parent == tmp_path / "data"
    assert places(Path("~/data"))[TRAIN_IMAGES].parent == tmp_path / "data"


def test_nothing_is_written_where_the_files_are(tmp_path: Path, put: Put) -> None:
    def times() -> dict[Path, int]:  # a folder's changes when anything in it is made or removed; bits don't bind root
        return {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]}

    own, other = put(tmp_path / "own", TRAIN_IMAGES), put(tmp_path / "other")
    before = times()
    assert len(places(own, other)) == 4
    assert len(places(tmp_path / "absent", other)) == 4
    assert times() == before


def cut(content: bytearray) -> None:
    del content[-1000:]


def out_of_range(content: bytearray) -> None:
    content[8 + 5] = 10


def without_the_last(content: bytearray) -> None:
    content[4:8] = (1999).to_bytes(4, "big")
    del content[-1]


def other_magic(content: bytearray) -> None:
    content[3] = 2


def other_pixel(content: bytearray) -> None:
    content[5000] ^= 1


def other_label(content: bytearray) -> None:
    content[8] = (content[8] + 1) % 10


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (TRAIN_IMAGES, cut, "is truncated: 2000 x 28 x 28 images need 1,568,016 bytes, it has 1,567,016"),
        (TEST_LABELS, other_magic, "has the magic number 0x00000802, not 0x00000801 of labels"),
        (TRAIN_LABELS, out_of_range, "has the label 10 at position 5"),
        (TRAIN_LABELS, without_the_last, "has 2,000 images but"),
        (TEST_IMAGES, other_pixel, f"is not the published {TEST_IMAGES}: the sha256 of its content is"),
        (TEST_LABELS, other_label, f"is not the published {TEST_LABELS}: the sha256 of its content is"),
    ],
)
def test_a_wrong_file_in_dir_is_named(
    tmp_path: Path,
    put: Put,
    name: str,
    change: Callable[[bytearray], None],
    words: str,
) -> None:
    own, other = put(tmp_path / "own"), put(tmp_path / "other")
    path = rewrite(own / f"{name}.gz", change)
    text = mistake(own, other)  # a right copy elsewhere is no reason to keep silent
    assert str(path) in text
    assert words in text


def test_swapped_files_are_named(tmp_path: Path, put: Put) -> None:
    train, test = (put(tmp_path) / f"{name}.gz" for name in (TRAIN_IMAGES, TEST_IMAGES))
    train.rename(tmp_path / "aside")
    test.rename(train)
    (tmp_path / "aside").rename(test)
    assert f"{train} holds the content of {TEST_IMAGES}: the files are swapped" in mistake(tmp_path)


def test_a_file_that_breaks_after_it_was_read_is_seen(tmp_path: Path, put: Put) -> None:
    put(tmp_path, raw=True)
    assert len(places(tmp_path)) == 4
    with (tmp_path / TRAIN_LABELS).open("r+b") as file:
        file.truncate(1000)
    assert "is truncated" in mistake(tmp_path)


def test_a_link_to_nowhere_in_dir_is_named(tmp_path: Path, put: Put) -> None:
    own, other = put(tmp_path / "own", TRAIN_IMAGES), put(tmp_path / "other")
    os.symlink(tmp_path / "gone", own / TRAIN_LABELS)
    assert f"{own / TRAIN_LABELS} cannot be read (No such file or directory)" in mistake(own, other)


def test_a_right_copy_in_the_same_folder_serves(tmp_path: Path, put: Put, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path)
    (tmp_path / TRAIN_IMAGES).write_bytes(b"what torchvision left when it was interrupted")
    with caplog.at_level(logging.WARNING, logger="alexnet_lit"):
        assert places(tmp_path)[TRAIN_IMAGES] == tmp_path / f"{TRAIN_IMAGES}.gz"
    assert f"passed over: {tmp_path / TRAIN_IMAGES} has the magic number" in caplog.text


def test_a_wrong_file_elsewhere_is_passed_over(tmp_path: Path, put: Put, caplog: pytest.LogCaptureFixture) -> None:
    broken, right = put(tmp_path / "broken"), put(tmp_path / "right")
    path = rewrite(broken / f"{TRAIN_IMAGES}.gz", cut)
    with caplog.at_level(logging.WARNING, logger="alexnet_lit"):
        found = places(tmp_path / "absent", broken, right)
    assert found[TRAIN_IMAGES].parent == right
    assert found[TRAIN_LABELS].parent == broken
    (record,) = caplog.records
    assert record.getMessage().startswith(f"passed over: {path} is truncated: 2000 x 28 x 28 images need 1,568,016")


def test_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert f"data.dir={tmp_path / 'file'} is a file: name the folder" in mistake(tmp_path / "file")


def test_nowhere_names_files_folders_and_ways_out(tmp_path: Path, put: Put) -> None:
    own = put(tmp_path / "own", TRAIN_IMAGES, TEST_IMAGES)
    text = mistake(own, tmp_path / "other", own, tmp_path / "other")
    for words in (
        f"({TRAIN_LABELS}, {TEST_LABELS}: not in {own}, {tmp_path / 'other'})",
        f"copy the four files, gz or raw, into data.dir={own}",
        "`apt-get install dataset-fashion-mnist`",
        "data=sample",
    ):
        assert words in text


def test_a_file_is_unpacked_once(tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked = []

    def count(path: Path) -> bytes:
        unpacked.append(path.name)
        return unpack(path)

    put(tmp_path)
    monkeypatch.setattr(files, "unpack", count)
    places(tmp_path)
    first, second = (load_fashion_mnist(dir=tmp_path, search=[], mirrors=[], expected=SAMPLE) for _ in range(2))
    assert sorted(unpacked) == sorted(f"{name}.gz" for name in SAMPLE)
    first.train.images.zero_()  # what a caller does to its tensors is its own affair
    assert second.train.images.any()


@pytest.mark.skipif(not DEBIAN.exists(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_real_data(tmp_path: Path) -> None:
    data = load_fashion_mnist(dir=tmp_path, search=[str(DEBIAN)], mirrors=[])
    assert data.train.images.shape == (60_000, 28, 28)
    assert data.test.images.shape == (10_000, 28, 28)
    assert data.train.labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert data.test.labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert data.train.labels.bincount().tolist() == [6000] * 10
    assert data.train.images.float().mean().item() / 255 == pytest.approx(0.2860, abs=5e-5)


@pytest.mark.skipif(not DEBIAN.exists(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_table_is_of_the_published_files() -> None:
    for name, sha256 in FASHION_MNIST.items():
        assert hashlib.sha256(gzip.decompress((DEBIAN / f"{name}.gz").read_bytes())).hexdigest() == sha256
