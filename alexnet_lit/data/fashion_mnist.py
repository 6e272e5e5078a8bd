"""Fashion-MNIST, whole and as the sample in the package: found on this machine or downloaded, and checked.

Distributors compress the files differently, so what counts is the sha256 of the decompressed content.
"""

import functools
import gzip
import hashlib
import itertools
import logging
import os
import zlib
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import torch
from pydantic import ConfigDict, validate_call
from torch import Tensor

from alexnet_lit.data.datamodule import ImageData, Pair, Split, locked
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
TIMEOUT_S = 10.0  # seconds that a mirror may send nothing

logger = logging.getLogger("alexnet_lit")


class FashionMNIST(ImageData):
    """60,000 + 10,000 images of clothes, 28x28 (Xiao et al. 2017).

    dir: folder that is looked in first and downloaded into. search: folders looked in next, `~` for home.
    mirrors: addresses of folders to download from, tried in turn. The rest: see ImageData.
    """

    train_total, test_total = 60_000, 10_000
    source_size, channels, classes = 28, 1, CLASSES

    @validate_call(config=ConfigDict(strict=True, arbitrary_types_allowed=True))
    def __init__(self, *, dir: str, search: list[str], mirrors: list[str], **rest: Any) -> None:
        super().__init__(**rest)
        self.origin = dir
        self.places: dict[str, Any] = {"dir": Path(dir).expanduser().absolute(), "search": search, "mirrors": mirrors}

    def prepare_data(self) -> None:
        """Find the four files or download them. Raises: UserError that says what is missing and the ways out."""
        self.origin = str(next(iter(fetch(**self.places).values())).parent)

    def read(self) -> Mapping[Split, Pair]:
        """All images and labels, each file checked. Raises: UserError that names a broken file."""
        return load_fashion_mnist(**self.places)


class Sample(ImageData):
    """2,000 + 500 images of Fashion-MNIST that are part of the package: no file to find, no network."""

    train_total, test_total = 2_000, 500
    source_size, channels, classes = 28, 1, CLASSES
    origin = "the sample in the package"

    def read(self) -> Mapping[Split, Pair]:
        return load_sample()


def load_fashion_mnist(
    *, dir: Path, search: Sequence[str], mirrors: Sequence[str], expected: Mapping[str, str] = FASHION_MNIST
) -> dict[Split, tuple[Tensor, Tensor]]:
    """Images uint8 (N, 28, 28) and labels int64 (N,), in the order of the files. Arguments and errors: as `fetch`."""
    paths = fetch(dir=dir, search=search, mirrors=mirrors, expected=expected)
    contents = [_content(path, path.stat().st_mtime_ns)[0] for path in paths.values()]
    # A bytearray, because torch warns of tensors over memory that is read-only. Headers have 16 and 8 bytes.
    parts = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in contents]
    train, test = ((images[16:].view(-1, 28, 28), labels[8:].long()) for images, labels in (parts[:2], parts[2:]))
    return {"train": train, "test": test}


def load_sample() -> dict[Split, tuple[Tensor, Tensor]]:
    """The embedded sample: of each class the first 200 training and 50 test images, in the order of the files."""
    return load_fashion_mnist(dir=SAMPLE_DIR, search=(), mirrors=(), expected=SAMPLE)


def fetch(
    *, dir: Path, search: Sequence[str], mirrors: Sequence[str], expected: Mapping[str, str] = FASHION_MNIST
) -> dict[str, Path]:
    """Find each file of `expected` (name -> sha256 of content) in `dir`, else in `search`'s folders, else download it.

    In a folder the files lie directly or, as torchvision leaves them, in FashionMNIST/raw, raw or gz. `dir` is written
    only when something is downloaded.
    Raises: UserError for a wrong file in `dir` (elsewhere it is passed over with a warning), and where a file is
    nowhere to be had.
    """
    home = dir.expanduser().absolute()
    folders = list(dict.fromkeys([home, *(Path(place).expanduser().absolute() for place in search)]))  # each once
    found = {name: _find(name, sha256, folders) for name, sha256 in expected.items()}
    missing = [name for name, path in found.items() if path is None]
    if missing and (missing := _download(missing, home, mirrors, expected)):
        raise UserError(
            f"Fashion-MNIST is not on this machine ({', '.join(missing)}: not in {', '.join(map(str, folders))}) and "
            f"can't be downloaded from {', '.join(mirrors) or 'data.mirrors, which is empty'}: copy the four files, gz "
            f"or raw, into data.dir={home}, or `apt-get install dataset-fashion-mnist` (Debian, Ubuntu), or train "
            "offline with data=sample"
        )
    return {name: path or home / f"{name}.gz" for name, path in found.items()}


def _find(name: str, sha256: str, folders: Sequence[Path]) -> Path | None:
    """The first right copy of a file. Raises: UserError for a wrong one in the first folder, `data.dir`."""
    # Raw before gz, because it spares the decompression.
    files = [f"{below}{file}" for below in ("", "FashionMNIST/raw/") for file in (name, f"{name}.gz")]
    for folder, file in itertools.product(folders, files):
        if not os.path.isfile(path := folder / file):  # unlike Path.is_file False in a closed folder
            continue
        try:
            _, digest = _content(path, path.stat().st_mtime_ns)
            if digest == sha256:
                return path
            fault = f"is not the published {name} (sha256 of its content: {digest[:12]}...)"
        except (OSError, EOFError, zlib.error) as error:
            fault = f"can't be read ({getattr(error, 'strerror', None) or error})"
        if folder == folders[0]:
            hint = "delete or replace it (a missing file is looked for elsewhere, then downloaded)"
            raise UserError(f"{path} {fault}: {hint}")
        logger.warning("passed over: %s %s", path, fault)
    return None


@functools.lru_cache(maxsize=4)  # one data set: 55 MB, read once for fetching, loading and the jobs of a sweep
def _content(path: Path, mtime: int) -> tuple[bytes, str]:
    """What a file holds, decompressed, and its sha256. mtime: in ns, so that one that has changed is read anew."""
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):  # gzip
        content = gzip.decompress(content)
    return content, hashlib.sha256(content).hexdigest()


def _download(names: Sequence[str], folder: Path, mirrors: Sequence[str], expected: Mapping[str, str]) -> list[str]:
    """Bring `<name>.gz` into a folder from `mirrors` (base addresses); each takes over where the one before failed.

    Of several processes one downloads and the others wait. A file appears under its name once it is whole and right.
    Returns what no mirror had. Raises: UserError for a folder that can't be written.
    """
    if not mirrors:
        return list(names)
    with locked(folder, key="data.dir"):
        missing = [name for name in names if not (folder / f"{name}.gz").exists()]
        for mirror in mirrors:
            while missing and (content := _get(f"{mirror.rstrip('/')}/{missing[0]}.gz", expected[missing[0]])):
                name = missing.pop(0)
                part = folder / f"{name}.gz.part"
                part.write_bytes(content)
                part.replace(folder / f"{name}.gz")
    return missing


def _get(url: str, sha256: str) -> bytes:
    """A gzipped file from a mirror; nothing, and a warning, if it can't be had there or holds something else."""
    logger.info("downloading %s", url)
    try:
        with urlopen(Request(url, headers={"User-Agent": "alexnet_lit"}), timeout=TIMEOUT_S) as answer:
            content: bytes = answer.read()
        if hashlib.sha256(gzip.decompress(content)).hexdigest() == sha256:
            return content
        fault = "is not what was published"
    except (OSError, HTTPException, EOFError, zlib.error, ValueError) as error:  # ValueError: no address
        fault = str(error)
    logger.warning("%s: %s", url, fault)
    return b""
