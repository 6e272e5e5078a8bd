"""What is in a folder of pictures: train/<class>/..., and val/ and test/ where they are there. Reads names alone."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from alexnet_lit.errors import UserError

# What a picture may be called; what it is, its first bytes say when it is decoded.
SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

KINDS = ", ".join(suffix.removeprefix(".") for suffix in SUFFIXES)  # in words

_NAMED = 3  # of many things that a line is about

PARTS: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")


class Found(NamedTuple):
    """The classes, in the order of their names, and how many pictures there are; 0 where val/ or test/ is absent.

    names: of each part the number of all pictures and a digest of their names; None in checkpoints of before there was.
    held_out: without val/, of each class the `places` [from, to) whose pictures are for validation; None in checkpoints
    of runs that were split by number. held: so many pictures of train/ these are. earlier: it is what a run found that
    is continued or evaluated, so the folder may have changed since.
    """

    classes: list[str]
    train: int
    val: int
    test: int
    names: list[str] | None = None
    held_out: list[list[float]] | None = None
    held: int = 0
    earlier: bool = False


class Listing(NamedTuple):
    """What train/, val/ or test/ holds: `names` as "<class>/<any>/<where>/<file>", by class, then by name."""

    classes: list[str]
    names: list[str]
    others: list[str]  # files that are passed over: no picture by their name, or in no class folder


def look(dir: Path) -> tuple[Found, list[str]]:
    """See which classes there are and how many pictures each part has; and the names of those in train/.

    A class is a folder in train/; what is below it, at any depth, belongs to it. Hidden files and folders are not seen.
    Raises: UserError for a folder that can't be trained on.
    """
    _check_folder(dir, "")
    train = dir / "train"
    if not os.path.lexists(train):
        there = [f"{entry.name}/" for entry in _entries(dir) if entry.is_dir()]
        instead = f", but {several(there)}" if there else ""
        raise UserError(f"data.dir={dir}: there is no train/ in it{instead}: put a folder for each class into train/")
    listing = scan(train)
    classes = listing.classes
    for name in classes:
        if not name.isprintable() or "${" in name or name == "???":
            raise UserError(f"data.dir={dir}: a class can't be named {name!r}: rename the folder in train/")
    counts = dict.fromkeys(classes, 0)
    for name in listing.names:
        counts[class_of(name)] += 1
    _check_classes(dir, listing, counts)
    val, test = (_names(dir, part, classes) if os.path.lexists(dir / part) else [] for part in PARTS[1:])
    digests = [_digest(names) for names in (listing.names, val, test)]
    return Found(classes, len(listing.names), len(val), len(test), digests), listing.names


def look_again(dir: Path, before: Found, seed: int) -> Found:
    """As `look`, at the folder of a run that found `before`, whose split stays. seed: of the split."""
    now, names = look(dir)
    if before.val and not now.val:
        return now._replace(held_out=[[0.0, 0.0]] * len(now.classes))  # all that is in train/ was trained on
    if before.held_out is None or now.classes != before.classes:
        return now
    now = now._replace(held_out=before.held_out)
    return now._replace(held=sum(held_out(names, now, seed)))


def changed(before: Found, now: Found) -> str:
    """Which parts have other pictures than before, in words: "train/ (9 pictures then, 10 now)"; empty if none."""
    if before.names is None:  # in an old checkpoint
        before, now = (each._replace(names=[f"{count}:" for count in each[1:4]]) for each in (before, now))
    parts = zip(PARTS, before.names or (), now.names or (), strict=True)
    counts = [(part, one.split(":")[0], other.split(":")[0]) for part, one, other in parts if one != other]
    return ", ".join(f"{part}/ ({one} pictures then, {other} now)" for part, one, other in counts)


def places(names: Sequence[str], seed: int) -> list[float]:
    """Where each picture of train/ stands among all that there might be, 0..1: by its name and the split's seed."""
    digests = (hashlib.blake2b(os.fsencode(f"{seed}/{name}"), digest_size=8).digest() for name in names)
    return [(int.from_bytes(digest) >> 11) / 2**53 for digest in digests]


def held_out(names: Sequence[str], found: Found, seed: int) -> list[bool]:
    """Whether each picture of train/ is for validation."""
    bounds = dict(zip(found.classes, found.held_out or (), strict=True))
    pairs = zip(places(names, seed), (bounds[class_of(name)] for name in names), strict=True)
    return [low <= place < high for place, (low, high) in pairs]


def scan(folder: Path) -> Listing:
    """List train/, val/ or test/. Raises: UserError if it is no folder or can't be read."""
    _check_folder(folder.parent, folder.name)
    try:
        entries = _entries(folder)
        classes = [entry.name for entry in entries if entry.is_dir()]
        others = [entry.name for entry in entries if not entry.is_dir()]
        names: list[str] = []
        for name in classes:
            for file in walk(folder / name):
                kind = names if is_picture(file) else others
                kind.append(f"{name}/{file}")
    except OSError as error:
        raise UserError(f"data.dir={folder.parent}: {error.filename} can't be read ({error.strerror})") from error
    return Listing(classes, names, others)


def is_picture(name: str) -> bool:
    """Whether a file is one by its name."""
    return name.lower().endswith(SUFFIXES)


def walk(folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[str]:
    """All files below that are not hidden, by name; links are followed, but not in circles: it is in folders `above`.

    Raises: OSError for a folder that can't be read.
    """
    info = os.stat(folder)
    here = (info.st_dev, info.st_ino)
    if here in above:
        return
    for entry in _entries(folder):
        if entry.is_dir():
            yield from (f"{entry.name}/{file}" for file in walk(folder / entry.name, above | {here}))
        else:
            yield entry.name


def check_known(dir: Path, part: str, listing: Listing, classes: Sequence[str]) -> None:
    """Refuse a class that training has not. Raises: UserError that names it."""
    unknown = [f"{part}/{name}/" for name in listing.classes if name not in classes]
    if unknown:
        only = several(classes)
        raise UserError(
            f"data.dir={dir}: {several(unknown)}: train/ has no such class, only {only}: both need the same"
        )


def class_of(name: str) -> str:
    """The class of a picture by its name in a listing."""
    return name.partition("/")[0]


def several(names: Sequence[str]) -> str:
    """Name a few of many: "a, b, c and 7 more"."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    # A file may be called anything: what would break the line is written as Python writes it.
    return ", ".join(name if name.isprintable() else repr(name)[1:-1] for name in names[:_NAMED]) + more


def changed_classes(before: Sequence[str], now: Sequence[str]) -> str:
    """What has become of the classes, in words: "without a and with b"; empty if they are the same."""
    gone, new = ([each for each in one if each not in other] for one, other in ((before, now), (now, before)))
    words = " and ".join(f"{word} {several(names)}" for word, names in (("without", gone), ("with", new)) if names)
    return words or ("in another order" if list(before) != list(now) else "")


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is directly in a folder and not hidden, by name."""
    return sorted((entry for entry in os.scandir(folder) if entry.name[0] != "."), key=lambda entry: entry.name)


def _check_folder(dir: Path, part: str) -> None:
    folder, what = dir / part, f"{part}/ in it" if part else "it"
    way_out = f"name the folder that has {part or 'train'}/<class>/<picture>"
    if not folder.is_dir():
        wrong = "is no folder" if os.path.lexists(folder) else "is not there"
        raise UserError(f"data.dir={dir}: {what} {wrong}: {way_out}")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UserError(f"data.dir={dir}: {what} can't be read (Permission denied): make it readable")


def _check_classes(dir: Path, listing: Listing, counts: dict[str, int]) -> None:
    empty = [f"train/{name}/" for name, count in counts.items() if not count]
    if not counts:
        instead = f", but {several(listing.others)}" if listing.others else ""
        raise UserError(
            f"data.dir={dir}: train/ has no folders in it{instead}: each class needs a folder of its own there"
        )
    if not listing.names:
        looked = f" (passed over: {several(listing.others)})" if listing.others else ""
        raise UserError(f"data.dir={dir}: there is no picture in train/{looked}: it takes {KINDS}")
    if empty:
        raise UserError(f"data.dir={dir}: no picture in {several(empty)}: put some in, or remove the folder")
    if len(counts) == 1:
        raise UserError(f"data.dir={dir}: train/ has one class ({listing.classes[0]}): a net needs two to tell apart")


def _names(dir: Path, part: str, classes: list[str]) -> list[str]:
    """The names of the pictures in val/ or test/. Raises: UserError if there is none, or one of another class."""
    listing = scan(dir / part)
    check_known(dir, part, listing, classes)
    if not listing.names:
        raise UserError(f"data.dir={dir}: there is no picture in {part}/: put some in, or remove the folder")
    return listing.names


def _digest(names: Sequence[str]) -> str:
    """How many there are, and what tells them from others: "120:2b67c3d5a1e09f84"."""
    return f"{len(names)}:{hashlib.blake2b(os.fsencode(chr(0).join(names)), digest_size=8).hexdigest()}"
