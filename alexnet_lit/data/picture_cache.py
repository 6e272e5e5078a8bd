"""Pictures decoded once into a file that is mapped into memory: what takes an hour takes no time from then on."""

import hashlib
import json
import logging
import os
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from alexnet_lit.data.datamodule import locked
from alexnet_lit.data.picture import Broken, square

VERSION = 5  # of what `square` makes of a picture: another number decodes anew

_PART = 256  # pictures that are decoded at a time
_LOG_EVERY_S = 10.0

logger = logging.getLogger("alexnet_lit")


def decoded(
    pictures: Path, names: Sequence[str], folder: Path, *, size: int, channels: int
) -> tuple[Tensor, dict[str, str]]:
    """Map pictures as uint8 (N, channels, size, size), in their order and without the broken; and why those are broken.

    They are decoded if no file in `folder` has them. It is named after a hash of their names and of size, mtime, ctime
    and inode of each, as files of one archive may agree in size and mtime; once it is whole, a JSON file beside it
    names the broken. Files of pictures that have changed since are removed; who has mapped them keeps them.

    pictures: the folder that `names` are relative to. folder: for these two files and those of val/ and test/ alone.
    Raises: UserError where the folder can't be written.
    """
    kind = f"{pictures.name}_{size}px_{'rgb' if channels == 3 else 'grey'}"
    state = json.dumps([VERSION, [(name, _stamp(pictures / name)) for name in names]])
    stem = f"{kind}_{hashlib.sha256(state.encode()).hexdigest()[:16]}"
    pixels, index = folder / f"{stem}.pixels", folder / f"{stem}.json"
    if not index.exists():
        with locked(folder, key="data.cache"):
            if not index.exists():  # else another process has done it meanwhile
                for earlier in sorted(folder.glob(f"{kind}_*")):  # of each the index first
                    earlier.unlink()
                part = index.with_suffix(".part")
                part.write_text(json.dumps(_decode(pictures, names, pixels, size, channels)), encoding="utf-8")
                part.replace(index)
    broken: dict[str, str] = json.loads(index.read_bytes())
    count = len(names) - len(broken)
    nbytes = count * channels * size**2
    mapped = torch.from_file(str(pixels), size=nbytes, dtype=torch.uint8) if count else torch.empty(0).byte()
    return mapped.view(count, channels, size, size), broken


def _stamp(path: Path) -> list[int]:
    """What tells a file from others, without reading it."""
    try:
        info = os.stat(path)
    except OSError:
        return []  # decoding says what is wrong with it
    return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]


def _decode(pictures: Path, names: Sequence[str], pixels: Path, size: int, channels: int) -> dict[str, str]:
    """Write pictures to a file, decoded in parallel; returns the broken ones with the reason."""
    megabytes = len(names) * channels * size**2 / 1e6
    logger.info("decoding %s/ once, into %s: takes %.1f MB at most", pictures.name, pixels.parent, megabytes)

    def load(name: str) -> bytes | str:
        try:
            return square(pictures / name, size=size, channels=channels)
        except Broken as reason:
            return str(reason)

    broken, logged = dict[str, str](), time.monotonic()
    with (
        warnings.catch_warnings(action="ignore"),  # of what PIL finds odd in a picture that it can read
        pixels.open("wb") as file,
        ThreadPoolExecutor(torch.get_num_threads()) as pool,
    ):
        for start in range(0, len(names), _PART):
            part = names[start : start + _PART]
            for name, result in zip(part, pool.map(load, part), strict=True):
                if isinstance(result, bytes):
                    file.write(result)
                else:
                    broken[name] = result
            done = start + len(part)
            if done == len(names) or time.monotonic() - logged >= _LOG_EVERY_S:
                logged = time.monotonic()
                logger.info(f"decoded {done:,} of {len(names):,} pictures in {pictures.name}/")
        file.flush()
        os.fsync(file.fileno())
    return broken
