"""Pictures are decoded once: what is in the cache is what decoding gives, after a kill and after a change too."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from alexnet_lit.data import picture_cache as caching
from alexnet_lit.data.image_folder import scan
from alexnet_lit.data.picture import square
from alexnet_lit.data.picture_cache import PictureCache
from alexnet_lit.errors import UserError
from tests.pictures import fill, picture

SIZE = 24


def cache(root: Path) -> PictureCache:
    return PictureCache(root / "train", root / "cache", size=SIZE, channels=3)


def names_of(root: Path) -> list[str]:
    return scan(root, "train").names


def images(root: Path, *, retry_broken: bool = False) -> dict[str, Tensor | str]:
    """Bring the cache up to date and read it: each picture, or why it is broken."""
    made = cache(root)
    rows = made.update(names_of(root), retry_broken=retry_broken)
    assert cache(root).rows() == rows
    assert list(rows) == names_of(root)
    mapped = made.mapped()
    return {name: row if isinstance(row, str) else mapped[row] for name, row in rows.items()}


def check(root: Path) -> None:
    for name, image in images(root).items():
        assert isinstance(image, Tensor)
        pixels = square(root / "train" / name, size=SIZE, channels=3)
        assert image.flatten().tolist() == list(pixels), name


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the pictures that are decoded."""
    seen: list[str] = []

    def watched(path: Path, *, size: int, channels: int) -> bytes:
        seen.append(path.name)
        return square(path, size=size, channels=channels)

    monkeypatch.setattr(caching, "square", watched)
    return seen


def test_each_picture_is_decoded_once(
    tmp_path: Path, decodings: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(caching, "_PART", 6)
    monkeypatch.setattr(caching, "SAVE_EVERY_S", 0.0)
    with caplog.at_level(logging.INFO, "alexnet_lit"):
        check(fill(tmp_path))
    takes, first, last = caplog.messages
    assert takes.startswith(f"decoding train/ once, into {tmp_path}/cache: takes 0.0 MB at most")
    assert first.startswith("decoded 6 of 12 pictures in train/, ")
    assert first.endswith(" left")
    assert last.startswith("decoded 12 of 12 pictures in train/, ")
    assert len(decodings) == 12
    files = {path: path.stat() for path in (tmp_path / "cache").iterdir()}
    check(tmp_path)
    assert len(decodings) == 12
    assert {path: path.stat() for path in (tmp_path / "cache").iterdir()} == files, "nothing is written either"


def test_only_what_changed_is_decoded_anew(tmp_path: Path, decodings: list[str]) -> None:
    train = fill(tmp_path) / "train"
    check(tmp_path)
    mapped = cache(tmp_path).mapped()
    before = mapped.clone()
    decodings.clear()

    picture("shirt", 9).save(train / "bag" / "000.png")  # changed
    picture("bag", 9).save(train / "bag" / "000a.png")  # added, in the middle
    (train / "boot" / "002.png").unlink()  # removed
    names = ["a\nb.jpg", "\udcff.jpg", "'\"\\.jpg", "\u2028.jpg"]
    for number, name in enumerate(names):
        picture("boot", number).save(train / "boot" / "x.jpg")
        (train / "boot" / "x.jpg").rename(train / "boot" / name)
    check(tmp_path)

    assert sorted(decodings) == sorted(["000.png", "000a.png", *names])
    assert torch.equal(mapped, before), "a run that reads the cache is not disturbed"
    decodings.clear()
    os.truncate(cache(tmp_path).pixels, mapped.nbytes - 100)  # the disk was full
    check(tmp_path)
    assert decodings, "rows that are not in the file"
    decodings.clear()
    made = PictureCache(tmp_path / "train", tmp_path / "cache", size=16, channels=1)
    assert set(made.update(names_of(tmp_path), retry_broken=False)) == set(names_of(tmp_path))
    decodings.clear()
    check(tmp_path)
    assert not decodings, "another size and colour lie beside it"


def of_one_archive(folder: Path) -> Path:
    """Give all files below the same size and time, as if they had been packed so."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    size = max(path.stat().st_size for path in files)
    for path in files:
        os.truncate(path, size)  # decoders pass over what follows the picture
        os.utime(path, ns=(0, 1))
    return folder


def test_folders_that_change_places_are_decoded_anew(tmp_path: Path) -> None:
    train = of_one_archive(fill(tmp_path) / "train")
    check(tmp_path)
    (train / "bag").rename(train / "x")
    (train / "boot").rename(train / "bag")
    (train / "x").rename(train / "boot")
    check(tmp_path)


def test_what_is_stopped_in_the_middle_goes_on_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decodings: list[str]
) -> None:
    fill(tmp_path, train=8)
    monkeypatch.setattr(caching, "_PART", 6)
    monkeypatch.setattr(caching, "SAVE_EVERY_S", 0.0)

    def stopped(path: Path, *, size: int, channels: int) -> bytes:
        if path.match("boot/006.png"):  # in the third part of four
            raise KeyboardInterrupt
        return square(path, size=size, channels=channels)

    with monkeypatch.context() as patch:
        patch.setattr(caching, "square", stopped)
        with pytest.raises(KeyboardInterrupt):
            images(tmp_path)
    assert len(cache(tmp_path).rows()) == 12, "two parts of six"
    decodings.clear()
    check(tmp_path)
    assert len(decodings) == 12


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b'[4, ["a"]]', b'[3, {"bag/000.png": [[1], "digest", 0]}]'])
def test_an_index_of_something_else_is_none(content: bytes, tmp_path: Path) -> None:
    fill(tmp_path, train=1)
    made = cache(tmp_path)
    made.folder.mkdir()
    made.index.write_bytes(content)
    made.pixels.write_bytes(bytes(6 * 3 * SIZE * SIZE))
    check(tmp_path)
    assert made.pixels.stat().st_size == 3 * 3 * SIZE * SIZE, "the rows of before are gone"


def test_of_two_at_once_one_decodes_and_one_waits(tmp_path: Path, decodings: list[str]) -> None:
    fill(tmp_path, train=8)
    with ThreadPoolExecutor(2) as pool:  # each with a lock of its own, as two processes have
        both = list(pool.map(images, [tmp_path] * 2))
    assert len(decodings) == 24
    assert both[0].keys() == both[1].keys()
    check(tmp_path)


def test_a_broken_picture_is_remembered_and_tried_again_where_asked(tmp_path: Path, decodings: list[str]) -> None:
    train = fill(tmp_path, train=2) / "train"
    (train / "bag" / "000.png").write_bytes(b"")
    (train / "boot" / "gone.jpg").symlink_to(tmp_path / "picture.jpg")
    found = images(tmp_path)
    assert {name: why for name, why in found.items() if isinstance(why, str)} == {
        "bag/000.png": "none of JPEG, PNG, GIF, BMP, PPM, TIFF, WEBP",
        "boot/gone.jpg": "No such file or directory",
    }
    decodings.clear()
    images(tmp_path)
    assert not decodings
    images(tmp_path, retry_broken=True)
    assert sorted(decodings) == ["000.png", "gone.jpg"]
    picture("boot", 5).save(tmp_path / "picture.jpg")
    picture("bag", 5).save(train / "bag" / "000.png")
    check(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, train=1)
    (tmp_path / "cache").write_text("a file", encoding="utf-8")
    line = r"data\.cache=.*/cache can't be written .*: make room, or name another folder"
    with pytest.raises(UserError, match=line):
        images(tmp_path)
    (tmp_path / "cache").unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match="No space left on device"):
            images(tmp_path)
    check(tmp_path)
