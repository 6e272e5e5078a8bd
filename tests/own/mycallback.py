"""A callback of one's own."""

from typing import Any

import torch
from lightning.pytorch import Callback, Trainer


class WeightNorm(Callback):
    """Logs the norm of all weights to every logger, every so many steps."""

    def __init__(self, *, every: int) -> None:
        self.every = every

    def on_train_batch_end(self, trainer: Trainer, module: Any, *_: Any) -> None:
        """Log, if it is due."""
        if trainer.global_step % self.every == 0:
            squares = torch.stack([weight.detach().square().sum() for weight in module.net.parameters()])
            for logger in trainer.loggers:
                logger.log_metrics({"weight_norm": float(squares.sum().sqrt())}, step=trainer.global_step)
