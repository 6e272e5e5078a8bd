"""Muon: momentum that is made an orthogonal matrix before each step: no direction is learnt faster than another."""

from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor, nn
from torch.optim import AdamW

from alexnet_lit.nets.kernels.native import has_bf16_units

_TURNS = 5  # of the iteration
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # a x + b x^3 + c x^5 takes 0..1 near 1 within so many turns

Share = Annotated[float, Field(ge=0, lt=1)]


class Muon(AdamW):
    """Muon for the kernels of convolutions, AdamW for all else, at one learning rate.

    A kernel is taken as a matrix (out, height * width * in). Its step is the orthogonal matrix next to Nesterov's
    momentum, times 0.2 * sqrt(the longer side), which is as large as a step of AdamW is (Liu et al. 2025).
    momentum: of kernels; betas, eps: of the rest. linear: take hidden linear layers as kernels too; their matrices are
    so large that a step takes many times as long, on a GPU too.

    torch's Muon takes matrices alone. The parameters are to come layer by layer: the last matrix, whose rows belong to
    the classes, is AdamW's.
    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    Raises: ValueError for a learning rate or betas out of range.
    """

    whole_matrices = True  # a device that holds a part of each would not do

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        momentum: Share,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        linear: bool,
        fused: bool,
    ) -> None:
        params = list(params)
        matrices = [parameter for parameter in params if parameter.ndim > 1][:-1]
        self.kernels: list[nn.Parameter] = [each for each in matrices if linear or each.ndim == 4]
        self.momentum = momentum
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=fused)
        # A fused AdamW takes the factor of a gradient scaler out within its step, and skips the step where gradients
        # overflowed. Kernels move outside of it: so the scaler is to do both before.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move all parameters. Returns what `closure`, if given, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        group = self.param_groups[0]
        gradients = [kernel.grad for kernel in self.kernels]
        for kernel, gradient in zip(self.kernels, gradients, strict=True):
            if gradient is not None:
                self._move(kernel, gradient, group["lr"], group["weight_decay"])
            kernel.grad = None  # AdamW passes it over
        super().step()
        for kernel, gradient in zip(self.kernels, gradients, strict=True):
            kernel.grad = gradient
        return loss

    def _move(self, kernel: nn.Parameter, gradient: Tensor, lr: float, weight_decay: float) -> None:
        state = self.state[kernel]
        if not state:
            state["step"] = torch.zeros(())  # AdamW asks all states for it
            state["momentum"] = torch.zeros_like(kernel)
        momentum: Tensor = state["momentum"]
        momentum.lerp_(gradient, 1 - self.momentum)
        # Channels last, as convolutions lie in memory: the order of columns is all the same to the iteration.
        direction = gradient.lerp(momentum, self.momentum).movedim(1, -1)  # (out, in, h, w) -> (out, h, w, in)
        matrix = direction.flatten(1)
        kernel.mul_(1 - lr * weight_decay)
        step = orthogonal(matrix).view(direction.shape).movedim(-1, 1)
        kernel.add_(step, alpha=-lr * 0.2 * max(matrix.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """The orthogonal matrix next to a matrix (M, N), roughly: singular values from 0.7 to 1.2 instead of 1.

    By Newton and Schulz's iteration, of matrix products alone. In bfloat16, as published, where there are units for it:
    singular values are that rough anyway. Elsewhere in float32, and from squares where these are much smaller.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm() + 1e-7)  # no singular value above 1
    if matrix.is_cuda or has_bf16_units():
        x = _iterate(x.bfloat16())
    else:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        x = _iterate_squares(x) if x.shape[1] > 1.5 * x.shape[0] else _iterate(x)
    return (x.mT if tall else x).to(matrix.dtype)


def _iterate(x: Tensor) -> Tensor:
    a, b, c = _COEFFICIENTS
    for _ in range(_TURNS):
        square = x @ x.mT
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x


def _iterate_squares(x: Tensor) -> Tensor:
    """The same on x x^T alone: each turn multiplies x by a polynomial of it, and these multiply among themselves.

    Two products of the long side instead of ten: for AlexNet's kernels 0.4 of the time. Squares of small singular
    values drown in bfloat16, and then grow without bound; in float32 what comes out is right to 2e-4.
    """
    a, b, c = _COEFFICIENTS
    square, product = x @ x.mT, None
    for turn in range(_TURNS):
        factor = torch.addmm(square, square, square, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor if product is None else factor @ product
        if turn < _TURNS - 1:
            square = factor @ square @ factor
    assert product is not None
    return product @ x
