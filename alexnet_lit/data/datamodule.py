"""A set of small images as a LightningDataModule: split, batches, and what a batch becomes on the device."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from filelock import FileLock, Timeout
from lightning import LightningDataModule
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor

from alexnet_lit.data.augment import Augment, Averaging, TestTimeAugmentation
from alexnet_lit.data.loader import Batch, BatchLoader, EpochSampler, Images, balanced_order, data_rank_and_size
from alexnet_lit.data.transforms import Mean, Preprocess, Std
from alexnet_lit.errors import UserError, first_few

Pair = tuple[Images, Tensor]  # images and labels
Split = Literal["train", "val", "test"]

logger = logging.getLogger("alexnet_lit")


class ImageData(LightningDataModule):
    """Classes of small images, grey or with channels, as uint8 in memory or in a mapped file.

    A data set is a subclass with six attributes and the method `read`, and a YAML file in conf/data that names it:
    docs/your-own.md shows one. `prepare_data` downloads what is missing; a subclass with arguments of its own takes
    them in `__init__` and passes the rest on. Nothing is read before `prepare_data` or `setup`.

    The training images are split once into training and validation images by `split_seed` alone, with the classes in
    proportion. The test images are for `test` alone, unless validate="test" looks at them after each epoch.

    batch_size: images in a step, over all devices. mean, std: of values 0..1, one for all channels or one for each.
    train_size: number of training images, the classes in proportion; None: all that the split leaves. val_size: number
    of validation images, or if below 1 a fraction. folds, fold: with folds=k, in place of val_size, part `fold` of k is
    for validation. tta: see TestTimeAugmentation. seed: of the order of images and of augmentation.
    Raises: UserError if the split asks for more images than there are.
    """

    train_total: int
    val_total = 0  # validation images of their own; without any they are split off from the training images
    test_total: int  # 0 where there are none
    source_size: int  # px of a side
    channels: int
    classes: tuple[str, ...]
    origin: str  # where the images come from, in words
    found: Any = None  # a NamedTuple of facts about the data that checkpoints keep; the config's data.found
    held: int | None = None  # number of validation images, where `split` is a subclass's and decides by itself

    @validate_call(config=ConfigDict(strict=True, arbitrary_types_allowed=True))
    def __init__(
        self,
        *,
        batch_size: Annotated[int, Field(ge=1)],
        image_size: Annotated[int, Field(ge=1)],
        mean: Mean | list[Mean],
        std: Std | list[Std],
        train_size: Annotated[int, Field(ge=1)] | None,
        val_size: Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)],
        folds: Annotated[int, Field(ge=0)],
        fold: Annotated[int, Field(ge=0)],
        split_seed: int,
        validate: Literal["val", "test"],
        augment: Augment,
        tta: Averaging,
        seed: int,
    ) -> None:
        super().__init__()
        enlarged = round(image_size / augment.crop)  # px, from which image_size are cropped
        if tta == "ten_crop" and enlarged == image_size:
            reason = f"data.augment.crop={augment.crop:g} leaves no margin around a crop"
            raise UserError(f"data.tta=ten_crop: {reason}: use data.augment.crop=0.875, or data.tta=mirror")
        if validate == "test" and tta != "none":
            raise UserError(f"data.tta={tta}: data.validate=test evaluates one view of each image: use data.tta=none")
        if validate == "test" and folds:
            raise UserError(f"data.folds={folds}: with data.validate=test the fold would not be used: use data.folds=0")
        axes: Any = augment.color_axes.tolist() if augment.color else [None]
        for key, value, numbers in (("mean", mean, mean), ("std", std, std), ("augment.color_axes", axes, axes[0])):
            if isinstance(numbers, list) and len(numbers) != self.channels:
                plural = "s" if self.channels > 1 else ""
                hint = f"use {self.channels} number{plural}{' an axis' if value is axes else ''}"
                raise UserError(f"data.{key}={value}: the images have {self.channels} channel{plural}: {hint}")
        self.train_size, self.val_size, self.folds, self.fold = train_size, val_size, folds, fold
        self.count_splits()
        self.batch_size, self.validate, self.augment = batch_size, validate, augment
        self.seed, self.split_seed, self.classes = seed, split_seed, tuple(map(str, self.classes))  # NumPy's too
        self.pixels = Preprocess(
            source_size=self.source_size, image_size=image_size, enlarged=enlarged, mean=mean, std=std
        )
        self.views = TestTimeAugmentation(tta=tta, image_size=image_size)
        self.images: dict[Split, tuple[Any, Tensor]] = {}  # Tensor, or MappedImages; with labels

    def count_splits(self) -> None:
        """Set `sizes`, the images of each split, by how many there are. Raises: UserError if that can't be."""
        self.held_out, why = range(self.held or 0), "val/" if self.val_total else "validation"
        if not self.val_total and self.held is None:
            self.held_out, why = _held_out(self.train_total, self.val_size, folds=self.folds, fold=self.fold)
        left = self.train_total - len(self.held_out)
        if self.train_size is not None and self.train_size > left:
            most = f"the {left} images that {why} leaves: use at most {left}, or null for all"
            raise UserError(f"data.train_size={self.train_size} is more than {most}")
        self.sizes: dict[Split, int] = {
            "train": self.train_size or left,
            "val": self.val_total or len(self.held_out),
            "test": self.test_total,
        }

    def batches(self, split: Split, limit: float | int | None = None) -> int:
        """Batches of a split under one of Lightning's limit_*_batches: a number, a fraction, or None for all."""
        batches = -(-self.sizes[split] // self.batch_size)
        if isinstance(limit, int):
            return min(batches, limit)
        return batches if limit is None else int(batches * limit)

    def read(self) -> Mapping[Split, Pair]:
        """Images uint8 (N, H, W) or (N, C, H, W) with labels int64 (N,): "train", and "val" and "test" if there are."""
        raise NotImplementedError  # a subclass's task

    def setup(self, stage: str) -> None:
        if self.images:
            return
        parts = dict(self.read())
        if any(getattr(images, "dtype", torch.uint8) != torch.uint8 for images, _ in parts.values()):
            raise UserError(f"data: {type(self).__name__}.read() should return torch.uint8 images, values 0..255")
        images, labels = parts.pop("train")
        train, val = self.split(labels)
        train = train[: self.sizes["train"]]
        self.images = {"train": (images[train], labels[train]), "val": (images[val], labels[val])}
        for split, (images, labels) in parts.items():
            if (labels.diff() < 0).any():
                self.images[split] = images, labels
            else:  # class by class: of limit_*_batches each takes all classes in proportion
                order = balanced_order(labels, self.split_seed)
                self.images[split] = images[order], labels[order]

    def split(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Split the indices of labels (N,) into training and validation. Any first part of the former is balanced."""
        order = balanced_order(labels, self.split_seed)
        start, stop = self.held_out.start, self.held_out.stop
        return torch.cat([order[:start], order[stop:]]), order[start:stop]

    def train_dataloader(self) -> BatchLoader:
        """Batches of training images in a new order each epoch, augmented."""
        numbers, mix = self.augment.num_random_values, self.augment.mix
        # The same images again and again are the point of overfit_batches.
        shuffle = not getattr(self.trainer, "overfit_batches", 0)
        return self._loader("train", mix.together, shuffle=shuffle, num_random_values=numbers, betas=mix.betas)

    def val_dataloader(self) -> BatchLoader:
        """The images evaluated after each epoch: validation images, or the test images with validate="test"."""
        return self._loader(self.validate)

    def test_dataloader(self) -> BatchLoader:
        """The test images, each once: in the order of the file, or mixed where they lie class by class."""
        return self._loader("test")

    def _loader(self, split: Split, together: int = 1, **order: Any) -> BatchLoader:
        if not self.images:  # no Trainer has done so
            self.prepare_data()
            self.setup("fit")
        images, labels = self.images[split]
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        # On the GPU that trains, if they take no more than a tenth of what is free.
        if device.type == "cuda" and 10 * images.nbytes <= torch.cuda.mem_get_info(device)[0]:
            images, labels = images.to(device), labels.to(device)
        sampler = EpochSampler(len(labels), seed=self.seed, **order)
        rank, world_size = data_rank_and_size(self.trainer)
        return BatchLoader(images, labels, sampler, self.batch_size, together, rank, world_size)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """On the device: augment, normalise, resize, mix. uint8 (B, ..., H, W) -> float (B, C, S, S)."""
        if self.trainer is not None and self.trainer.testing:
            return batch._replace(images=self.pixels(batch.images, whole=self.views.whole))
        images = self.augment(batch.images, batch.random_values, self.pixels)
        return self.augment.mix(batch._replace(images=images))


def _held_out(total: int, val_size: float, *, folds: int, fold: int) -> tuple[range, str]:
    """Which places of the balanced order are for validation, and the key that says so. Raises: UserError."""
    if folds == 0 and fold > 0:
        raise UserError(f"data.fold={fold}: data.folds=0 splits into none: set data.folds={fold + 1} or more")
    if folds == 0:
        count = max(1, round(val_size * total)) if isinstance(val_size, float) else val_size
        if count >= total:
            hint = f"use at most {total - 1}"
            raise UserError(f"data.val_size={val_size} leaves none of the {total} images for training: {hint}")
        return range(count), f"data.val_size={val_size}"
    if folds == 1 or folds > total:
        raise UserError(f"data.folds={folds}: should be from 2 to {total}, or 0 for a split by data.val_size")
    if fold >= folds:
        raise UserError(f"data.fold={fold}: data.folds={folds} are counted from 0: use at most {folds - 1}")
    return range(total * fold // folds, total * (fold + 1) // folds), f"data.folds={folds}"


def changed_classes(before: Sequence[str], now: Sequence[str]) -> str:
    """What has become of the classes, in words: "without a and with b"; empty if they are the same."""
    gone, new = ([each for each in one if each not in other] for one, other in ((before, now), (now, before)))
    words = " and ".join(f"{word} {first_few(names)}" for word, names in (("without", gone), ("with", new)) if names)
    return words or ("in another order" if list(before) != list(now) else "")


@contextmanager
def locked(folder: Path, *, key: str) -> Iterator[None]:
    """Make a folder and hold its lock: of several processes one writes into it, and the others wait.

    key: the config key that names the folder. Raises: UserError where it can't be written or its disk is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", fallback_to_soft=False)
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            logger.info("waiting for another process, which writes into %s", folder)
            held = lock.acquire()
        with held:
            yield
    except (OSError, NotImplementedError) as error:  # the latter of a file system without locks
        why = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{key}={folder} can't be written ({why}): make room, or name another folder") from error
