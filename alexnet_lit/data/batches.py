"""The order of images and how a batch of them is gathered: no workers, no copies of single images."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from lightning import Trainer
from torch import Tensor

from alexnet_lit.data.rows import Images


class Batch(NamedTuple):
    """What a loader yields and a step receives: this rank's part of a global batch.

    images: uint8 (B, H, W) or (B, C, H, W) from the loader, float (B, C, S, S) once they are on the device.
    labels: int64 (B,). Of a mixed image, the class with the larger share.
    draws: float32 (B, D) in [0, 1]: the chances that augmentation takes for each image; D is 0 in evaluation.
    total: images in this step over all ranks; B on a single one.
    mixed_in: where images are mixed, the other class int64 (B,) and its share (B,), at most 1/2.
    """

    images: Tensor
    labels: Tensor
    draws: Tensor
    total: int
    mixed_in: tuple[Tensor, Tensor] | None = None


def generator(seed: int, stream: int) -> torch.Generator:
    """A CPU generator of its own for one purpose: the same on every machine and rank, whatever else draws numbers."""
    return torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + stream * 0xBF58476D1CE4E5B9 + 1) % 2**63)


def balanced_order(labels: Tensor, seed: int) -> Tensor:
    """A random order of all indices (N,) in which any run of places has the classes in proportion."""
    return in_turns(labels, torch.randperm(len(labels), generator=generator(seed, 0)))


def in_turns(labels: Tensor, shuffled: Tensor) -> Tensor:
    """The order `shuffled` of all indices (N,), brought to where any run of places has the classes in proportion.

    Each class stays in its order. Classes of the same size take turns.
    """
    classes = labels[shuffled]
    counts = torch.bincount(classes)
    by_class = classes.argsort(stable=True)
    turn = torch.empty(len(labels), dtype=torch.float64)
    turn[by_class] = torch.cat([(torch.arange(count).double() + 0.5) / count for count in counts.tolist()])
    return shuffled[turn.argsort(stable=True)]


class Order:
    """The order of one epoch's images: a function of (seed, epoch) alone. Lightning calls `set_epoch`.

    draws: uniform numbers for each image. betas: numbers beside them, each from a Beta(alpha, alpha) of its own.
    """

    def __init__(self, size: int, *, seed: int, shuffle: bool, draws: int, betas: Sequence[float] = ()) -> None:
        self.size = size
        self.seed = seed
        self.shuffle = shuffle
        self.draws_per_image = draws
        self.betas = betas
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        self.epoch = epoch

    def positions(self) -> Tensor:
        """Where in the set each place of this epoch comes from: (N,)."""
        if not self.shuffle:
            return torch.arange(self.size)
        return torch.randperm(self.size, generator=generator(self.seed, 2 * self.epoch + 1))

    def draws(self) -> Tensor:
        """Numbers for this epoch, a row an image whatever its place, those of `betas` last: (N, D)."""
        chance = generator(self.seed, 2 * self.epoch + 2)
        uniform = torch.rand(self.size, self.draws_per_image, generator=chance)
        if not self.betas:
            return uniform
        # torch draws from a Beta by its global generator alone.
        shares = np.random.default_rng(chance.initial_seed()).beta(self.betas, self.betas, (self.size, len(self.betas)))
        return torch.cat([uniform, torch.from_numpy(shares).float()], 1)


def rank_and_world_size(trainer: Trainer | None) -> tuple[int, int]:
    """Which share of each batch this rank takes, and of how many. Ranks that hold parts of one net take the same."""
    told = trainer.distributed_sampler_kwargs if trainer is not None else None
    return (told["rank"], told["num_replicas"]) if told is not None else (0, 1)


class Batches:
    """Iterate over a set of images in batches that are split over ranks, each image exactly once.

    `batch_size` counts images over all ranks. A training step takes the same number of batches on each rank; the last
    batch may be smaller, and then `Batch.total` tells a step how to weigh its part. Iteration continues in the middle
    of an epoch after `load_state_dict`. Batches come from the device that the images are on. `together`: so many
    neighbours in a batch stay on one rank.
    """

    def __init__(
        self,
        images: Images,
        labels: Tensor,
        order: Order,
        *,
        batch_size: int,
        together: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        assert len(images) == len(labels) == order.size
        self.images = images
        self.labels = labels
        self.sampler = order  # under this name Lightning tells it the epoch
        self.batch_sampler = None  # which Lightning asks for wherever there is a sampler
        self.batch_size = batch_size
        self.together = together
        self.rank = rank
        self.world_size = world_size
        self._yielded = 0
        self._resume = {"epoch": -1, "batches": 0}

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        # Only now is the epoch known: Lightning calls iter() before it calls set_epoch().
        start = self._resume["batches"] if self._resume["epoch"] == self.sampler.epoch else 0
        place = torch.arange(self.sampler.size) % self.batch_size  # within its batch
        mine = place // self.together % self.world_size == self.rank
        share = int(mine[: self.batch_size].sum())  # of a whole batch
        # To where the images are: on a GPU a step then asks nothing of the CPU.
        positions, draws = (
            part.to(self.images.device) for part in (self.sampler.positions()[mine], self.sampler.draws())
        )
        for number in range(start, len(self)):
            chosen = positions[number * share : (number + 1) * share]
            total = min(self.batch_size, self.sampler.size - number * self.batch_size)
            self._yielded = number + 1
            # Several times as fast as images[chosen].
            images, labels, chances = (part.index_select(0, chosen) for part in (self.images, self.labels, draws))
            yield Batch(images, labels, chances, total)

    def state_dict(self) -> dict[str, int]:
        """Which epoch this is, and how many of its batches have been handed out."""
        return {"epoch": self.sampler.epoch, "batches": self._yielded}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let that epoch, should it come again, begin behind the batches that were handed out."""
        self._resume = dict(state)
        self._yielded = state["batches"]
