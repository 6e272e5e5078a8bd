"""Fashion-MNIST, whole and as the sample in the package: found on this machine or downloaded, and checked.

Distributors compress the files differently, so what counts is the sha256 of the decompressed content.
"""

import functools
import gzip
import hashlib
import logging
import zlib
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import torch
from pydantic import ConfigDict, validate_call
from torch import Tensor

from alexnet_lit.data.datamodule import ImageData, Pair, Split
from alexnet_lit.data.lock import locked, writing
from alexnet_lit.errors import UserError

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
# The file's name without .gz -> sha256 of what it holds.
FASHION_MNIST = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
SAMPLE = {
    "train-images-idx3-ubyte": "a724cd72799a6b1c3a81c4263865a75a73bb6473673b3394e34adf222930f19e",
    "train-labels-idx1-ubyte": "4738fd437c0f8d6498ae7f6f5c86f1cc3c878d4116ff169fc5635bd6847899cc",
    "t10k-images-idx3-ubyte": "8fdf02ada67d92f4db5ba3c2f6c5b1cc6186ba6e0efd4914661e4389e103b81e",
    "t10k-labels-idx1-ubyte": "9c71808b3a0ebfc091442c0009a7aa35be2d9622bf6aaf6891ce9a0088e96c07",
}
SAMPLE_DIR = Path(__file__).parent / "sample"
TIMEOUT_S = 10.0  # of a mirror, without a byte

logger = logging.getLogger("alexnet_lit")


class LabelledImages(NamedTuple):
    """images: uint8 (N, 28, 28). labels: int64 (N,)."""

    images: Tensor
    labels: Tensor


class DataSet(NamedTuple):
    """Training and test images."""

    train: LabelledImages
    test: LabelledImages


class FashionMNIST(ImageData):
    """60,000 + 10,000 images of clothes, 28x28 (Xiao et al. 2017).

    dir: folder that is looked in first and downloaded into. search: folders looked in next, `~` for home.
    mirrors: addresses of folders to download from, tried in turn. The rest: see ImageData.
    """

    train_total = 60_000
    test_total = 10_000
    source_size = 28
    channels = 1
    classes = CLASSES

    @validate_call(config=ConfigDict(strict=True, arbitrary_types_allowed=True))
    def __init__(self, *, dir: str, search: list[str], mirrors: list[str], **rest: Any) -> None:
        super().__init__(**rest)
        self.origin = dir
        self.places: dict[str, Any] = {"dir": Path(dir).expanduser().absolute(), "search": search, "mirrors": mirrors}

    def prepare_data(self) -> None:
        """Find the four files or download them. Raises: UserError that says what is missing and the ways out."""
        self.origin = str(next(iter(fetch(**self.places).values())).parent)

    def read(self) -> dict[Split, Pair]:
        """All images and labels, each file checked. Raises: UserError that names a broken file."""
        train, test = load_fashion_mnist(**self.places)
        return {"train": train, "test": test}


class Sample(ImageData):
    """2,000 + 500 images of Fashion-MNIST that are part of the package: no file to find, no network."""

    train_total = 2_000
    test_total = 500
    source_size = 28
    channels = 1
    classes = CLASSES
    origin = "the sample in the package"

    def read(self) -> dict[Split, Pair]:
        """All images and labels of the sample."""
        train, test = load_sample()
        return {"train": train, "test": test}


def load_fashion_mnist(
    *, dir: Path, search: Sequence[str], mirrors: Sequence[str], expected: Mapping[str, str] = FASHION_MNIST
) -> DataSet:
    """Read Fashion-MNIST: train (60000, 28, 28) and (60000,), test (10000, 28, 28) and (10000,), in the files' order.

    Arguments and errors: as `fetch`.
    """
    paths = fetch(dir=dir, search=search, mirrors=mirrors, expected=expected)
    # A bytearray, because torch warns of tensors over memory that is read-only. Headers have 16 and 8 bytes.
    values = {name: torch.frombuffer(bytearray(_content(path)[0]), dtype=torch.uint8) for name, path in paths.items()}

    def read(part: str) -> LabelledImages:
        images, labels = values[f"{part}-images-idx3-ubyte"][16:], values[f"{part}-labels-idx1-ubyte"][8:]
        return LabelledImages(images.view(-1, 28, 28), labels.long())

    return DataSet(train=read("train"), test=read("t10k"))


def load_sample() -> DataSet:
    """Read the embedded sample: train (2000, 28, 28) and (2000,), test (500, 28, 28) and (500,), balanced.

    Of each class the first 200 training and 50 test images of Fashion-MNIST, in the order of its files.
    """
    return load_fashion_mnist(dir=SAMPLE_DIR, search=(), mirrors=(), expected=SAMPLE)


def fetch(
    *, dir: Path, search: Sequence[str], mirrors: Sequence[str], expected: Mapping[str, str] = FASHION_MNIST
) -> dict[str, Path]:
    """Find each file of `expected` (name -> sha256 of content) in `dir`, else in `search`'s folders, else download it.

    In a folder the files lie directly or, as torchvision leaves them, in FashionMNIST/raw, raw or gz. `dir` is written
    only when something is downloaded.
    Raises: UserError for a wrong file in `dir` without a right copy beside it (elsewhere it is passed over with a
    warning), and where a file is nowhere to be had.
    """
    home = dir.expanduser().absolute()
    if home.exists() and not home.is_dir():
        raise UserError(f"data.dir={dir} is a file: name the folder that holds the four files, or is to hold them")
    folders = list(dict.fromkeys([home, *(Path(place).expanduser().absolute() for place in search)]))  # each once
    found = {name: _find(name, sha256, folders) for name, sha256 in expected.items()}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        try:
            _download(missing, home, mirrors, expected)
        except ConnectionError as error:
            raise UserError(
                f"Fashion-MNIST is not on this machine ({', '.join(missing)}: not in {', '.join(map(str, folders))}) "
                f"and can't be downloaded ({error}): copy the four files, gz or raw, into data.dir={home}, or "
                "`apt-get install dataset-fashion-mnist` (Debian, Ubuntu), or train offline with data=sample"
            ) from error
    return {name: path or home / f"{name}.gz" for name, path in found.items()}


def _find(name: str, sha256: str, folders: Sequence[Path]) -> Path | None:
    """The first right copy of a file. Raises: UserError if the first folder, `data.dir`, has wrong copies only."""
    for folder in folders:
        # Raw before gz, because it spares the decompression.
        places = [folder / below / file for below in ("", "FashionMNIST/raw") for file in (name, f"{name}.gz")]
        faults = {path: _fault(path, name, sha256) for path in places if path.exists()}
        right = [path for path, fault in faults.items() if not fault]
        wrong = [f"{path} {fault}" for path, fault in faults.items() if fault]
        if wrong and not right and folder == folders[0]:
            raise UserError(
                f"{wrong[0]}: delete or replace it (a missing file is looked for elsewhere, then downloaded)"
            )
        for text in wrong:
            logger.warning("passed over: %s", text)
        if right:
            return right[0]
    return None


def _fault(path: Path, name: str, sha256: str) -> str:
    """What is wrong with a file, in words; "" if its content is as published."""
    if not path.is_file():  # asked before opening: a named pipe would wait for ever
        return "is no regular file"
    try:
        _, digest = _content(path)
    except (OSError, EOFError, zlib.error) as error:
        return f"can't be read ({getattr(error, 'strerror', None) or error})"
    return "" if digest == sha256 else f"is not the published {name} (sha256 of its content: {digest[:12]}...)"


def _content(path: Path) -> tuple[bytes, str]:
    """What a file holds, decompressed, and its sha256. A file that has changed is read anew."""
    info = path.stat()
    return _read(path, (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns))


@functools.lru_cache(maxsize=4)  # one data set: 55 MB, read once for fetching, loading and the jobs of a sweep
def _read(path: Path, stamp: tuple[int, ...]) -> tuple[bytes, str]:
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):  # gzip
        content = gzip.decompress(content)
    return content, hashlib.sha256(content).hexdigest()


def _download(names: Sequence[str], folder: Path, mirrors: Sequence[str], expected: Mapping[str, str]) -> None:
    """Bring `<name>.gz` into a folder from `mirrors` (base addresses); each takes over where the one before failed.

    Of several processes one downloads and the others wait. A file appears under its name once it is whole and right.
    Raises: ConnectionError with the reasons where no mirror helps; UserError for a mirror that is no address and a
    folder that can't be written.
    """
    for mirror in mirrors:
        if not mirror.startswith(("http://", "https://")):
            raise UserError(f"data.mirrors has {mirror!r}, not an address that starts with http:// or https://")
    reasons = []
    with locked(folder, name=".download.lock", key="data.dir", doing="downloads"):
        missing = [name for name in names if not (folder / f"{name}.gz").exists()]
        for mirror in (address.rstrip("/") for address in mirrors):
            while missing:
                if fault := _download_file(missing[0], expected[missing[0]], folder, mirror):
                    reasons.append(f"{mirror}: {fault}")
                    logger.warning("%s", reasons[-1])
                    break
                del missing[0]
    if missing:
        raise ConnectionError("; ".join(reasons) or "data.mirrors is empty")


def _download_file(name: str, sha256: str, folder: Path, mirror: str) -> str:
    """Bring one file. Returns what is wrong with the mirror; "" if nothing is."""
    logger.info("downloading %s from %s", name, mirror)
    try:
        with urlopen(
            Request(f"{mirror}/{name}.gz", headers={"User-Agent": "alexnet_lit"}), timeout=TIMEOUT_S
        ) as answer:
            content = answer.read()
    except (OSError, HTTPException, ValueError) as error:  # ValueError: a host name that can't be one
        return str(getattr(error, "reason", None) or error)
    part = folder / f"{name}.gz.part"
    with writing(folder, key="data.dir"):
        part.write_bytes(content)
        if fault := _fault(part, name, sha256):
            part.unlink()
            return f"what it sends {fault}"
        part.replace(folder / f"{name}.gz")
    return ""
