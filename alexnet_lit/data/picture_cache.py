"""Pictures decoded once into a file that is mapped into memory: what takes an hour takes no time from then on."""

import hashlib
import json
import logging
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from alexnet_lit.data.lock import locked, writing
from alexnet_lit.data.picture import Broken, square

VERSION = 3  # of the index and of what `square` makes of a picture: another number decodes anew
SAVE_EVERY_S = 10.0  # what a kill loses at most

_PART = 256  # pictures that are decoded at a time

logger = logging.getLogger("alexnet_lit")

Row = int | str  # where a picture is, or why it is broken


class Entry(NamedTuple):
    """A picture in the index.

    stamp: size, mtime, ctime (ns) and inode of its file: files of one archive may agree in size and mtime.
    digest: of the file's bytes, by which a copy is known, whose ctime and inode are others.
    """

    stamp: list[int]
    digest: str
    row: Row


class PictureCache:
    """The pictures below one folder as rows of a file, uint8 (channels, size, size) each, and an index of them.

    <stem>.pixels is only ever appended to, so what a run has mapped stays as it is. <stem>.index is JSON, name ->
    Entry, and is replaced as a whole, after the rows that it names are on the disk.

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

    def update(self, names: Sequence[str], *, retry_broken: bool) -> dict[str, Row]:
        """Decode what of `names` is new or has changed; retry_broken: also what was broken when it was last tried.

        Returns the row of each name, in their order. Raises: UserError where the folder can't be written.
        """
        stamps = {name: self._stamp(name) for name in names}
        entries = self._read()
        if list(entries) != list(names) or _outdated(stamps, entries, retry_broken):
            with locked(self.folder, name=f".{self.stem}.lock", key="data.cache", doing="decodes pictures"):
                entries = self._read()  # anew: another process may have done it meanwhile
                with writing(self.folder, key="data.cache"):
                    if not entries:
                        self.pixels.unlink(missing_ok=True)  # of another version; who has mapped it keeps it
                    outdated = _outdated(stamps, entries, retry_broken)
                    entries = {name: entries[name] for name in names if name in entries}
                    if outdated:
                        self._decode(outdated, stamps, entries)
                    entries = {name: entries[name] for name in names}
                    self._save(entries)
        return {name: entry.row for name, entry in entries.items()}

    def rows(self) -> dict[str, Row]:
        """What the index says: each name with its row, or with the reason why it is broken."""
        return {name: entry.row for name, entry in self._read().items()}

    def mapped(self) -> Tensor:
        """All rows, uint8 (rows, channels, size, size), as a mapping of the file: read where they are looked at."""
        rows = self._rows()
        pixels = torch.from_file(str(self.pixels), shared=False, size=rows * self._bytes, dtype=torch.uint8)
        return pixels.view(rows, *self.shape)

    def _stamp(self, name: str) -> list[int]:
        try:
            info = os.stat(self.pictures / name)
        except OSError:
            return []  # decoding says what is wrong with it
        return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]

    def _rows(self) -> int:
        return self.pixels.stat().st_size // self._bytes if self.pixels.exists() else 0

    def _read(self) -> dict[str, Entry]:
        """The index; empty where there is none of this version. A row that is not in the file counts as none."""
        rows = self._rows()
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
        broken = 0
        megabytes = len(names) * self._bytes / 1e6
        logger.info("decoding %s/ once, into %s: takes %.1f MB at most", self.pictures.name, self.folder, megabytes)
        with (
            warnings.catch_warnings(action="ignore"),  # of what PIL finds odd in a picture that it can read
            self.pixels.open("ab") as pixels,
            ThreadPoolExecutor(torch.get_num_threads()) as pool,
        ):
            end = self._rows()
            pixels.truncate(end * self._bytes)  # a row that a kill cut short
            for start in range(0, len(names), _PART):
                part = names[start : start + _PART]
                results = pool.map(self._load, part, [entries.get(name) for name in part])
                for name, (digest, result) in zip(part, results, strict=True):
                    if isinstance(result, bytes):
                        pixels.write(result)
                        result, end = end, end + 1
                    elif isinstance(result, str):
                        logger.debug("broken: %s (%s)", self.pictures / name, result)
                        broken += 1
                    entries[name] = Entry(stamps[name], digest, result)
                now, done = time.monotonic(), start + len(part)
                if now - saved >= SAVE_EVERY_S or done == len(names):
                    saved = now
                    pixels.flush()
                    os.fsync(pixels.fileno())
                    self._save(entries)
                    _log_progress(f"{self.pictures.name}/", done, len(names), broken, now - began)

    def _load(self, name: str, before: Entry | None) -> tuple[str, bytes | Row]:
        """The file's digest, and the picture, its row if the bytes are those of `before`, or why it is broken."""
        path, digest = self.pictures / name, ""
        with suppress(OSError):  # which decoding tells of
            if path.is_file():
                digest = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
        if digest and before is not None and digest == before.digest and isinstance(before.row, int):
            return digest, before.row
        try:
            return digest, square(path, size=self.shape[-1], channels=self.shape[0])
        except Broken as reason:
            return digest, str(reason)


def _outdated(stamps: Mapping[str, list[int]], entries: Mapping[str, Entry], retry_broken: bool) -> list[str]:
    def is_right(name: str) -> bool:
        entry = entries.get(name)
        return entry is not None and entry.stamp == stamps[name] and not (retry_broken and isinstance(entry.row, str))

    return [name for name in stamps if not is_right(name)]


def _log_progress(what: str, done: int, total: int, broken: int, seconds: float) -> None:
    left = seconds / done * (total - done)
    time_left = f"about {left:.0f} s left" if left < 120 else f"about {left / 60:.0f} min left"
    when = time_left if done < total else f"in {seconds:.0f} s"
    wrong = f", {broken:,} broken" if broken else ""
    logger.info(f"decoded {done:,} of {total:,} pictures in {what}{wrong}, {done / seconds:,.0f}/s, {when}")


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
