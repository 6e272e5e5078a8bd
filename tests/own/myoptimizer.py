"""An optimizer of one's own."""

from typing import Any

import torch


class SignSGD(torch.optim.Optimizer):
    """Steps of equal length, down the sign of each gradient."""

    def __init__(self, params: Any, *, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Step. closure: computes the gradients and returns the loss; Lightning always gives one."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.add_(parameter.grad.sign(), alpha=-group["lr"])
        return loss
