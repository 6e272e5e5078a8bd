"""IDX files: what is right is read exactly, and every fault of a file is one line that names it."""

import gzip
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alexnet_lit.data import idx
from alexnet_lit.data.idx import read_idx, read_images, read_labels, read_pair
from alexnet_lit.errors import Mistake


def idx_bytes(sizes: Sequence[int], values: bytes, *, magic: int | None = None) -> bytes:
    magic = 0x0800 + len(sizes) if magic is None else magic
    return b"".join(number.to_bytes(4, "big") for number in (magic, *sizes)) + values


IMAGES = idx_bytes((3, 28, 28), bytes(range(256)) * 9 + bytes(48))
LABELS = idx_bytes((3,), bytes([9, 0, 4]))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write_file(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write_file


Write = Callable[[str, bytes], Path]


@pytest.mark.parametrize("name", ["images", "images.gz"])
@pytest.mark.parametrize("packed", [False, True], ids=["raw", "gz"])
def test_content_decides_whether_a_file_is_gz(write: Write, name: str, packed: bool) -> None:
    images = read_images(write(name, gzip.compress(IMAGES) if packed else IMAGES))
    assert images.shape == (3, 28, 28)
    assert images.dtype == torch.uint8
    assert images[0, 0].tolist() == list(range(28))
    assert images[1, 0, 0] == 784 % 256


def test_a_pair(write: Write) -> None:
    images, labels = read_pair(write("images", IMAGES), write("labels.gz", gzip.compress(LABELS)))
    assert len(images) == 3
    assert labels.tolist() == [9, 0, 4]
    assert labels.dtype == torch.int64


def test_content_that_the_caller_has_is_not_read_again(tmp_path: Path) -> None:
    assert read_labels(tmp_path / "absent", content=LABELS).tolist() == [9, 0, 4]


GZ = gzip.compress(IMAGES)
FAULTS = {
    "no gzip, though named .gz": ("i.gz", b"<!DOCTYPE html>", "is named .gz but is not gzip (it starts with b'<"),
    "empty, though named .gz": ("i.gz", b"", "is named .gz but is not gzip (it is empty)"),
    "gzip cut short": ("i.gz", GZ[:-20], f"is truncated: its gzip data ends after {len(GZ) - 20} bytes"),
    "gzip without its trailer": ("i.gz", GZ[:-8], "is truncated"),
    "gzip header only": ("i.gz", GZ[:5], "is truncated"),
    "gzip with a damaged byte": ("i.gz", GZ[:40] + bytes([GZ[40] ^ 255]) + GZ[41:], "is corrupt gzip"),
    "gzip with another checksum": ("i.gz", GZ[:-8] + b"oops" + GZ[-4:], "is corrupt gzip"),
    "gzip and more": ("i.gz", GZ + b"more", "has 4 trailing bytes after its gzip data"),
    "labels for images": ("i", LABELS, "has the magic number 0x00000801, not 0x00000803 of images"),
    "floats": ("i", idx_bytes((1, 28, 28), bytes(3136), magic=0x0D03), "0x00000d03, not 0x00000803"),
    "empty": ("i", b"", "is truncated: its header has 16 bytes, the file 0"),
    "header cut short": ("i", IMAGES[:15], "is truncated: its header has 16 bytes, the file 15"),
    "data cut short": ("i", IMAGES[:-1], "is truncated: 3 x 28 x 28 images need 2,368 bytes, it has 2,367"),
    "data missing": ("i", IMAGES[:16], "is truncated: 3 x 28 x 28 images need 2,368 bytes, it has 16"),
    "trailing bytes": ("i", IMAGES + b"!", "has trailing bytes: 3 x 28 x 28 images need 2,368 bytes, it has 2,369"),
    "no images": ("i", idx_bytes((0, 28, 28), b""), "is empty: its header says 0 x 28 x 28 images"),
    "images of 14 x 56": ("i", idx_bytes((3, 14, 56), IMAGES[16:]), "holds images of 14 x 56 pixels, not 28 x 28"),
}


@pytest.mark.parametrize(("name", "content", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_of_images_is_named(write: Write, name: str, content: bytes, words: str) -> None:
    path = write(name, content)
    with pytest.raises(Mistake) as caught:
        read_images(path)
    assert_readable(caught.value, path, words)


def test_a_label_out_of_range_is_named(write: Write) -> None:
    path = write("labels", idx_bytes((4,), bytes([9, 0, 10, 255])))
    with pytest.raises(Mistake) as caught:
        read_labels(path)
    assert_readable(caught.value, path, "has the label 10 at position 2, not one of 0 to 9")


def test_more_images_than_labels(write: Write) -> None:
    images, labels = write("images", IMAGES), write("labels", idx_bytes((2,), bytes(2)))
    with pytest.raises(Mistake) as caught:
        read_pair(images, labels)
    assert_readable(caught.value, labels, f"{images} has 3 images but {labels} has 2 labels")


def test_sizes_in_a_header_are_not_believed(write: Write) -> None:
    path = write("images", idx_bytes((2**32 - 1,) * 3, b""))  # 2 ** 96 bytes, if one did
    with pytest.raises(Mistake, match="is truncated"):
        read_images(path)


def test_a_file_that_unpacks_without_end_is_stopped(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idx, "LARGEST", 10_000)
    with pytest.raises(Mistake, match="unpacks to more than 10,000 bytes"):
        read_images(write("images.gz", gzip.compress(bytes(10_001))))
    with pytest.raises(Mistake, match="has 10,001 bytes, more than any file"):
        read_images(write("images", bytes(10_001)))


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    with pytest.raises(Mistake) as caught:
        read_images(tmp_path / "pipe")
    assert_readable(caught.value, tmp_path / "pipe", "is no regular file")
    with pytest.raises(Mistake) as caught:
        read_images(tmp_path)
    assert_readable(caught.value, tmp_path, "is a folder")
    with pytest.raises(Mistake) as caught:
        read_images(tmp_path / "absent")
    assert_readable(caught.value, tmp_path / "absent", "cannot be read (No such file or directory)")


def test_a_file_without_permission_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:  # permission bits don't bind root, as whom tests may run
        raise PermissionError(13, "Permission denied", str(path))

    path = write("images", IMAGES)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(Mistake) as caught:
        read_images(path)
    assert_readable(caught.value, path, "cannot be read (Permission denied)")


sizes_of_headers = st.integers(0, 4) | st.integers(0, 2**32 - 1)
headers = st.builds(idx_bytes, st.lists(sizes_of_headers, max_size=4), st.binary(max_size=80))
contents = st.binary(max_size=120) | headers
packed = st.builds(
    lambda content, cut, tail: gzip.compress(content)[: cut or None] + tail,
    contents,
    st.integers(-30, 0),
    st.binary(max_size=3),
)


@given(content=contents | packed, dims=st.integers(1, 3), suffix=st.sampled_from(["", ".gz"]))
def test_any_bytes_are_a_tensor_or_a_mistake(
    tmp_path_factory: pytest.TempPathFactory,
    content: bytes,
    dims: int,
    suffix: str,
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(content)
    try:
        tensor = read_idx(path, dims=dims)
    except Mistake as mistake:
        assert_readable(mistake, path, "")
    else:
        assert tensor.dim() == dims
        plain = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        assert plain == idx_bytes(tensor.shape, bytes(tensor.flatten().tolist()))


def assert_readable(mistake: Mistake, path: Path, words: str) -> None:
    text = str(mistake)
    assert str(path) in text
    assert words in text
    assert "\n" not in text
    assert "replace" in text, "the way out"
