"""Pictures are decoded once: what is in the cache is what decoding gives, after a kill and after a change too."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from alexnet_lit.data import picture_cache
from alexnet_lit.data.image_folder import scan
from alexnet_lit.data.picture import square
from alexnet_lit.errors import UserError
from tests.pictures import fill, picture

SIZE = 24


def images(root: Path, *, size: int = SIZE, channels: int = 3) -> tuple[list[str], Tensor, dict[str, str]]:
    """The names of the pictures, those that could be decoded, and why the others could not."""
    _, names = scan(root / "train")
    return names, *picture_cache.decoded(root / "train", names, root / "cache", size=size, channels=channels)


def check(root: Path) -> Tensor:
    names, mapped, broken = images(root)
    assert not broken
    for name, image in zip(names, mapped, strict=True):
        assert image.flatten().tolist() == list(square(root / "train" / name, size=SIZE, channels=3)), name
    return mapped


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the pictures that are decoded."""
    seen: list[str] = []

    def watched(path: Path, *, size: int, channels: int) -> bytes:
        seen.append(path.name)
        return square(path, size=size, channels=channels)

    monkeypatch.setattr(picture_cache, "square", watched)
    return seen


def test_each_picture_is_decoded_once(
    tmp_path: Path, decodings: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(picture_cache, "_PART", 6)
    monkeypatch.setattr(picture_cache, "_LOG_EVERY_S", 0.0)
    with caplog.at_level(logging.INFO, "alexnet_lit"):
        check(fill(tmp_path))
    assert caplog.messages == [
        f"decoding train/ once, into {tmp_path / 'cache'}: takes 0.0 MB at most",
        *(f"decoded {count} of 12 pictures in train/" for count in (6, 12)),
    ]
    files = {path: path.stat() for path in (tmp_path / "cache").iterdir()}
    check(tmp_path)
    images(tmp_path, size=16, channels=1)
    check(tmp_path)
    assert len(decodings) == 24, "another size and colour lie beside it"
    assert files.items() <= {path: path.stat() for path in (tmp_path / "cache").iterdir()}.items()


def test_what_has_changed_is_decoded_anew(tmp_path: Path, decodings: list[str]) -> None:
    train = fill(tmp_path) / "train"
    mapped = check(tmp_path)
    before = mapped.clone()

    picture("shirt", 9).save(train / "bag" / "000.png")  # changed
    picture("bag", 9).save(train / "bag" / "000a.png")  # added, in the middle
    (train / "boot" / "002.png").unlink()  # removed
    names = ["a\nb.jpg", "\udcff.jpg", "'\"\\.jpg", "\u2028.jpg"]
    for number, name in enumerate(names):
        picture("boot", number).save(train / "boot" / "x.jpg")
        (train / "boot" / "x.jpg").rename(train / "boot" / name)
    check(tmp_path)

    assert torch.equal(mapped, before), "a run that reads the earlier file is not disturbed"
    assert len(list((tmp_path / "cache").glob("train*"))) == 2, "which is gone for all others"


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


def test_what_is_stopped_in_the_middle_counts_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(path: Path, *, size: int, channels: int) -> bytes:
        if path.match("boot/002.png"):
            raise KeyboardInterrupt
        return square(path, size=size, channels=channels)

    fill(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(picture_cache, "_PART", 3)
        patch.setattr(picture_cache, "square", stopped)
        with pytest.raises(KeyboardInterrupt):
            images(tmp_path)
    (half,) = (tmp_path / "cache").glob("*.pixels")
    assert half.stat().st_size
    check(tmp_path)


def test_of_two_at_once_one_decodes_and_one_waits(tmp_path: Path, decodings: list[str]) -> None:
    fill(tmp_path, train=8)
    with ThreadPoolExecutor(2) as pool:  # each with a lock of its own, as two processes have
        both = list(pool.map(check, [tmp_path] * 2))
    assert len(decodings) == 24
    assert torch.equal(*both)


@pytest.mark.posix
def test_a_broken_picture_is_remembered_until_it_changes(tmp_path: Path, decodings: list[str]) -> None:
    train = fill(tmp_path, train=2) / "train"
    (train / "bag" / "000.png").write_bytes(b"")
    (train / "boot" / "gone.jpg").symlink_to(tmp_path / "picture.jpg")
    why = {"bag/000.png": "none of JPEG, PNG, GIF, BMP, PPM, TIFF, WEBP", "boot/gone.jpg": "No such file or directory"}
    for _ in range(2):
        _, mapped, broken = images(tmp_path)
        assert (len(mapped), broken) == (5, why)
    assert len(decodings) == 7
    picture("boot", 5).save(tmp_path / "picture.jpg")
    picture("bag", 5).save(train / "bag" / "000.png")
    check(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, train=1)
    (tmp_path / "cache").write_text("a file", encoding="utf-8")
    line = r"data\.cache=.*cache can't be written .*: make room, or name another folder"
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
