"""Pictures decoded once into a file that is mapped into memory: what takes an hour takes no time from then on."""

import json
import logging
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from alexnet_lit.data.datamodule import locked
from alexnet_lit.data.picture import Broken, square

VERSION = 4  # of the index and of what `square` makes of a picture: another number decodes anew
SAVE_EVERY_S = 10.0  # what a kill loses at most

_PART = 256  # pictures that are decoded at a time

logger = logging.getLogger("alexnet_lit")

Row = int | str  # where a picture is, or why it is broken


class Entry(NamedTuple):
    """A picture in the index.

    stamp: size, mtime, ctime (ns) and inode of its file: files of one archive may agree in size and mtime.
    """

    stamp: list[int]
    row: Row


class PictureCache:
    """The pictures below one folder as rows of a file, uint8 (channels, size, size) each, and an index of them.

    The pixels are only ever appended to, so what a run has mapped stays as it is. The index is JSON, name -> Entry, and
    is replaced as a whole, after the rows that it names are on the disk.

    pictures: the folder that names are relative to. folder: where the two files are.
    """

    def __init__(self, pictures: Path, folder: Path, *, size: int, channels: int) -> None:
        self.pictures = pictures
        self.folder = folder
        self.shape = (channels, size, size)
        stem = f"{pictures.name}_{size}px_{'rgb' if channels == 3 else 'grey'}"
        self.pixels = folder / f"{stem}.pixels"
        self.index = folder / f"{stem}.index"
        self._bytes = channels * size * size

    def update(self, names: Sequence[str], *, retry_broken: bool) -> dict[str, Row]:
        """Decode what of `names` is new or has changed; retry_broken: also what was broken when it was last tried.

        Returns the row of each name, in their order. Raises: UserError where the folder can't be written.
        """
        stamps = {name: self._stamp(name) for name in names}
        entries = self._read()
        if list(entries) != list(names) or _outdated(stamps, entries, retry_broken):
            with locked(self.folder, key="data.cache"):
                entries = self._read()  # anew: another process may have done it meanwhile
                if not entries:
                    self.pixels.unlink(missing_ok=True)  # of another version; who has mapped it keeps it
                if outdated := _outdated(stamps, entries, retry_broken):
                    self._decode(outdated, stamps, entries)
                entries = {name: entries[name] for name in names}
                self._save(entries)
        return {name: entry.row for name, entry in entries.items()}

    def rows(self) -> dict[str, Row]:
        """What the index says: each name with its row, or with the reason why it is broken."""
        return {name: entry.row for name, entry in self._read().items()}

    def mapped(self) -> Tensor:
        """All rows, uint8 (rows, channels, size, size), as a mapping of the file: read where they are looked at."""
        rows = self._count()
        pixels = torch.from_file(str(self.pixels), shared=False, size=rows * self._bytes, dtype=torch.uint8)
        return pixels.view(rows, *self.shape)

    def _stamp(self, name: str) -> list[int]:
        try:
            info = os.stat(self.pictures / name)
        except OSError:
            return []  # decoding says what is wrong with it
        return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]

    def _count(self) -> int:
        return self.pixels.stat().st_size // self._bytes if self.pixels.exists() else 0

    def _read(self) -> dict[str, Entry]:
        """The index; empty where there is none of this version. A row that is not in the file counts as none."""
        rows = self._count()
        try:
            version, index = json.loads(self.index.read_bytes())
            entries = {name: Entry(*entry) for name, entry in index.items()} if version == VERSION else {}
            return {name: entry for name, entry in entries.items() if isinstance(entry.row, str) or entry.row < rows}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _save(self, entries: Mapping[str, Entry]) -> None:
        part = self.index.with_suffix(".part")
        part.write_text(json.dumps([VERSION, entries]), encoding="utf-8")
        part.replace(self.index)

    def _decode(self, names: Sequence[str], stamps: Mapping[str, list[int]], entries: dict[str, Entry]) -> None:
        """Decode pictures in parallel, append them to the file and put them into `entries`."""
        began = saved = time.monotonic()
        megabytes = len(names) * self._bytes / 1e6
        logger.info("decoding %s/ once, into %s: takes %.1f MB at most", self.pictures.name, self.folder, megabytes)
        with (
            warnings.catch_warnings(action="ignore"),  # of what PIL finds odd in a picture that it can read
            self.pixels.open("ab") as pixels,
            ThreadPoolExecutor(torch.get_num_threads()) as pool,
        ):
            end = self._count()
            pixels.truncate(end * self._bytes)  # a row that a kill cut short
            for start in range(0, len(names), _PART):
                part = names[start : start + _PART]
                for name, result in zip(part, pool.map(self._load, part), strict=True):
                    row: Row = result if isinstance(result, str) else end
                    if isinstance(result, bytes):
                        pixels.write(result)
                        end += 1
                    entries[name] = Entry(stamps[name], row)
                now, done = time.monotonic(), start + len(part)
                if now - saved >= SAVE_EVERY_S or done == len(names):
                    saved = now
                    pixels.flush()
                    os.fsync(pixels.fileno())
                    self._save(entries)
                    counts = f"decoded {done:,} of {len(names):,} pictures in {self.pictures.name}/"
                    speed = done / (now - began)
                    left = (len(names) - done) / speed / 60
                    logger.info(f"{counts}, {speed:,.0f}/s, {left:.1f} min left")

    def _load(self, name: str) -> bytes | str:
        """The picture, or why it is broken."""
        try:
            return square(self.pictures / name, size=self.shape[-1], channels=self.shape[0])
        except Broken as reason:
            return str(reason)


def _outdated(stamps: Mapping[str, list[int]], entries: Mapping[str, Entry], retry_broken: bool) -> list[str]:
    right = {name for name, entry in entries.items() if not (retry_broken and isinstance(entry.row, str))}
    return [name for name, stamp in stamps.items() if name not in right or entries[name].stamp != stamp]
