"""A run whose loss is no longer a number stops, before anything of that step is saved."""

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from alexnet_lit.errors import Diverged


class TerminateOnNaN(Callback):
    """Raises Diverged out of `fit`, on all ranks at the same step, if the loss of any of them is NaN or infinite.

    On a CPU a step's loss is looked at when the step ends. A GPU is not waited for: its loss is copied into pinned
    memory while it works on, and looked at when the next step ends, or at once where a checkpoint or a validation asks.

    A checkpoint is written only if the loss of its step and all weights are finite, and a net with other weights is not
    validated, so it can't become best either: gradients that overflow while the loss is still finite spoil the weights
    one step before the loss tells. The optimizer's moments are not looked at.
    """

    def __init__(self) -> None:
        self._pending: tuple[int, Tensor, torch.cuda.Event | None] | None = None  # a step and its loss, not read yet
        self._pinned: Tensor | None = None

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: Any, *_: Any) -> None:
        """Look at the step before, take this one's loss; where that costs no wait, look at it too."""
        self._look()
        loss = outputs["loss"].detach().float()
        if trainer.world_size > 1:
            loss = loss.clone()
            torch.distributed.all_reduce(loss)  # on a GPU it joins the queue like any other kernel
        self._pending = (trainer.global_step, *self._on_its_way(loss))
        if not loss.is_cuda:
            self._look()

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Refuse to measure a broken net."""
        if trainer.state.fn == "fit":
            self._check(trainer, module)

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuse to save a broken net. The file is written after this."""
        self._check(trainer, module)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Look at the last step."""
        self._look()

    def _on_its_way(self, loss: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
        """The loss where the CPU can read it once the event, if there is one, has happened."""
        if not loss.is_cuda:
            return loss, None
        if self._pinned is None:
            self._pinned = torch.empty(loss.shape, pin_memory=True)
        self._pinned.copy_(loss, non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        return self._pinned, event

    def _look(self) -> None:
        if self._pending is None:
            return
        (step, loss, event), self._pending = self._pending, None
        if event is not None:
            event.synchronize()
        check_loss(float(loss), step)

    def _check(self, trainer: Trainer, module: LightningModule) -> None:
        """Loss and weights. Waits for the device."""
        self._look()
        broken = ~torch.stack([weight.detach().isfinite().all() for weight in module.parameters()]).all()
        if trainer.world_size > 1:
            broken = broken.float()
            torch.distributed.all_reduce(broken)
        if broken.item():
            raise Diverged(f"weights are no longer finite after step {trainer.global_step}: lower optimizer.lr")


def check_loss(loss: float, step: int) -> None:
    """Raises: Diverged if the loss of that step is NaN or infinite."""
    if not math.isfinite(loss):
        raise Diverged(f"the training loss is {loss} at step {step}: lower optimizer.lr")
