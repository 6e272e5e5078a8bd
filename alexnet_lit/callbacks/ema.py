"""A second set of weights: the average of the last steps', which is less noisy than those of any one step."""

from typing import Annotated, Any

import torch
from lightning.pytorch import Callback, Trainer
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage(Callback):
    """Averages the weights over steps, and lets validation, best.ckpt and the test have the average.

    After each `every_steps`-th step from `from_step` on: average = decay * average + (1 - decay) * weights (Polyak and
    Juditsky 1992). Until then there is none, and the weights themselves are scored. warmup: the n-th time after the
    first the decay is (1 + n) / (10 + n) at most, so that a short run doesn't end with an average of its first weights
    (as TensorFlow's ExponentialMovingAverage has it); the average is over the last tenth of the steps or so, until that
    is as long as `decay` says. Buffers are those of the last step.

    The net has the average from the start of a validation to the next training batch, and from the end of training on:
    whoever looks at it in between, or saves it, finds what was scored. A checkpoint to go on from has the average in
    its `state_dict`, as what reads a checkpoint wants that, and the weights that training goes on with beside it.

    The average lies on the device of the weights and is float32 at least: in bfloat16 a step of 0.001 of the way would
    be lost. A step waits for no device; ranks have the same weights, so the same average.

    It stands in for Lightning's EMAWeightAveraging, of which nothing would be left: that puts the weights back before
    best.ckpt is written, keeps the average on the CPU where the net is not on its device yet, and its AveragedModel
    waits for the device each step to ask whether it is the first.
    """

    @validate_call(config=ConfigDict(strict=True))
    def __init__(
        self,
        *,
        decay: Annotated[float, Field(ge=0, lt=1)],
        warmup: bool,
        from_step: Annotated[int, Field(ge=1)],
        every_steps: Annotated[int, Field(ge=1)],
    ) -> None:
        self.decay = decay
        self.warmup = warmup
        self.from_step = from_step
        self.every_steps = every_steps
        self._average: list[Tensor] = []  # none before the first time
        self._aside: list[Tensor] = []  # the weights that training goes on with, while the net has the average
        self._times = 0  # that the average was taken
        self._step = 0  # global step before this batch

    def on_fit_start(self, trainer: Trainer, module: Any) -> None:
        """Take what a checkpoint brought to the device."""
        pairs = zip(self._average, module.net.parameters(), strict=False)  # there may be no average
        self._average = [average.to(weight.device) for average, weight in pairs]

    @torch.no_grad()
    def on_train_batch_start(self, trainer: Trainer, module: Any, *_: Any) -> None:
        """Let training have its weights back."""
        self._step = trainer.global_step
        for weight, own in zip(module.net.parameters(), self._aside, strict=False):
            weight.copy_(own)
        self._aside = []

    def on_train_batch_end(self, trainer: Trainer, module: Any, *_: Any) -> None:
        """Average, once a step: batches whose gradients accumulate are no step yet."""
        step = trainer.global_step
        if step == self._step or step < self.from_step or (step - self.from_step) % self.every_steps:
            return
        weights = [weight.detach() for weight in module.net.parameters()]
        if self._average:
            warm = (1 + self._times) / (10 + self._times)
            take = get_ema_multi_avg_fn(min(self.decay, warm) if self.warmup else self.decay)
            pairs = zip(weights, self._average, strict=True)
            take(self._average, [weight.to(average.dtype) for weight, average in pairs], self._times)
        else:
            self._average = [
                weight.to(torch.promote_types(weight.dtype, torch.float32), copy=True) for weight in weights
            ]
        self._times += 1

    def on_validation_start(self, trainer: Trainer, module: Any) -> None:
        """Let a validation within training have the average."""
        if trainer.state.fn == "fit":
            self._give_average(module)

    def on_train_end(self, trainer: Trainer, module: Any) -> None:
        """Leave the average, for the test."""
        self._give_average(module)

    @torch.no_grad()
    def _give_average(self, module: Any) -> None:
        if self._aside or not self._average:
            return
        self._aside = [weight.detach().clone() for weight in module.net.parameters()]
        for weight, average in zip(module.net.parameters(), self._average, strict=True):
            weight.copy_(average)

    def on_save_checkpoint(self, trainer: Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Keep both: the average as the net's weights, without any rounding, and those that training goes on with."""
        if not self._average:
            return
        trained = self._aside or [weight.detach() for weight in module.net.parameters()]
        checkpoint["state_dict"].update(zip(_names(module), self._average, strict=True))
        checkpoint["moving_average"] = {"times": self._times, "trained": trained}

    def on_load_checkpoint(self, trainer: Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Go on from there: the net has been given the average by now, as at the end of a validation."""
        if trainer.state.fn == "fit" and (saved := checkpoint.get("moving_average")):
            self._times, self._aside = saved["times"], saved["trained"]
            self._average = [checkpoint["state_dict"][name] for name in _names(module)]


def _names(module: Any) -> list[str]:
    """The weights' names in a checkpoint."""
    return [f"net.{name}" for name, _ in module.net.named_parameters()]
