"""How long a run is, from its settings alone: a schedule is made before data is read."""

from omegaconf import DictConfig

from alexnet_lit.data import ImageData
from alexnet_lit.errors import Mistake


def limited(images: int, limit: float | int, batch_size: int) -> int:
    """How many of the images lightning's limit_*_batches lets through: so many batches, or such a share of them."""
    batches = -(-images // batch_size)
    return min(images, (limit if isinstance(limit, int) else int(batches * limit)) * batch_size)


def epoch_batches(trainer: DictConfig, data: ImageData) -> int:
    """Training batches of an epoch."""
    batches = -(-data.sizes["train"] // data.batch_size)
    limit = trainer.overfit_batches or trainer.limit_train_batches
    if trainer.fast_dev_run:
        return int(trainer.fast_dev_run)
    if isinstance(limit, int):
        return min(batches, limit)
    return int(batches * limit) if isinstance(limit, float) else batches


def run_length(trainer: DictConfig, data: ImageData) -> tuple[int, int]:
    """Optimizer steps and epochs of a run, at least one each."""
    batches = epoch_batches(trainer, data)
    if trainer.fast_dev_run:
        return batches, 1
    epochs = trainer.max_epochs if isinstance(trainer.max_epochs, int) and trainer.max_epochs > 0 else 1
    steps = -(-batches // trainer.accumulate_grad_batches) * epochs
    if isinstance(trainer.max_steps, int) and trainer.max_steps > 0:
        steps = trainer.max_steps if trainer.max_epochs == -1 else min(steps, trainer.max_steps)
    return max(1, steps), epochs


def check_limits(trainer: DictConfig) -> None:
    """Refuse a least length beyond the most. Raises: Mistake."""
    for unit in ("epochs", "steps"):
        least, most = trainer.get(f"min_{unit}"), trainer[f"max_{unit}"]
        if isinstance(least, int) and isinstance(most, int) and 0 <= most < least:
            way_out = f"use trainer.max_{unit}={least} or more"
            raise Mistake(f"trainer.min_{unit}={least}: the run ends with trainer.max_{unit}={most}: {way_out}")
