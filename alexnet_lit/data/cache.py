"""Pictures decoded once into a file that is mapped into memory: what takes an hour takes no time from then on."""

import hashlib
import json
import logging
import os
import shutil
import time
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from alexnet_lit.data.picture import Broken, square
from alexnet_lit.data.writing import alone, writing
from alexnet_lit.errors import UserError

FORM = 2  # of the index and of what `square` makes of a picture: another number decodes anew
SAY_EVERY_S = 10.0

_PART = 256  # pictures that are written, and can be lost, at a time
_WASTE = 4096  # rows of pictures that are no more, beside as many as are in use, that nothing is said about

logger = logging.getLogger("alexnet_lit")

Row = int | str  # where a picture is, or why it is broken


class Stamp(NamedTuple):
    """What a file is known again by without reading it; -1 where there is none.

    Files of one archive may agree in size and mtime, whichever name they are moved to: inode and ctime tell them apart.
    """

    name: str
    size: int
    mtime: int  # in ns, as ctime
    ctime: int
    inode: int


class Kept(NamedTuple):
    """A picture in the cache. digest: of the file's bytes, as a copy has another inode and ctime."""

    digest: str
    row: Row


class Cache:
    """The pictures below one folder as rows of a file, uint8 (channels, size, size) each, and an index of them.

    <stem>.pixels is only ever appended to, so what a run has mapped stays as it is. <stem>.index has a line of JSON a
    picture, its stamp, digest and row; it is appended to once the rows are on the disk, so that a kill loses a part at
    most. Both are made anew where the index has another form.

    pictures: the folder that names are relative to. folder: where the two files are.
    """

    def __init__(self, pictures: Path, folder: Path, *, size: int, channels: int) -> None:
        self.pictures = pictures
        self.folder = folder
        self.shape = (channels, size, size)
        self.stem = f"{pictures.name}_{size}px_{'rgb' if channels == 3 else 'grey'}"
        self.pixels = folder / f"{self.stem}.pixels"
        self.index = folder / f"{self.stem}.index"
        self._bytes = channels * size * size
        self._header = json.dumps({"form": FORM, "shape": self.shape})

    def update(self, names: Sequence[str], *, again: bool) -> dict[str, Row]:
        """Bring the cache to what `names` hold now, in their order: decode what is new or has changed.

        again: try those that were broken once more, as it may have been the disk or a permission.
        Returns what `contents` does. Raises: UserError where there is no room, or no way to write.
        """
        stamps = [self._stamp(name) for name in names]
        known = self._read()
        if list(known) != stamps and self.folder.is_dir() and not os.access(self.folder, os.W_OK):
            known = self._recognised(stamps, known)  # what can't be written down is compared each time
        if list(known) != stamps or self._missing(stamps, known, again=again):
            with alone(self.folder, lock=f".{self.stem}.lock", key="data.cache", doing="decodes pictures"):
                known = self._update(stamps, again=again)
        return _by_name(known)

    def lacks(self, names: Sequence[str]) -> int:
        """Bytes that the file will grow by until it has all of `names`, about: a change of pictures is not counted."""
        return max(0, len(names) - (self._rows() if self._is_ours() else 0)) * self._bytes

    def contents(self) -> dict[str, Row]:
        """What the index says: each name with its row, or with the reason why it is broken."""
        return _by_name(self._read())

    def mapped(self) -> Tensor:
        """All rows, uint8 (rows, channels, size, size), as a mapping of the file: read where they are looked at."""
        rows = self._rows()
        pixels = torch.from_file(str(self.pixels), shared=False, size=rows * self._bytes, dtype=torch.uint8)
        return pixels.view(rows, *self.shape)

    def _update(self, stamps: Sequence[Stamp], *, again: bool) -> dict[Stamp, Kept]:
        if not self._is_ours():
            with writing(self.folder, key="data.cache"):
                self.pixels.unlink(missing_ok=True)  # rows of another form; who has mapped them keeps them
        read = self._read()  # anew: another process may have done it meanwhile
        known = self._recognised(stamps, read)
        missing = self._missing(stamps, known, again=again)
        if missing:
            known = {stamp: known[stamp] for stamp in stamps if stamp in known}
            self._write(known)
            known |= self._decode(missing)
        if missing or list(read) != stamps:
            known = {stamp: known[stamp] for stamp in stamps}
            self._write(known)
        wasted = self._rows() - len(stamps)
        if wasted > len(stamps) + _WASTE:
            size = _size(wasted * self._bytes)
            logger.info("%s has %s of pictures that are no more: delete it to be rid of them", self.pixels, size)
        return known

    def _missing(self, stamps: Iterable[Stamp], known: dict[Stamp, Kept], *, again: bool) -> list[Stamp]:
        return [stamp for stamp in stamps if stamp not in known or (again and isinstance(known[stamp].row, str))]

    def _recognised(self, stamps: Iterable[Stamp], known: dict[Stamp, Kept]) -> dict[Stamp, Kept]:
        """What is known, by the present stamps of files that have the bytes, size and mtime that they had."""
        before = {stamp[:3]: stamp for stamp in known}
        doubtful = [stamp for stamp in stamps if stamp not in known and stamp[:3] in before]
        now = dict[Stamp, Stamp]()
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for stamp, digest in zip(doubtful, pool.map(self._digest, doubtful), strict=True):
                if digest and digest == known[before[stamp[:3]]].digest:
                    now[before[stamp[:3]]] = stamp
        return {now.get(stamp, stamp): kept for stamp, kept in known.items()} if now else known

    def _stamp(self, name: str) -> Stamp:
        try:
            info = os.stat(self.pictures / name)
        except OSError:
            return Stamp(name, -1, -1, -1, -1)  # decoding says what is wrong with it
        return Stamp(name, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)

    def _digest(self, stamp: Stamp) -> str:
        """Of all bytes: the first and last of many pictures are alike. Empty of what is no file or can't be read."""
        path = self.pictures / stamp.name
        try:
            return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest() if path.is_file() else ""
        except OSError:
            return ""

    def _rows(self) -> int:
        return self.pixels.stat().st_size // self._bytes if self.pixels.exists() else 0

    def _is_ours(self) -> bool:
        """Whether the index has this form."""
        try:
            with self.index.open(encoding="utf-8") as file:
                return file.readline() == f"{self._header}\n"
        except (OSError, ValueError):
            return False

    def _read(self) -> dict[Stamp, Kept]:
        """The index; empty where there is none of this form. A line cut short, or without a row, counts as none."""
        try:
            lines = self.index.read_text(encoding="utf-8").split("\n")[1:-1] if self._is_ours() else []
        except (OSError, ValueError):
            return {}
        rows, known = self._rows(), dict[Stamp, Kept]()
        for line in lines:
            try:
                *stamp, digest, row = json.loads(line)
                if isinstance(row, str) or 0 <= row < rows:
                    known[Stamp(*stamp)] = Kept(digest, row)
            except (ValueError, TypeError):
                continue
        return known

    def _write(self, known: dict[Stamp, Kept]) -> None:
        """Replace the index, at once."""
        part = self.index.with_suffix(".part")
        with writing(self.folder, key="data.cache"):
            with part.open("w", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in [self._header, *map(_line, known.items())])
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.index)

    def _decode(self, stamps: Sequence[Stamp]) -> dict[Stamp, Kept]:
        """Decode and append; where each one is then."""
        began = said = time.monotonic()
        broken, known = 0, dict[Stamp, Kept]()
        with (
            warnings.catch_warnings(action="ignore"),  # of what PIL finds odd in a picture that it can read
            writing(self.folder, key="data.cache"),
            self.pixels.open("ab") as pixels,
            self.index.open("a", encoding="utf-8") as index,
            ThreadPoolExecutor(torch.get_num_threads()) as pool,
        ):
            end = self._rows()
            pixels.truncate(end * self._bytes)  # a row that a kill cut short
            for start in range(0, len(stamps), _PART):
                part, rows = stamps[start : start + _PART], dict[Stamp, Kept]()
                for stamp, (digest, result) in zip(part, pool.map(self._square, part), strict=True):
                    if isinstance(result, str):
                        logger.debug("broken: %s (%s)", self.pictures / stamp.name, result)
                        rows[stamp], broken = Kept(digest, result), broken + 1
                    else:
                        pixels.write(result)
                        rows[stamp], end = Kept(digest, end), end + 1
                pixels.flush()
                os.fsync(pixels.fileno())
                index.writelines(f"{_line(item)}\n" for item in rows.items())
                index.flush()
                known |= rows
                now = time.monotonic()
                if now - said >= SAY_EVERY_S or len(known) == len(stamps):
                    said = now
                    _say(f"{self.pictures.name}/", len(known), len(stamps), broken, now - began)
        return known

    def _square(self, stamp: Stamp) -> tuple[str, bytes | str]:
        """The file's digest, and the picture or why it is broken."""
        digest = self._digest(stamp)
        try:
            return digest, square(self.pictures / stamp.name, size=self.shape[-1], channels=self.shape[0])
        except Broken as reason:
            return digest, str(reason)


def check_room(caches: Sequence[tuple[Cache, Sequence[str]]]) -> None:
    """Say what decoding will take of the disk. Raises: UserError if that is more than is free."""
    needed = sum(cache.lacks(names) for cache, names in caches)
    folder = caches[0][0].folder
    disk = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(disk).free
    if needed > free:
        way_out = "make room, set data.cache to a folder on another disk, or use a smaller data.cache_size"
        raise UserError(f"data.cache={folder}: decoding takes {_size(needed)}, but {_size(free)} are free: {way_out}")
    if needed:
        logger.info("decoding once, into %s: takes %s of the %s that are free", folder, _size(needed), _size(free))


def _by_name(known: dict[Stamp, Kept]) -> dict[str, Row]:
    return {stamp.name: kept.row for stamp, kept in known.items()}


def _line(item: tuple[Stamp, Kept]) -> str:
    return json.dumps([*item[0], *item[1]])


def _say(what: str, done: int, total: int, broken: int, seconds: float) -> None:
    """How far it is, and how long it will take."""
    wrong = f", {broken:,} broken" if broken else ""
    left = f"about {_time(seconds / done * (total - done))} left" if done < total else f"in {_time(seconds)}"
    logger.info(f"decoded {done:,} of {total:,} pictures in {what}{wrong}, {done / seconds:,.0f}/s, {left}")


def _time(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
