"""Reads IDX files, the format of MNIST and its kin, and trusts nothing that their headers say.

An IDX file is a magic number (two zero bytes, 0x08 for uint8, the number of dimensions), one big-endian uint32 for each
dimension, then the values (http://yann.lecun.com/exdb/mnist). Every fault of a file is a `Mistake` that names the file.
"""

import math
import os
import stat
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from alexnet_lit.errors import Mistake

if TYPE_CHECKING:
    from torch import Tensor

CLASSES = 10
SIDE = 28  # pixels

# Bytes. Fashion-MNIST's largest file has 47 MB; with a limit, no file, however made, fills the memory.
LARGEST = 1 << 28

_GZIP = b"\x1f\x8b"
WAY_OUT = "delete or replace it (a missing file is looked for elsewhere, then downloaded)"
_HOLDS = {1: "labels", 3: "images"}


class Split(NamedTuple):
    """Images and what they show: `images` (N, 28, 28) uint8, `labels` (N,) int64."""

    images: "Tensor"
    labels: "Tensor"


def unpack(path: Path) -> bytes:
    """Read a gz or raw file, decompressed. Its first two bytes decide which it is, not its name.

    Raises `Mistake` for a file that can't be read, is corrupt or cut short, or is named .gz and is something else.
    """
    packed = _read(path)
    if packed.startswith(_GZIP):
        return _gunzip(packed, path)
    if path.suffix == ".gz" and not packed.startswith(b"\0\0"):
        start = f"starts with {packed[:12]!r}" if packed else "is empty"
        raise Mistake(f"{path} is named .gz but is not gzip (it {start}): {WAY_OUT}")
    return packed


def read_idx(path: Path, *, dims: int, content: bytes | None = None) -> "Tensor":
    """Read a uint8 tensor of `dims` dimensions: 3 for images (N, rows, columns), 1 for labels (N,).

    `content` spares the reading where the caller has what `unpack(path)` gives. Raises `Mistake` for a wrong magic
    number, a size of zero, and fewer or more bytes than the header promises.
    """
    content = unpack(path) if content is None else content
    magic, start = 0x0800 + dims, 4 + 4 * dims
    if len(content) >= 4 and (found := int.from_bytes(content[:4], "big")) != magic:
        raise Mistake(
            f"{path} has the magic number 0x{found:08x}, not 0x{magic:08x} of {_holds(dims)}: {WAY_OUT}",
        )
    if len(content) < start:
        raise Mistake(f"{path} is truncated: its header has {start} bytes, the file {len(content)}: {WAY_OUT}")
    sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    shape = " x ".join(map(str, sizes))
    if 0 in sizes:
        raise Mistake(f"{path} is empty: its header says {shape} {_holds(dims)}: {WAY_OUT}")
    expected = start + math.prod(sizes)
    if len(content) != expected:
        fault = "is truncated" if len(content) < expected else "has trailing bytes"
        raise Mistake(
            f"{path} {fault}: {shape} {_holds(dims)} need {expected:,} bytes, it has {len(content):,}: {WAY_OUT}",
        )
    import torch  # here, so that looking for the files needs no torch: `make setup` does it each time

    # A bytearray, because torch warns of tensors over memory that Python holds to be read-only.
    return torch.frombuffer(bytearray(memoryview(content)[start:]), dtype=torch.uint8).reshape(sizes)


def read_images(path: Path, *, content: bytes | None = None) -> "Tensor":
    """Read images (N, 28, 28) uint8. Raises `Mistake` as `read_idx` does, and for images of another size."""
    images = read_idx(path, dims=3, content=content)
    rows, columns = images.shape[1:]
    if (rows, columns) != (SIDE, SIDE):
        raise Mistake(f"{path} holds images of {rows} x {columns} pixels, not {SIDE} x {SIDE}: {WAY_OUT}")
    return images


def read_labels(path: Path, *, content: bytes | None = None) -> "Tensor":
    """Read labels (N,) int64. Raises `Mistake` as `read_idx` does, and for a label that is not 0 to 9."""
    labels = read_idx(path, dims=1, content=content).long()
    if int(labels.max()) >= CLASSES:
        at = int((labels >= CLASSES).nonzero()[0])
        label = int(labels[at])
        raise Mistake(f"{path} has the label {label} at position {at}, not one of 0 to {CLASSES - 1}: {WAY_OUT}")
    return labels


def read_pair(
    images_path: Path,
    labels_path: Path,
    *,
    images_content: bytes | None = None,
    labels_content: bytes | None = None,
) -> Split:
    """Read the images and labels of two files that belong together.

    Raises `Mistake` as `read_images` and `read_labels` do, and where one file has more than the other.
    """
    images = read_images(images_path, content=images_content)
    labels = read_labels(labels_path, content=labels_content)
    if len(images) != len(labels):
        raise Mistake(
            f"{images_path} has {len(images):,} images but {labels_path} has {len(labels):,} labels: "
            "replace the one that does not belong",
        )
    return Split(images, labels)


def _holds(dims: int) -> str:
    return _HOLDS.get(dims, f"values in {dims} dimensions")


def _read(path: Path) -> bytes:
    try:
        info = os.stat(path)
        # Asked before opening: a named pipe would wait for ever, a device would not end.
        regular, small = stat.S_ISREG(info.st_mode), info.st_size <= LARGEST
        packed = path.read_bytes() if regular and small else b""
    except OSError as error:
        raise Mistake(f"{path} cannot be read ({error.strerror}): make it readable, or {WAY_OUT}") from error
    if not regular:
        raise Mistake(f"{path} is {'a folder' if stat.S_ISDIR(info.st_mode) else 'no regular file'}: {WAY_OUT}")
    if not small:
        raise Mistake(f"{path} has {info.st_size:,} bytes, more than any file of this data set: {WAY_OUT}")
    return packed


def _gunzip(packed: bytes, path: Path) -> bytes:
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # 16: gzip, its checksum and length compared
    try:
        content = stream.decompress(packed, LARGEST + 1)
    except zlib.error as error:
        raise Mistake(f"{path} is corrupt gzip ({error}): {WAY_OUT}") from error
    if len(content) > LARGEST:
        raise Mistake(f"{path} unpacks to more than {LARGEST:,} bytes, more than any file of this data set: {WAY_OUT}")
    if not stream.eof:
        raise Mistake(f"{path} is truncated: its gzip data ends after {len(packed):,} bytes, too early: {WAY_OUT}")
    if stream.unused_data.strip(b"\0"):  # gzip allows zero bytes as padding
        raise Mistake(f"{path} has {len(stream.unused_data):,} trailing bytes after its gzip data: {WAY_OUT}")
    return content
