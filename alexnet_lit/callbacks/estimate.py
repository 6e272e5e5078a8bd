"""How much of a run is done, and how long the rest takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning.pytorch import Trainer

# A training step is a forward pass and a backward pass of about twice its cost; evaluation is the forward pass alone.
EVALUATION = 1 / 3


@dataclass(frozen=True)
class Plan:
    """What the trainer is going to do, in batches."""

    batches: int | None  # of training, in the whole run; None where it has no end or no length
    per_epoch: int | None
    interval: int = 0  # training batches from one validation to the next; 0: there are none
    every_epochs: int | None = 1  # None: the interval is counted across epochs
    validation: int = 0  # batches of one validation

    @classmethod
    def of(cls, trainer: Trainer) -> Plan:
        """Read it off the trainer, once its dataloaders are known (Lightning loads validation's at its first use)."""
        per_epoch = _finite(trainer.num_training_batches)
        batches = _training_batches(trainer, per_epoch)
        validation = sum(_finite(n) or 0 for n in trainer.num_val_batches)
        if not trainer.enable_validation or not validation:
            return cls(batches, per_epoch)
        interval = _finite(getattr(trainer, "val_check_batch", None)) or per_epoch or 0
        return cls(batches, per_epoch, interval, trainer.check_val_every_n_epoch, validation)

    @property
    def epochs(self) -> int | None:
        """Epochs that the run begins."""
        return math.ceil(self.batches / self.per_epoch) if self.batches and self.per_epoch else None

    def validations(self, batches: int) -> int:
        """How many validations the first `batches` training batches bring."""
        if not self.interval:
            return 0
        if self.every_epochs is None or self.per_epoch is None:
            return batches // self.interval
        epochs, rest = divmod(batches, self.per_epoch)
        count = epochs // self.every_epochs * (self.per_epoch // self.interval)
        if (epochs + 1) % self.every_epochs == 0:
            count += rest // self.interval
        return count


class Estimate:
    """Share of the work done and seconds left. Work is counted in images, an evaluated one as a third of a trained one;
    the seconds come from what each kind has cost so far, the first step (memory, kernels, compilation) left out.

    Call `trained` and `evaluated` as each batch ends, with the time.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        batches: int,
        per_validation: int | None,
        test: int,
    ) -> None:
        """`batches` of training are already done (a resumed run); images of one validation and of the final test."""
        self.plan = plan
        self.batches = batches
        self.measured = 0  # batches whose time is known
        self._per_validation = per_validation
        self._test = test
        self._validations = plan.validations(batches)
        self._partial = 0  # images of the validation or test that is going on
        self._seen = [0, 0]  # training batches and images of this process
        self._cost = {"train": [0.0, 0.0], "evaluation": [0.0, 0.0]}  # work, seconds
        self._timed = 0  # training images whose time is known
        self._mark: float | None = None

    def trained(self, images: int, now: float) -> None:
        """Take note that a training batch has ended."""
        self.batches += 1
        self._seen[0] += 1
        self._seen[1] += images
        self._timed += images if self._mark is not None else 0
        self._lap("train", images, now)

    def evaluated(self, images: int, now: float) -> None:
        """Take note that a validation or test batch has ended."""
        self._partial += images
        self._lap("evaluation", images, now)

    def validated(self) -> None:
        """Take note that a validation has ended: its size is known from now on."""
        self._per_validation = self._partial or self._per_validation
        self._partial = 0
        self._validations += 1

    @property
    def images_per_second(self) -> float | None:
        """Training speed so far, checkpoints included."""
        _, seconds = self._cost["train"]
        return self._timed / seconds if seconds else None

    @property
    def seconds(self) -> float:
        """Time that the figures rest on."""
        return sum(seconds for _, seconds in self._cost.values())

    @property
    def fraction(self) -> float | None:
        """Share of the whole run's work that is done, None where the whole is not known."""
        remaining = self._remaining()
        if remaining is None:
            return None
        if self.plan.batches and not self._seen[0]:
            return None  # how large a batch is, the first one says
        images, evaluations = remaining
        evaluated = self._validations * self._validation_images() + self._partial
        done = self.batches * self._batch_images() + EVALUATION * evaluated
        whole = done + images + EVALUATION * evaluations
        return done / whole if whole else None

    @property
    def seconds_left(self) -> float | None:
        """None until something is measured, and where the whole is not known."""
        remaining = self._remaining()
        if remaining is None or not self.measured:
            return None
        train, evaluation = (seconds / work if work else None for work, seconds in self._cost.values())
        if evaluation is None:
            evaluation = (train or 0.0) * EVALUATION
        if train is None:
            train = evaluation / EVALUATION
        return remaining[0] * train + remaining[1] * evaluation

    def _lap(self, kind: str, work: float, now: float) -> None:
        if self._mark is not None:
            self.measured += 1
            self._cost[kind][0] += work
            self._cost[kind][1] += now - self._mark
        self._mark = now

    def _remaining(self) -> tuple[float, float] | None:
        """Images still to train on, and to evaluate."""
        if self.plan.batches is None:
            return None
        validations = max(0, self.plan.validations(self.plan.batches) - self._validations)
        evaluations = validations * self._validation_images() + self._test - self._partial
        return max(0, self.plan.batches - self.batches) * self._batch_images(), max(0.0, evaluations)

    def _batch_images(self) -> float:
        return self._seen[1] / self._seen[0] if self._seen[0] else 1.0

    def _validation_images(self) -> float:
        # Until one is measured, validation batches are taken to be as large as training batches.
        return self.plan.validation * self._batch_images() if self._per_validation is None else self._per_validation


def validation_images(trainer: Trainer, batches: int) -> int | None:
    """Images of one validation, if its loader tells in `batch_size` how many a batch has over all devices."""
    loader = trainer.val_dataloaders
    size = getattr(loader, "batch_size", None)
    return batches * size if isinstance(size, int) else None


def final_test_images(trainer: Trainer) -> int:
    """Images of the test that follows a fit, if the data module tells in `sizes` how many it has, else 0."""
    data = trainer.datamodule  # type: ignore[attr-defined] # set by Lightning's data connector
    size = getattr(data, "sizes", {}).get("test", 0)
    limit = trainer.limit_test_batches
    if isinstance(limit, float):
        return int(size * limit)
    return int(min(size, limit * getattr(data, "batch_size", size)))


def _training_batches(trainer: Trainer, per_epoch: int | None) -> int | None:
    limits = []
    if trainer.max_epochs is not None and trainer.max_epochs >= 0 and per_epoch:
        limits.append(trainer.max_epochs * per_epoch)
    if trainer.max_steps >= 0:
        gathered = trainer.accumulate_grad_batches
        if per_epoch:  # the last step of an epoch is made of the batches that are left
            epochs, steps = divmod(trainer.max_steps, math.ceil(per_epoch / gathered))
            limits.append(epochs * per_epoch + steps * gathered)
        else:
            limits.append(trainer.max_steps * gathered)
    return min(limits, default=None)


def _finite(number: float | None) -> int | None:
    return None if number is None or math.isinf(number) else int(number)
