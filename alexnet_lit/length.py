"""How long a run is, from its settings alone: a schedule is made before data is read."""

from omegaconf import DictConfig

from alexnet_lit.data import ImageData
from alexnet_lit.errors import UserError


def limited_batches(batches: int, limit: float | int | None) -> int:
    """How many of them one of lightning's limit_*_batches lets through: so many, or such a share; null for all."""
    if isinstance(limit, int):
        return min(batches, limit)
    return batches if limit is None else int(batches * limit)


def limited(images: int, limit: float | int | None, batch_size: int) -> int:
    """How many of the images that leaves."""
    return min(images, limited_batches(-(-images // batch_size), limit) * batch_size)


def epoch_batches(trainer: DictConfig, data: ImageData) -> int:
    """Training batches of an epoch."""
    batches = -(-data.sizes["train"] // data.batch_size)
    if trainer.fast_dev_run:
        return min(batches, int(trainer.fast_dev_run))
    return limited_batches(batches, trainer.overfit_batches or trainer.limit_train_batches)


def run_length(trainer: DictConfig, data: ImageData) -> tuple[int, int]:
    """Optimizer steps and epochs of a run, at least one each."""
    batches = epoch_batches(trainer, data)
    if trainer.fast_dev_run:
        return batches, 1
    endless = trainer.max_epochs in (None, -1)
    epochs = 1 if endless else trainer.max_epochs
    steps = -(-batches // trainer.accumulate_grad_batches) * epochs
    if trainer.max_steps != -1:
        steps = trainer.max_steps if endless else min(steps, trainer.max_steps)
    return max(1, steps), epochs


def check_limits(trainer: DictConfig) -> None:
    """Refuse a least length beyond the most. Raises: UserError."""
    for unit in ("epochs", "steps"):
        least, most = trainer.get(f"min_{unit}"), trainer[f"max_{unit}"]
        if isinstance(least, int) and isinstance(most, int) and 0 <= most < least:
            way_out = f"use trainer.max_{unit}={least} or more"
            raise UserError(f"trainer.min_{unit}={least}: the run ends with trainer.max_{unit}={most}: {way_out}")
