"""A folder of pictures as a data set: train/<class>/..., with val/ and test/ if they are there.

Pictures are decoded once, into a file that is memory-mapped: later runs start at once.
"""

import hashlib
import json
import logging
import math
import mmap
import operator
import os
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor

from alexnet_lit.data.datamodule import ImageData, Pair, Split, locked
from alexnet_lit.data.loader import MappedImages, interleave_classes
from alexnet_lit.data.picture import KINDS, SUFFIXES, Broken, square
from alexnet_lit.data.transforms import Std
from alexnet_lit.errors import UserError, first_few

# What a grey picture has of red, green and blue (ITU-R BT.601, as PIL converts).
LUMA = (0.299, 0.587, 0.114)
PARTS: tuple[Split, ...] = ("train", "val", "test")
VERSION = 5  # of the output of `square`: caches of other versions are not used
_CHUNK = 256  # pictures that are decoded at a time
_LOG_EVERY_S = 10.0

logger = logging.getLogger("alexnet_lit")


class FolderContents(NamedTuple):
    """What a folder holds, as the run's config and its checkpoints keep it.

    classes: in the order of their names. train, val, test: numbers of pictures; 0 where a part is absent.
    names: of each part the number of all pictures and a digest of their names.
    held_out: without val/, of each class the interval [from, to) of `positions` that is for validation; held: how many
    pictures that is. earlier: a run that is continued or evaluated found it, so the folder may have changed since.
    """

    classes: list[str]
    train: int
    val: int
    test: int
    names: list[str] = []  # noqa: RUF012 - a tuple's default; config keeps lists
    held_out: list[list[float]] | None = None
    held: int = 0
    earlier: bool = False


class ImageFolder(ImageData):
    """Pictures in folders that are named after their classes, decoded once and mapped from then on.

    Without val/, part of train/ is for validation: of each class the pictures with the lowest hash of name and
    `split_seed`, the classes in proportion. `found` has the limits of these hashes and is saved in checkpoints. So a
    resumed run never validates on a picture that it was trained on, whatever was added or removed.

    dir: the folder with train/, val/, test/. cache: folder for the cache; None for alexnet_lit_cache in `dir`.
    cache_size: px of the centre square that is kept. channels: 3 for RGB, 1 for grey, to which mean and std of three
    colours are converted. broken: "refuse" to go on with a picture that can't be decoded, or "skip" it.
    found: what `inspect_folder` found in dir; None: call it. The rest: see ImageData.
    Raises: UserError for a folder that can't be trained on.
    """

    found: FolderContents

    @validate_call(config=ConfigDict(strict=True, arbitrary_types_allowed=True))
    def __init__(
        self,
        *,
        dir: str,
        cache: str | None,
        cache_size: Annotated[int, Field(ge=1)],
        channels: Literal[1, 3],
        broken: Literal["refuse", "skip"],
        mean: float | list[float],
        std: Std | list[Std],
        folds: Annotated[int, Field(ge=0)],
        validate: Literal["val", "test"],
        found: FolderContents | None,
        **rest: Any,
    ) -> None:
        self.dir = Path(dir).expanduser().absolute()
        self.cache_dir = self.dir / "alexnet_lit_cache"
        if cache is not None:  # a folder of its own for each `dir`, as one place may hold many
            digest = hashlib.sha256(os.fsencode(self.dir.resolve())).hexdigest()
            self.cache_dir = Path(cache).expanduser().absolute() / f"{self.dir.name}_{digest[:8]}"
        self.origin = str(self.dir)
        self.broken = broken
        self._pictures: dict[Split, Pair] = {}  # once they are decoded
        self._given = found
        self._use(found if found and not found.earlier else inspect_folder(self.dir, found, rest["split_seed"]))
        self.classes = tuple(self.found.classes)
        self.channels, self.source_size = channels, cache_size
        if self.val_total and folds:
            hint = "use data.folds=0, or take it away"
            raise UserError(f"data.folds={folds}: val/ in data.dir={dir} is for validation: {hint}")
        if validate == "test" and not self.test_total:
            raise UserError(f"data.validate=test: there is no test/ in data.dir={dir}: use data.validate=val")
        if channels == 1:
            mean, std = _grey(mean), _grey(std)
        super().__init__(mean=mean, std=std, folds=folds, validate=validate, **rest)
        if found is None and not self.val_total:
            self._decide_split()

    def prepare_data(self) -> None:
        """Decode what is not in the cache yet. `found` and `sizes` count the pictures that can be used from then on.

        Raises: UserError for broken pictures, and where the cache can't be written.
        """
        if self._pictures:  # Lightning asks again
            return
        earlier = self._given.names if self._given else self.found.names
        digests = zip(PARTS, earlier, self.found.names, strict=False)
        if changed := ", ".join(f"{part}/" for part, before, now in digests if before != now):
            outcome = "the split goes by name, so none that was trained on is validated on"
            logger.warning(f"data.dir={self.dir}: other pictures than the run began with, in {changed}: {outcome}")
        counts: dict[str, Any] = {}
        for part in (part for part in PARTS if getattr(self.found, part)):
            images, names = self._decode(part)
            counts[part] = len(names)
            if self._is_known and counts[part] != getattr(self.found, part):
                raise UserError(f"data.dir={self.dir}: {part}/ has changed since the run started: start it again")
            self._pictures[part] = MappedImages(images, torch.arange(len(names))), self._labels(names)
            if part == "train":
                self._names = names
        self._use(_count_held(self.found._replace(**counts), self._names, self.split_seed))
        self.count_splits()

    def read(self) -> dict[Split, Pair]:
        """The pictures of each part, in the order of their names: mapped into memory, not read."""
        self.prepare_data()
        return self._pictures

    def split(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """As ImageData's, but by the pictures' names."""
        if self.found.held_out is None:  # val/ is for validation
            return super().split(labels)
        order = interleave_classes(labels, positions(self._names, self.split_seed).argsort())
        held = torch.tensor(is_held_out(self._names, self.found, self.split_seed))[order]
        return order[~held], order[held]

    def _use(self, found: FolderContents) -> None:
        self.found = found
        self.train_total, self.val_total, self.test_total = found.train, found.val, found.test
        self.held = found.held if found.held_out is not None else None

    @property
    def _is_known(self) -> bool:
        """Whether the folder was scanned, and messages were logged, by an earlier object of this run."""
        return self._given is not None and not self._given.earlier

    def _decide_split(self) -> None:
        """Choose the interval of positions of each class that is for validation, by ImageData's `held_out`."""
        _, names = scan(self.dir / "train")
        labels, where = self._labels(names), positions(names, self.split_seed)
        held = interleave_classes(labels, where.argsort())[self.held_out.start : self.held_out.stop]
        bounds = []
        for label in range(len(self.classes)):  # the held-out images of a class are neighbours
            at = where[held[labels[held] == label]].tolist()
            bounds.append([min(at), math.nextafter(max(at), 1)] if at else [0.0, 0.0])
        self._use(self.found._replace(held_out=bounds, held=len(held)))

    def _labels(self, names: Sequence[str]) -> Tensor:
        number = {name: label for label, name in enumerate(self.classes)}
        return torch.tensor([number[class_of(name)] for name in names])

    def _decode(self, part: Split) -> tuple[Tensor, list[str]]:
        """Those that can be decoded, and their names. Raises: UserError if others are refused, or none is left."""
        _, names = scan(self.dir / part)
        size, channels = self.source_size, self.channels
        images, broken = decode_cached(self.dir / part, names, self.cache_dir, size=size, channels=channels)
        if broken:
            faults = first_few([f"{name} ({why})" for name, why in broken.items()])
            which = f"{len(broken):,} of {len(names):,} pictures in {part}/ can't be read: {faults}"
            if self.broken == "refuse" or len(broken) == len(names):
                hint = "replace or remove them, or leave them out with data.broken=skip"
                raise UserError(f"data.dir={self.dir}: {which}: {hint}")
            logger.log(logging.DEBUG if self._is_known else logging.INFO, "left out (data.broken=skip): %s", which)
        return images, [name for name in names if name not in broken]


def inspect_folder(dir: Path, earlier: FolderContents | None, split_seed: int) -> FolderContents:
    """Which classes there are and how many pictures each part has. Decodes nothing.

    earlier: what the run that is continued or evaluated found there, whose split is kept.
    Raises: UserError for a folder that can't be trained on.
    """
    if not os.path.isdir(dir / "train"):  # False too for what can't be read, where Path.is_dir raises
        hint = "name the folder that has train/<class>/<picture>"
        raise UserError(f"data.dir={dir}: there is no folder train/ in it: {hint}")
    listings = [scan(dir / part) for part in PARTS]
    classes = listings[0][0]
    for name in classes:
        if not name.isprintable() or "${" in name or name == "???":  # a config can't hold these
            raise UserError(f"data.dir={dir}: a class can't be named {name!r}: rename the folder in train/")
    if len(classes) < 2:
        there = first_few(classes) or "no folder"
        raise UserError(f"data.dir={dir}: train/ has {there} in it: a net needs two classes, each in a folder")
    for part, (here, names) in zip(PARTS, listings, strict=True):
        if unknown := [f"{part}/{name}/" for name in here if name not in classes]:
            only = f"train/ has no such class, only {first_few(classes)}: use the same classes in both"
            raise UserError(f"data.dir={dir}: {first_few(unknown)}: {only}")
        filled = {class_of(name) for name in names}
        empty = [f"{part}/{name}/" for name in classes if name not in filled]
        if empty and (part == "train" or (os.path.isdir(dir / part) and not names)):
            put = f"put some in ({KINDS}), or remove the folder"
            raise UserError(f"data.dir={dir}: no picture in {first_few(empty)}: {put}")
    train, val, test = (names for _, names in listings)
    hashed = [hashlib.blake2b(os.fsencode("\0".join(names)), digest_size=8) for _, names in listings]
    digests = [f"{len(names)}:{each.hexdigest()}" for each, (_, names) in zip(hashed, listings, strict=True)]
    held_out = earlier.held_out if earlier and earlier.classes == classes else None
    if earlier and earlier.val and not val:  # all that is in train/ was trained on
        held_out = [[0.0, 0.0]] * len(classes)
    return _count_held(FolderContents(classes, len(train), len(val), len(test), digests, held_out), train, split_seed)


def _count_held(found: FolderContents, names: Sequence[str], split_seed: int) -> FolderContents:
    held = 0 if found.held_out is None else sum(is_held_out(names, found, split_seed))
    return found._replace(held=held)


def positions(names: Sequence[str], split_seed: int) -> Tensor:
    """A hash of each picture's name and the split's seed, as a number in [0, 1): (N,) float64."""
    digests = (hashlib.blake2b(os.fsencode(f"{split_seed}/{name}"), digest_size=8).digest() for name in names)
    return torch.tensor([(int.from_bytes(digest) >> 11) / 2**53 for digest in digests], dtype=torch.float64)


def is_held_out(names: Sequence[str], found: FolderContents, split_seed: int) -> list[bool]:
    """Whether each picture of train/ is for validation."""
    intervals = dict(zip(found.classes, found.held_out or (), strict=True))
    bounds = (intervals[class_of(name)] for name in names)
    return [low <= at < high for at, (low, high) in zip(positions(names, split_seed).tolist(), bounds, strict=True)]


def scan(root: Path) -> tuple[list[str], list[str]]:
    """The classes in train/, val/ or test/ and the names of their pictures, "<class>/<any>/<where>/<file>".

    A class is a folder; what is below it, at any depth, belongs to it. Hidden files and folders are not seen.
    """
    if not os.path.isdir(root):
        return [], []
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != ".")
    folders = (walked for name in classes for walked in sorted(os.walk(root / name, followlinks=True)))
    files = (os.path.join(folder, file) for folder, _, files in folders for file in sorted(files))
    names = [os.path.relpath(file, root).replace(os.sep, "/") for file in files]
    return classes, [name for name in names if name.lower().endswith(SUFFIXES) and "/." not in name]


def class_of(name: str) -> str:
    """The class of a picture by its name below train/."""
    return name.partition("/")[0]


def _grey(values: float | list[float]) -> float | list[float]:
    """Convert a value for each of red, green and blue to one for grey: exact for a mean, an upper bound for a std."""
    return sum(map(operator.mul, LUMA, values)) if isinstance(values, list) and len(values) == 3 else values


# ---- The cache
def decode_cached(
    pictures: Path, names: Sequence[str], folder: Path, *, size: int, channels: int
) -> tuple[Tensor, dict[str, str]]:
    """The pictures that can be decoded as a memory-mapped uint8 (N, channels, size, size), and why others can't be.

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
                for earlier in sorted(folder.glob(f"{kind}_*")):  # the index of each first
                    earlier.unlink()
                part = index.with_suffix(".part")
                part.write_text(json.dumps(_write(pictures, names, pixels, size, channels)), encoding="utf-8")
                part.replace(index)
    broken: dict[str, str] = json.loads(index.read_bytes())
    count = len(names) - len(broken)
    nbytes = count * channels * size**2
    if not pixels.exists() or pixels.stat().st_size != nbytes:
        raise UserError(f"{pixels}: is not what was written: delete {index}, and the pictures are decoded again")
    if not count:  # no file of nothing can be mapped
        return torch.empty(0, channels, size, size, dtype=torch.uint8), broken
    # To be read alone: what torch.from_file maps may be written to, and so has to fit into the memory.
    with pixels.open("rb") as file, warnings.catch_warnings(action="ignore"):  # torch's, of memory that is read-only
        mapped = torch.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=torch.uint8)
    return mapped.view(count, channels, size, size), broken


def _stamp(path: Path) -> list[int]:
    """Size, times and inode, which identify a file without reading it; empty if that fails."""
    try:
        info = os.stat(path)
    except OSError:
        return []  # decoding says what is wrong with it
    return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]


def _write(pictures: Path, names: Sequence[str], pixels: Path, size: int, channels: int) -> dict[str, str]:
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
        warnings.catch_warnings(action="ignore"),  # PIL's remarks on pictures that it can read
        pixels.open("wb") as file,
        ThreadPoolExecutor(torch.get_num_threads()) as pool,
    ):
        for start in range(0, len(names), _CHUNK):
            part = names[start : start + _CHUNK]
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
