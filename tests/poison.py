"""A callback that a test puts into a run by its config, so that it reaches ranks in processes of their own."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from alexnet_lit.data import Batch


class Poison(Callback):
    """Makes the images of one rank NaN in the step after `steps` steps."""

    def __init__(self, *, rank: int, steps: int) -> None:
        self.rank = rank
        self.steps = steps

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Batch, *_: Any) -> None:
        if (trainer.global_rank, trainer.global_step) == (self.rank, self.steps):
            batch.images.fill_(torch.nan)
