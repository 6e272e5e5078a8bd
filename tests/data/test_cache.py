"""Pictures are decoded once: what is in the cache is what decoding gives, after a kill and after a change too."""

import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from alexnet_lit.data import cache as caching
from alexnet_lit.data import square
from alexnet_lit.data.cache import Cache, check_room
from alexnet_lit.data.folder import scan
from alexnet_lit.errors import UserError
from tests.conftest import REPOSITORY
from tests.pictures import fill, picture

SIZE = 24


def cache(root: Path) -> Cache:
    return Cache(root / "train", root / "cache", size=SIZE, channels=3)


def names(root: Path) -> list[str]:
    return scan(root / "train").names


def images(root: Path, *, again: bool = False) -> dict[str, Tensor | str]:
    """Bring the cache up to date and read it: each picture, or why it is broken."""
    made = cache(root)
    contents = made.update(names(root), again=again)
    assert cache(root).contents() == contents
    assert list(contents) == names(root)
    mapped = made.mapped()
    return {name: row if isinstance(row, str) else mapped[row] for name, row in contents.items()}


def check(root: Path, *, again: bool = False) -> None:
    for name, image in images(root, again=again).items():
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


def test_each_picture_is_decoded_once(tmp_path: Path, decodings: list[str]) -> None:
    check(fill(tmp_path))
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
    os.utime(train / "bag" / "001.jpg", ns=(0, 1))  # older than it was, of the same size
    picture("bag", 9).save(train / "bag" / "000a.png")  # added, in the middle
    (train / "boot" / "002.png").unlink()  # removed
    (train / "boot" / "003.jpg").rename(train / "boot" / "renamed.jpg")
    check(tmp_path)

    assert sorted(decodings) == ["000.png", "000a.png", "001.jpg", "renamed.jpg"]
    assert torch.equal(mapped, before), "a run that reads the cache is not disturbed"
    decodings.clear()
    check(tmp_path)
    assert not decodings


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


def test_a_copy_is_known_by_its_bytes(tmp_path: Path, decodings: list[str]) -> None:
    of_one_archive(fill(tmp_path / "one", train=3) / "train")
    check(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "copy")  # other inodes and ctimes
    (tmp_path / "one").rename(tmp_path / "moved")
    decodings.clear()
    for root in (tmp_path / "copy", tmp_path / "moved"):
        check(root)
        written = cache(root).index.stat()
        check(root)
        assert cache(root).index.stat() == written, "the next time without a look at the files"
    assert not decodings
    changed = tmp_path / "copy" / "train" / "bag" / "001.jpg"
    shutil.copy2(tmp_path / "copy" / "train" / "boot" / "001.jpg", changed)
    check(tmp_path / "copy")
    assert decodings == ["001.jpg"]


def test_a_cache_of_an_earlier_form_is_made_anew(tmp_path: Path) -> None:
    train = fill(tmp_path, train=2) / "train"
    made = cache(tmp_path)
    made.folder.mkdir()
    lines = [{"form": 1, "shape": made.shape}]
    for row, name in enumerate(names(tmp_path)):
        info = (train / name).stat()
        lines.append([name, info.st_size, info.st_mtime_ns, row])  # type: ignore[arg-type] # a list, not a header
    made.index.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    made.pixels.write_bytes(bytes(6 * 3 * SIZE * SIZE))
    assert made.lacks(names(tmp_path)) == 6 * 3 * SIZE * SIZE
    check(tmp_path)
    assert made.pixels.stat().st_size == 6 * 3 * SIZE * SIZE, "the rows of before are gone"


@pytest.mark.slow
def test_a_kill_loses_a_part_at_most_and_leaves_what_no_kill_would(tmp_path: Path) -> None:
    whole, killed = fill(tmp_path / "whole", train=8), tmp_path / "killed"
    shutil.copytree(whole, killed)
    check(whole)
    # As a process that is killed while it decodes its third part of four.
    program = f"""
import os, signal
from pathlib import Path
from alexnet_lit.data import cache
from alexnet_lit.data.folder import scan
cache._PART = 6
real, count = cache.square, 0
def square(*args, **kwargs):
    global count
    count += 1
    if count == 15:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)
cache.square = square
root = Path({str(killed)!r})
cache.Cache(root / "train", root / "cache", size={SIZE}, channels=3).update(scan(root / "train").names, again=False)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert len(cache(killed).contents()) == 12, "two parts of six"

    check(killed)

    for one, other in zip(images(whole).values(), images(killed).values(), strict=True):
        assert isinstance(one, Tensor)
        assert isinstance(other, Tensor)
        assert torch.equal(one, other)


@pytest.mark.parametrize("torn", ["index", "pixels", "both"])
def test_files_that_end_in_the_middle_are_continued(torn: str, tmp_path: Path, decodings: list[str]) -> None:
    check(fill(tmp_path))
    made = cache(tmp_path)
    if torn in ("index", "both"):
        made.index.write_bytes(made.index.read_bytes()[:-5])
    if torn in ("pixels", "both"):
        os.truncate(made.pixels, made.pixels.stat().st_size - 3 * SIZE * SIZE - 100)
    decodings.clear()
    check(tmp_path)
    assert (
        sorted(set(decodings))
        == {"index": ["003.jpg"], "pixels": ["002.png", "003.jpg"], "both": ["002.png", "003.jpg"]}[torn]
    )
    check(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]\n", b'{"form": 0}\n["bag/000.png", 1, 2, 3]\n', b"\0" * 99])
def test_an_index_of_something_else_is_none(content: bytes, tmp_path: Path) -> None:
    fill(tmp_path, train=1)
    (tmp_path / "cache").mkdir()
    cache(tmp_path).index.write_bytes(content)
    check(tmp_path)


@pytest.mark.parametrize(
    "line", ["null", "[]", "[1]", '"abcd"', '["a", 1, 2, null]', "[[], 1, 2, 3]", '["a", 1, 2, -1]', "{"]
)
def test_a_line_that_is_none_is_no_picture(line: str, tmp_path: Path, decodings: list[str]) -> None:
    check(fill(tmp_path, train=1))
    with cache(tmp_path).index.open("a") as index:
        index.write(f"{line}\n")
    decodings.clear()
    check(tmp_path)
    assert not decodings


@pytest.mark.slow
def test_two_processes_at_once_decode_each_picture_once(tmp_path: Path) -> None:
    fill(tmp_path, train=8)
    program = f"""
import sys, time
from pathlib import Path
from alexnet_lit.data import cache
from alexnet_lit.data.folder import scan
cache._PART = 4
real = cache.square
def square(*args, **kwargs):
    time.sleep(0.02)
    return real(*args, **kwargs)
cache.square = square
root = Path({str(tmp_path)!r})
made = cache.Cache(root / "train", root / "cache", size={SIZE}, channels=3)
names = scan(root / "train").names
print("ready", flush=True)
sys.stdin.readline()
made.update(names, again=False)
"""
    start = [sys.executable, "-c", program]
    both = [
        subprocess.Popen(start, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        process.stdout.readline()
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        process.communicate(timeout=120)
        assert process.returncode == 0
    assert cache(tmp_path).pixels.stat().st_size == 24 * 3 * SIZE * SIZE
    check(tmp_path)


def test_a_broken_picture_is_remembered_and_tried_again_where_asked(tmp_path: Path, decodings: list[str]) -> None:
    train = fill(tmp_path, train=2) / "train"
    (train / "bag" / "000.png").write_bytes(b"")
    (train / "boot" / "gone.jpg").symlink_to(tmp_path / "picture.jpg")
    found = images(tmp_path)
    assert {name: why for name, why in found.items() if isinstance(why, str)} == {
        "bag/000.png": "empty",
        "boot/gone.jpg": "No such file or directory",
    }
    decodings.clear()
    images(tmp_path)
    assert not decodings
    images(tmp_path, again=True)
    assert sorted(decodings) == ["000.png", "gone.jpg"]
    picture("boot", 5).save(tmp_path / "picture.jpg")
    picture("bag", 5).save(train / "bag" / "000.png")
    check(tmp_path)


def test_names_may_be_anything(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "bag"
    folder.mkdir(parents=True)
    for number, name in enumerate(["ü.png", "a\nb.png", "\udcff.png", "'\"\\.png", "[1, 2].png", "\u2028.png"]):
        picture("bag", number).save(folder / "x.png")
        (folder / "x.png").rename(folder / name)
    check(tmp_path)


def test_other_sizes_and_colours_are_beside_each_other(tmp_path: Path) -> None:
    fill(tmp_path, train=1)
    for size, channels in ((24, 3), (24, 1), (16, 3)):
        made = Cache(tmp_path / "train", tmp_path / "cache", size=size, channels=channels)
        made.update(names(tmp_path), again=False)
        assert made.mapped().shape == (3, channels, size, size)
    check(tmp_path)


def test_it_says_how_far_it_is_and_how_long_it_will_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, train=4)
    monkeypatch.setattr(caching, "_PART", 6)
    monkeypatch.setattr(caching, "SAY_EVERY_S", 0.0)
    with caplog.at_level(logging.INFO, "alexnet_lit"):
        check(tmp_path)
    first, last = (message for message in caplog.messages if message.startswith("decoded"))
    assert first.startswith("decoded 6 of 12 pictures in train/, ")
    assert first.endswith(" left")
    assert last.startswith("decoded 12 of 12 pictures in train/, ")


def test_a_disk_that_is_too_small_is_told_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decodings: list[str]
) -> None:
    fill(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=20_735))
    with pytest.raises(
        UserError, match=r"cache: decoding takes 0.0 MB, but 0.0 MB are free: make room, set data.cache"
    ):
        check_room([(cache(tmp_path), names(tmp_path))])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=20_736))
    check_room([(cache(tmp_path), names(tmp_path))])
    assert not (tmp_path / "cache").exists()
    assert not decodings


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    fill(tmp_path, train=1)
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match=r"data\.cache=.*/cache can't be written .*: make room, or name another folder"):
        images(tmp_path)


def test_a_whole_cache_needs_no_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(fill(tmp_path / "one", train=1))

    def refused(*args: object, **kwargs: object) -> None:
        raise AssertionError("a cache on a read-only disk is good as it is")

    monkeypatch.setattr(caching, "alone", refused)
    check(tmp_path / "one")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    check(Path(shutil.copytree(tmp_path / "one", tmp_path / "copy")))


def test_what_is_wasted_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    train = fill(tmp_path, train=1) / "train"
    monkeypatch.setattr(caching, "_WASTE", 2)
    with caplog.at_level(logging.INFO, "alexnet_lit"):
        for number in range(7):
            picture("bag", number).save(train / "bag" / "000.png")
            os.utime(train / "bag" / "000.png", ns=(0, number))
            check(tmp_path)
    assert [message for message in caplog.messages if "of pictures that are no more: delete it" in message]


def test_the_index_is_what_its_documentation_says(tmp_path: Path) -> None:
    train = fill(tmp_path, train=1) / "train"
    check(tmp_path)
    header, first, *_ = cache(tmp_path).index.read_text().splitlines()
    info = (train / "bag" / "000.png").stat()
    assert json.loads(header) == {"form": caching.FORM, "shape": [3, SIZE, SIZE]}
    stamp = ["bag/000.png", info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]
    digest = hashlib.blake2b((train / "bag" / "000.png").read_bytes(), digest_size=8).hexdigest()
    assert json.loads(first) == [*stamp, digest, 0]
