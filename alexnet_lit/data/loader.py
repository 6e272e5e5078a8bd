"""The order of images and how batches of them are gathered: no worker processes, no copies of single images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from lightning import Trainer
from torch import Tensor

_CHUNK = 1024  # images that `MappedImages.to` moves at a time


class Batch(NamedTuple):
    """What a loader yields and a step receives: this rank's part of a global batch.

    images: uint8 (B, H, W) or (B, C, H, W) from the loader, float (B, C, S, S) once they are on the device.
    labels: int64 (B,). Of a mixed image, the class with the larger share.
    random_values: float32 (B, D) in [0, 1], which decide the augmentation of each image; D is 0 in evaluation.
    total: images in this step over all ranks; B on a single one.
    mixed_in: where images are mixed, the other class int64 (B,) and its share (B,), at most 1/2.
    """

    images: Tensor
    labels: Tensor
    random_values: Tensor
    total: int
    mixed_in: tuple[Tensor, Tensor] | None = None


class MappedImages:
    """Rows (N,) of images uint8 (rows, C, H, W) that may map a file: read by `index_select` and `to`, never before."""

    def __init__(self, images: Tensor, rows: Tensor) -> None:
        self.images, self.rows, self.device = images, rows, images.device
        self.nbytes = len(rows) * images[:1].nbytes

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor) -> "MappedImages":
        """Choose those at index (M,), without reading them."""
        return MappedImages(self.images, self.rows[index])

    def index_select(self, dim: Literal[0], index: Tensor) -> Tensor:
        """Read the images at index (B,), as a tensor's method does: (B, C, H, W)."""
        pinned = torch.cuda.is_initialized()  # makes the copy to a GPU asynchronous
        batch = torch.empty((len(index), *self.images.shape[1:]), dtype=self.images.dtype, pin_memory=pinned)
        return torch.index_select(self.images, dim, self.rows[index], out=batch)

    def to(self, device: torch.device) -> Tensor:
        """Read all of them, to the device: (N, C, H, W)."""
        parts = torch.arange(len(self)).split(_CHUNK)
        return torch.cat([self.index_select(0, part).to(device) for part in parts])


Images = Tensor | MappedImages


def generator(seed: int, stream: int) -> torch.Generator:
    """A CPU generator for one purpose: the same on every machine and rank, independent of other generators."""
    return torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + stream * 0xBF58476D1CE4E5B9 + 1) % 2**63)


def balanced_order(labels: Tensor, seed: int) -> Tensor:
    """A random order of all indices (N,) of which every slice has the classes in proportion."""
    return interleave_classes(labels, torch.randperm(len(labels), generator=generator(seed, 0)))


def interleave_classes(labels: Tensor, order: Tensor) -> Tensor:
    """Rearrange `order`, indices (N,) of labels: every slice has the classes in proportion, each keeps its order."""
    classes = labels[order]
    counts = torch.bincount(classes)
    by_class = classes.argsort(stable=True)
    turn = torch.empty(len(labels), dtype=torch.float64)
    turn[by_class] = torch.cat([(torch.arange(count).double() + 0.5) / count for count in counts.tolist()])
    return order[turn.argsort(stable=True)]


@dataclass
class EpochSampler:
    """The order of an epoch's `size` images and their random values: a function of (seed, epoch) alone.

    num_random_values: uniform numbers for each image. betas: each adds a number from Beta(alpha, alpha).
    """

    size: int
    seed: int
    shuffle: bool = False
    num_random_values: int = 0
    betas: Sequence[float] = ()
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch. Lightning calls it."""
        self.epoch = epoch

    def indices(self) -> Tensor:
        """The images of this epoch in their order: (N,)."""
        if not self.shuffle:
            return torch.arange(self.size)
        return torch.randperm(self.size, generator=generator(self.seed, 2 * self.epoch + 1))

    def random_values(self) -> Tensor:
        """The numbers for this epoch, a row an image whatever its place, those of `betas` last: (N, D)."""
        source = generator(self.seed, 2 * self.epoch + 2)
        uniform = torch.rand(self.size, self.num_random_values, generator=source)
        if not self.betas:
            return uniform
        # torch draws from a Beta by its global generator alone.
        shares = np.random.default_rng(source.initial_seed()).beta(self.betas, self.betas, (self.size, len(self.betas)))
        return torch.cat([uniform, torch.from_numpy(shares).float()], 1)


def data_rank_and_size(trainer: Trainer | None) -> tuple[int, int]:
    """Data-parallel rank and size: this rank's share of each batch, of how many; (0, 1) in model parallelism."""
    kwargs = trainer.distributed_sampler_kwargs if trainer is not None else None
    return (kwargs["rank"], kwargs["num_replicas"]) if kwargs is not None else (0, 1)


@dataclass(eq=False)
class BatchLoader:
    """Iterates over a set of images in batches that are split over ranks, each image exactly once.

    `batch_size` counts images over all ranks. An epoch has the same number of batches on each rank; the last may be
    smaller, see `Batch.total`. `together`: consecutive images that stay on one rank, 2 to be mixed in pairs. After
    `load_state_dict` iteration continues in the middle of an epoch. Batches are on the device that the images are on.
    """

    images: Images
    labels: Tensor
    sampler: EpochSampler  # Lightning calls its set_epoch
    batch_size: int
    together: int = 1
    rank: int = 0
    world_size: int = 1
    batch_sampler: None = None  # Lightning reads it from loaders that have a sampler
    _yielded: int = 0
    _resume: dict[str, int] = field(default_factory=lambda: {"epoch": -1, "batches": 0})

    def __len__(self) -> int:
        return -(-self.sampler.size // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        # Only now is the epoch known: Lightning calls iter() before it calls set_epoch().
        start = self._resume["batches"] if self._resume["epoch"] == self.sampler.epoch else 0
        place = torch.arange(self.sampler.size) % self.batch_size  # within its batch
        mine = place // self.together % self.world_size == self.rank
        share = int(mine[: self.batch_size].sum())  # of a whole batch
        indices = self.sampler.indices()[mine]
        values = self.sampler.random_values()[indices]
        # Moved once an epoch, to where the images are: on a GPU a step then asks nothing of the CPU.
        indices, values = (part.to(self.images.device) for part in (indices, values))
        for number in range(start, len(self)):
            own = slice(number * share, (number + 1) * share)
            total = min(self.batch_size, self.sampler.size - number * self.batch_size)
            self._yielded = number + 1
            # Several times as fast as images[...].
            images, labels = (part.index_select(0, indices[own]) for part in (self.images, self.labels))
            yield Batch(images, labels, values[own], total)

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches have been handed out."""
        return {"epoch": self.sampler.epoch, "batches": self._yielded}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin that epoch, should it come again, behind the batches that were handed out."""
        self._resume = dict(state)
        self._yielded = state["batches"]
