"""A person's own pictures: train/<class>/..., with val/ and test/ if they are there."""

import copy
import hashlib
import logging
import operator
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field, validate_call

from alexnet_lit.data.augment import Augment
from alexnet_lit.data.batches import in_turns
from alexnet_lit.data.cache import Cache, Row, check_room
from alexnet_lit.data.folder import (
    PARTS,
    Found,
    changed,
    check_known,
    class_of,
    held_out,
    look,
    look_again,
    places,
    scan,
    several,
)
from alexnet_lit.data.module import ImageData, Pair, Split
from alexnet_lit.data.pixels import Std
from alexnet_lit.data.rows import MappedImages
from alexnet_lit.errors import UserError

# What a grey picture has of red, green and blue (ITU-R BT.601, as PIL converts).
LUMA = (0.299, 0.587, 0.114)

logger = logging.getLogger("alexnet_lit")


class ImageFolder(ImageData):
    """Pictures in folders that are named after their classes, decoded once and from then on read from a cache.

    A picture becomes its centre square of `cache_size` px, see `square`; the cache is a file that is mapped into
    memory, so that it may be larger than that. Without test/ there are no test images.

    Where val/ is there, it is for validation; else part of train/ is: of each class those that come first by a hash of
    their names in train/ and `split_seed`, in exact proportion. Up to which place they do is in `found` and goes into
    the checkpoint with it: from then on a picture's name alone decides, whatever else is added or removed, so that no
    run is ever validated on a picture that it was trained on.

    dir: the folder with train/, val/, test/. cache: folder for the cache; None for alexnet_lit_cache in `dir`.
    channels: 3 for RGB, 1 for grey; of three numbers in mean, std and color_axes the grey that they make is taken.
    broken: "refuse" to go on with a picture that can't be decoded, or "skip" it. found: what `look` found in dir, so
    that nothing need be there before `prepare_data`; None looks. The rest: see ImageData.
    Raises: UserError for a folder that can't be trained on.
    """

    found: Found

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
        augment: Augment,
        found: Found | None,
        **rest: Any,
    ) -> None:
        self.dir = Path(dir).expanduser().absolute()
        self.caches = _cache_folder(self.dir, cache)
        self.origin = str(self.dir)
        self.broken = broken
        # What is found has been told when it was looked for.
        self._level = logging.DEBUG if found and not found.earlier else logging.INFO
        self._prepared = False
        self._news = ""  # of a folder that has changed since the run began
        self._splits = found is None  # else it has been decided
        names = list[str]()
        if found is None:
            found, names = look(self.dir)
        elif found.earlier:
            found = self._look_again(found, rest["split_seed"])
        self._take(found)
        self.classes = tuple(found.classes)
        self.channels, self.source_size = channels, cache_size
        if self.val_total and folds:
            raise UserError(
                f"data.folds={folds}: val/ in data.dir={dir} is for validation: use data.folds=0, or take it away"
            )
        if validate == "test" and not self.test_total:
            raise UserError(f"data.validate=test: there is no test/ in data.dir={dir}: use data.validate=val")
        if channels == 1:
            mean, std, augment = _grey(mean), _grey(std), _grey_noise(augment)
        super().__init__(mean=mean, std=std, folds=folds, validate=validate, augment=augment, **rest)
        if self._splits:
            self._decide(names)

    def prepare_data(self) -> None:
        """Decode what is not in the cache yet. `found` and `sizes` count the pictures that can be used from then on.

        Raises: UserError for broken pictures where these are refused, for a class that has no others, and where the
        cache can't be written.
        """
        if self._prepared:  # Lightning asks again
            return
        if self._news:
            logger.warning(self._news)
        listings = {part: scan(self.dir / part) for part in self._parts()}
        for part, listing in listings.items():
            check_known(self.dir, part, listing, self.classes)
        check_room([(self._cache(part), listing.names) for part, listing in listings.items()])
        counts: dict[Split, int] = {}
        for part, listing in listings.items():
            if listing.others:
                logger.log(self._level, "passed over in %s/, no pictures of a class: %s", part, several(listing.others))
            contents = self._cache(part).update(listing.names, again=self.broken == "refuse")
            counts[part] = self._count(part, contents)
            if part == "train":
                names = [name for name, row in contents.items() if isinstance(row, int)]
        found = self.found._replace(train=counts["train"], val=counts.get("val", 0), test=counts.get("test", 0))
        if found.held_out is not None and not self._splits:
            found = found._replace(held=sum(held_out(names, found, self.split_seed)))
        self._take(found)
        self.divide()
        if self._splits:
            self._decide(names)
        self._prepared = True

    def read(self) -> dict[Split, Pair]:
        """The pictures of each part, in the order of their names: mapped into memory, not read."""
        return {part: self._read(part) for part in self._parts()}

    def split(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As ImageData's; which are held out, `found` says."""
        if self.found.held_out is None:
            return super().split(labels)
        order = in_turns(labels, torch.tensor(places(self._names, self.split_seed), dtype=torch.float64).argsort())
        held = torch.tensor(held_out(self._names, self.found, self.split_seed))[order]
        return order[~held], order[held]

    def _take(self, found: Found) -> None:
        self.found = found
        _, self.train_total, self.val_total, self.test_total, *_ = found
        self.held = found.held if found.held_out is not None and not self._splits else None

    def _look_again(self, before: Found, split_seed: int) -> Found:
        """What there is now, and a line about what is not as `before`."""
        now = look_again(self.dir, before, split_seed)
        if parts := changed(before, now):
            outcome = "known by their names, none that were trained on are validated on"
            if now.held_out is None and not now.val:
                outcome = "as this run has split them by number, some that were trained on may be validated on"
            self._news = f"data.dir={self.dir}: other pictures than the run began with, in {parts}: {outcome}"
        return now

    def _decide(self, names: list[str]) -> None:
        """Note from which place to which the pictures of each class are for validation."""
        if self.val_total:
            return
        number = {name: label for label, name in enumerate(self.classes)}
        labels = torch.tensor([number[class_of(name)] for name in names])
        where = torch.tensor(places(names, self.split_seed), dtype=torch.float64)
        held = torch.zeros(len(names), dtype=torch.bool)
        held[in_turns(labels, where.argsort())[self.held_out.start : self.held_out.stop]] = True
        bounds = [_bounds(where[labels == label], held[labels == label]) for label in range(len(self.classes))]
        self.found = self.found._replace(held_out=bounds, held=int(held.sum()))

    def _parts(self) -> list[Split]:
        there = zip(PARTS, self.found[1:4], strict=True)
        return [part for part, count in there if count]

    def _cache(self, part: Split) -> Cache:
        return Cache(self.dir / part, self.caches, size=self.source_size, channels=self.channels)

    def _count(self, part: Split, contents: dict[str, Row]) -> int:
        """How many pictures can be used. Raises: UserError if these are too few, or others are refused."""
        broken = [f"{name} ({row})" for name, row in contents.items() if isinstance(row, str)]
        left = {class_of(name) for name, row in contents.items() if isinstance(row, int)}
        lost = [f"{part}/{name}/" for name in self.classes if name not in left]
        which = f"{len(broken):,} of {len(contents):,} pictures in {part}/ can't be read: {several(broken)}"
        if broken and self.broken == "refuse":
            way_out = "replace or remove them, or leave them out with data.broken=skip"
            raise UserError(f"data.dir={self.dir}: {which}: {way_out}")
        if lost and (part == "train" or not left):
            raise UserError(f"data.dir={self.dir}: {which}: nothing is left in {several(lost)}")
        if broken:
            logger.log(self._level, "left out (data.broken=skip): %s", which)
        return len(contents) - len(broken)

    def _read(self, part: Split) -> Pair:
        cache = self._cache(part)
        contents = {name: row for name, row in cache.contents().items() if isinstance(row, int)}
        number = {name: label for label, name in enumerate(self.classes)}
        labels = [number.get(class_of(name), -1) for name in contents]
        if len(labels) != getattr(self.found, part) or -1 in labels:
            raise UserError(f"data.dir={self.dir}: {part}/ has other pictures than a moment ago: start again")
        if part == "train":
            self._names = list(contents)
        return MappedImages(cache.mapped(), torch.tensor(list(contents.values()))), torch.tensor(labels)


def _bounds(where: torch.Tensor, held: torch.Tensor) -> list[float]:
    """From where to where those of a class's pictures lie that are held out: neighbours, to the next one that isn't."""
    order = where.argsort()
    at, chosen = [0.0, *where[order].tolist()[1:], 1.0], held[order].tolist()
    start = chosen.index(True) if any(chosen) else 0
    return [at[start], at[start + sum(chosen)]]


def _cache_folder(dir: Path, cache: str | None) -> Path:
    """Beside the pictures; elsewhere in a folder of its own for each `dir`, as one place may hold many."""
    if cache is None:
        return dir / "alexnet_lit_cache"
    digest = hashlib.sha256(os.fsencode(dir.resolve())).hexdigest()
    return Path(cache).expanduser().absolute() / f"{dir.name}_{digest[:8]}"


def _grey(values: float | list[float]) -> float | list[float]:
    """Of a number for each of red, green and blue that for grey. Of a mean it is exact, of a std an upper bound."""
    return sum(map(operator.mul, LUMA, values)) if isinstance(values, list) and len(values) == 3 else values


def _grey_noise(augment: Augment) -> Augment:
    """The same noise as it is seen in grey: (axes, 3) -> (axes, 1)."""
    augment = copy.copy(augment)
    if augment.color_axes.shape[1] == 3:
        augment.color_axes = augment.color_axes @ torch.tensor(LUMA)[:, None]
    return augment
