"""An exponential moving average of the weights, which is less noisy than the weights of any one step."""

from typing import Annotated, Any

import torch
from lightning.pytorch import Callback, Trainer
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage(Callback):
    """Averages the weights over steps, and lets validation, best.ckpt and the test have the average.

    After each step: average = decay * average + (1 - decay) * weights (Polyak and Juditsky 1992). warmup: n updates
    after the first the decay is at most (1 + n) / (10 + n), as in TensorFlow's ExponentialMovingAverage, so that a
    short run averages over about its last tenth. Buffers are the last step's.

    The net holds the average from the start of a validation to the next training batch, and from the end of training
    on. A checkpoint has the average in its `state_dict`, and the weights that training goes on with beside it. The
    average is float32 at least.

    Lightning's EMAWeightAveraging puts the weights back before best.ckpt is written and waits for the device each step.
    """

    @validate_call(config=ConfigDict(strict=True))
    def __init__(self, *, decay: Annotated[float, Field(ge=0, lt=1)], warmup: bool) -> None:
        self.decay, self.warmup = decay, warmup
        self._average: list[Tensor] = []  # empty before the first time
        self._trained: list[Tensor] = []  # the weights that training goes on with, while the net has the average
        self._times = 0  # number of updates of the average
        self._step = 0  # global step before this batch

    def setup(self, trainer: Trainer, module: Any, stage: str) -> None:
        """Begin a fit with no average; what a checkpoint brings comes after this."""
        if stage == "fit":
            self._average, self._trained, self._times = [], [], 0

    def on_fit_start(self, trainer: Trainer, module: Any) -> None:
        """Move what a checkpoint brought to the device."""
        pairs = zip(self._average, module.net.parameters(), strict=False)  # there may be no average
        self._average = [average.to(weight.device) for average, weight in pairs]

    @torch.no_grad()
    def on_train_batch_start(self, trainer: Trainer, module: Any, *_: Any) -> None:
        self._step = trainer.global_step
        for weight, trained in zip(module.net.parameters(), self._trained, strict=False):
            weight.copy_(trained)
        self._trained = []

    def on_train_batch_end(self, trainer: Trainer, module: Any, *_: Any) -> None:
        """Average, once a step: batches whose gradients accumulate are no step yet."""
        if trainer.global_step == self._step:
            return
        weights = [weight.detach() for weight in module.net.parameters()]
        if self._average:
            warm = (1 + self._times) / (10 + self._times)
            update = get_ema_multi_avg_fn(min(self.decay, warm) if self.warmup else self.decay)
            pairs = zip(weights, self._average, strict=True)
            update(self._average, [weight.to(average.dtype) for weight, average in pairs], self._times)
        else:
            dtypes = (torch.promote_types(weight.dtype, torch.float32) for weight in weights)
            self._average = [weight.to(dtype, copy=True) for weight, dtype in zip(weights, dtypes, strict=True)]
        self._times += 1

    def on_validation_start(self, trainer: Trainer, module: Any) -> None:
        if trainer.state.fn == "fit":
            self._load_average(module)

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        self._load_average(module)

    @torch.no_grad()
    def _load_average(self, module: Any) -> None:
        if self._average and not self._trained:
            self._trained = [weight.detach().clone() for weight in module.net.parameters()]
            for weight, average in zip(module.net.parameters(), self._average, strict=True):
                weight.copy_(average)

    def on_save_checkpoint(self, trainer: Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Save the unrounded average as the net's weights, and beside it the weights that training continues from."""
        if self._average:
            trained = self._trained or [weight.detach() for weight in module.net.parameters()]
            checkpoint["state_dict"].update(zip(_names(module), self._average, strict=True))
            checkpoint["moving_average"] = {"times": self._times, "trained": trained}

    def on_load_checkpoint(self, trainer: Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Go on from there: Lightning has loaded the average into the net, as at the end of a validation."""
        if trainer.state.fn == "fit" and (saved := checkpoint.get("moving_average")):
            self._times, self._trained = saved["times"], saved["trained"]
            self._average = [checkpoint["state_dict"][name] for name in _names(module)]


def _names(module: Any) -> list[str]:
    """The weights' names in a checkpoint."""
    return [f"net.{name}" for name, _ in module.net.named_parameters()]
