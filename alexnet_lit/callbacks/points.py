"""The training curve: a point every few steps, taken before the step is saved."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from alexnet_lit.callbacks.finite import check_loss


class Points(Callback):
    """Logs `module.take_point()` every `every` steps and with the last of an epoch and of the run, to all loggers,
    at that step; with every=0 with these last ones alone.

    Raises: Diverged out of `fit` if the loss is no longer a number.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._step = 0  # finished before this batch

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Note the step, to see at its end whether the batch was one: not where gradients are only added up."""
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        """Log a point if it is time to."""
        step = trainer.global_step  # steps finished, this one included
        last = trainer.is_last_batch or step == trainer.max_steps
        if step == self._step or (not last and (not self.every or step % self.every)):
            return
        values = module.take_point()  # type: ignore[operator] # torch types any attribute as a Module
        check_loss(values["train/loss"], step)
        for logger in trainer.loggers:
            logger.log_metrics(values, step=step)
