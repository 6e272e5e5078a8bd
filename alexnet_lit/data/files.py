"""Finds the four files of Fashion-MNIST, on this machine or on a mirror, and uses none that is not as published.

Distributors compress the files differently, so what counts is the sha256 of the decompressed content.
"""

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from alexnet_lit.data.download import NoMirror, download
from alexnet_lit.data.idx import WAY_OUT, Split, read_images, read_labels, read_pair, unpack
from alexnet_lit.errors import Mistake

# The file's name without .gz -> sha256 of what it holds.
FASHION_MNIST: Mapping[str, str] = MappingProxyType(
    {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
)
SAMPLE: Mapping[str, str] = MappingProxyType(
    {
        "train-images-idx3-ubyte": "a724cd72799a6b1c3a81c4263865a75a73bb6473673b3394e34adf222930f19e",
        "train-labels-idx1-ubyte": "4738fd437c0f8d6498ae7f6f5c86f1cc3c878d4116ff169fc5635bd6847899cc",
        "t10k-images-idx3-ubyte": "8fdf02ada67d92f4db5ba3c2f6c5b1cc6186ba6e0efd4914661e4389e103b81e",
        "t10k-labels-idx1-ubyte": "9c71808b3a0ebfc091442c0009a7aa35be2d9622bf6aaf6891ce9a0088e96c07",
    },
)
SAMPLE_DIR = Path(__file__).parent / "sample"

_TORCHVISION = Path("FashionMNIST", "raw")  # where torchvision puts the files, below the folder that it is given

logger = logging.getLogger("alexnet_lit")


class Found(NamedTuple):
    """A file whose content is right: where it is, and that content, decompressed."""

    path: Path
    content: bytes


class DataSet(NamedTuple):
    """What training may see and what only the test may."""

    train: Split
    test: Split


def load_fashion_mnist(
    *,
    dir: Path,
    search: Sequence[str],
    mirrors: Sequence[str],
    expected: Mapping[str, str] = FASHION_MNIST,
) -> DataSet:
    """Read Fashion-MNIST: train (60000, 28, 28) and (60000,), test (10000, 28, 28) and (10000,), in the files' order.

    Arguments and faults: as `locate`.
    """
    found = locate(dir=dir, search=search, mirrors=mirrors, expected=expected)

    def split(part: str) -> Split:
        images, labels = found[f"{part}-images-idx3-ubyte"], found[f"{part}-labels-idx1-ubyte"]
        return read_pair(images.path, labels.path, images_content=images.content, labels_content=labels.content)

    return DataSet(train=split("train"), test=split("t10k"))


def load_sample() -> DataSet:
    """Read the embedded sample: train (2000, 28, 28) and (2000,), test (500, 28, 28) and (500,), balanced."""
    return load_fashion_mnist(dir=SAMPLE_DIR, search=(), mirrors=(), expected=SAMPLE)


def fetch(
    *,
    dir: Path,
    search: Sequence[str],
    mirrors: Sequence[str],
    expected: Mapping[str, str] = FASHION_MNIST,
) -> dict[str, Path]:
    """Make sure that the files are on this machine and right, and say where. Arguments and faults: as `locate`."""
    return {name: hit.path for name, hit in locate(dir=dir, search=search, mirrors=mirrors, expected=expected).items()}


def locate(
    *,
    dir: Path,
    search: Sequence[str],
    mirrors: Sequence[str],
    expected: Mapping[str, str] = FASHION_MNIST,
) -> dict[str, Found]:
    """Find each file of `expected` (name -> sha256 of content) in `dir`, else in `search`'s folders, else download.

    In a folder the files lie directly or, as torchvision leaves them, in FashionMNIST/raw, raw or gz. `dir` is written
    only when something is downloaded. Content that was read once is kept, so that a second call costs nothing.

    Raises `Mistake` for a file in `dir` that is not right (the person chose that folder; a wrong file elsewhere is
    passed over with a warning), and where a file is nowhere to be had.
    """
    home = dir.expanduser().absolute()
    if home.exists() and not home.is_dir():
        raise Mistake(f"data.dir={dir} is a file: name the folder that holds the four files, or is to hold them")
    folders = dict.fromkeys(Path(place).expanduser().absolute() for place in search)  # each once, in order
    places = [folder for folder in folders if folder != home]
    found: dict[str, Found] = {}
    for name in expected:
        hit = _find(name, [home], expected, strict=True) or _find(name, places, expected, strict=False)
        if hit:
            found[name] = hit
    missing = [name for name in expected if name not in found]
    if missing:
        _download(missing, home, places, mirrors, expected)
        found |= {name: _verified(home / f"{name}.gz", name, expected) for name in missing}
    return {name: found[name] for name in expected}


def _find(name: str, places: Sequence[Path], expected: Mapping[str, str], *, strict: bool) -> Found | None:
    """Return the first right copy of a file. Where all are wrong, `strict` raises the first one's `Mistake`."""
    mistakes = []
    for place in places:
        for path in _copies(name, place):
            try:
                hit = _verified(path, name, expected)
            except Mistake as mistake:
                mistakes.append(mistake)
                continue
            _warn(mistakes)
            return hit
    if mistakes and strict:
        raise mistakes[0]
    _warn(mistakes)
    return None


def _warn(mistakes: Sequence[Mistake]) -> None:
    for mistake in mistakes:
        logger.warning("passed over: %s", mistake)


def _copies(name: str, place: Path) -> Iterator[Path]:
    """Yield the files in a folder that bear this name. Raw before gz, because it spares the decompression."""
    for folder in (place, place / _TORCHVISION):
        for file in (name, f"{name}.gz"):
            if os.path.lexists(folder / file):  # a link to nowhere too: it is named, not replaced
                yield folder / file


def _verified(path: Path, name: str, expected: Mapping[str, str]) -> Found:
    """Read a file whose sha256 is `expected[name]`. Raises the `Mistake` that tells best what is wrong with it."""
    content, digest = _content(path)
    if digest == expected[name]:
        return Found(path, content)
    is_images = "images" in name
    owner = next((other for other, sha256 in expected.items() if sha256 == digest), None)
    if owner:
        raise Mistake(f"{path} holds the content of {owner}: the files are swapped, give each its own name")
    if is_images:
        read_images(path, content=content)
    else:
        read_labels(path, content=content)
    partner = name.replace("images-idx3", "labels-idx1") if is_images else name.replace("labels-idx1", "images-idx3")
    for other in _copies(partner, path.parent):
        read_pair(*((path, other) if is_images else (other, path)))
    raise Mistake(
        f"{path} is not the published {name}: the sha256 of its content is {digest[:12]}..., not "
        f"{expected[name][:12]}...: {WAY_OUT}",
    )


def _content(path: Path) -> tuple[bytes, str]:
    """Read what a file holds, decompressed, and its sha256."""
    try:
        info = os.stat(path)
    except OSError:
        return _read(path, ())  # says what is wrong with it
    return _read(path, (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns))


@lru_cache(maxsize=4)  # one data set: 55 MB, read once for fetching, loading and the jobs of a sweep
def _read(path: Path, stamp: tuple[int, ...]) -> tuple[bytes, str]:
    # The stamp is for the cache: a file that has changed is read anew.
    content = unpack(path)
    return content, hashlib.sha256(content).hexdigest()


def _download(
    missing: Sequence[str],
    home: Path,
    places: Sequence[Path],
    mirrors: Sequence[str],
    expected: Mapping[str, str],
) -> None:
    def right(file: str, part: Path) -> bool:
        try:
            return hashlib.sha256(unpack(part)).hexdigest() == expected[file.removesuffix(".gz")]
        except Mistake:
            return False

    try:
        download([f"{name}.gz" for name in missing], into=home, mirrors=mirrors, right=right)
    except NoMirror as none:
        looked = ", ".join(map(str, [home, *places]))
        raise Mistake(
            f"Fashion-MNIST is not on this machine ({', '.join(missing)}: not in {looked}) and can't be downloaded "
            f"({none}): copy the four files, gz or raw, into data.dir={home}, or "
            "`apt-get install dataset-fashion-mnist` (Debian, Ubuntu), or train offline with data=sample",
        ) from none
