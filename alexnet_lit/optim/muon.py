"""Muon: SGD with momentum and orthogonalised updates, so that no direction is learnt faster than another."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor, nn
from torch.optim import AdamW

from alexnet_lit.nets.kernels.native import bf16_units

_NS_STEPS = 5  # Newton-Schulz iterations
_MOST_PADDED = 3  # size of a padded batch at most, as a multiple of its matrices' size
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # a x + b x^3 + c x^5, _NS_STEPS times, brings 0..1 near 1


class Muon(AdamW):
    """Muon for convolution kernels and AdamW for all other parameters, at one learning rate.

    A kernel is taken as a matrix (out, height * width * in). Its step is the orthogonal matrix nearest to Nesterov's
    momentum, times scale * sqrt(the longer side): with 0.2 about the size of a step of AdamW (Liu et al. 2025).
    momentum: of kernels; betas, eps: of the rest. linear: treat hidden linear layers as kernels too; a step then takes
    many times as long. Parameters come in layer order: the last matrix, whose rows are the classes, is AdamW's.
    torch's Muon takes two-dimensional parameters only.
    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    Raises: ValueError for a learning rate or betas out of range.
    """

    @validate_call(config=ConfigDict(arbitrary_types_allowed=True))
    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        momentum: Annotated[float, Field(ge=0, lt=1)],
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        linear: bool,
        fused: bool,
        scale: Annotated[float, Field(gt=0)] = 0.2,  # not saved in checkpoints of 0.1.0
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=fused)
        matrices = [each for group in self.param_groups for each in group["params"] if each.ndim > 1][:-1]
        self.kernels: list[nn.Parameter] = [each for each in matrices if linear or each.ndim == 4]
        self.momentum, self.scale = momentum, scale
        # A fused AdamW unscales gradients within its step. Kernels move outside of it: the scaler has to do so before.
        self._step_supports_amp_scaling = False

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("kernels", "momentum", "scale")}
        return {**super().__getstate__(), **own}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters. Returns the loss of `closure`, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moving = [(kernel, kernel.grad) for kernel in self.kernels if kernel.grad is not None]
        if moving:
            self._move(moving)
        for kernel, _ in moving:
            kernel.grad = None  # so that AdamW skips it
        super().step()
        for kernel, gradient in moving:
            kernel.grad = gradient
        return loss

    def _move(self, moving: Sequence[tuple[nn.Parameter, Tensor]]) -> None:
        """Update kernels by their gradients."""
        groups, directions = {each: group for group in self.param_groups for each in group["params"]}, []
        for kernel, gradient in moving:
            state = self.state[kernel]
            if not state:
                state["step"] = torch.zeros(())  # AdamW expects it in every state
                state["momentum"] = torch.zeros_like(kernel)
            momentum = state["momentum"].lerp_(gradient, 1 - self.momentum)
            # (out, in, h, w) -> (out, h, w, in), as kernels lie in memory; the order of columns changes no step.
            directions.append(gradient.lerp(momentum, self.momentum).movedim(1, -1))
        steps = orthogonal_each([each.flatten(1) for each in directions], batched=directions[0].is_cuda)
        for (kernel, _), direction, step in zip(moving, directions, steps, strict=True):
            group = groups[kernel]
            kernel.mul_(1 - group["lr"] * group["weight_decay"])
            length = self.scale * max(step.shape) ** 0.5
            kernel.add_(step.view(direction.shape).movedim(-1, 1), alpha=-group["lr"] * length)


def orthogonal_each(matrices: Sequence[Tensor], *, batched: bool) -> list[Tensor]:
    """`orthogonal` of each matrix.

    batched: as one batch padded with zeros, unless that is mostly zeros: a fifth of the launches for AlexNet's five.
    """
    wide = [matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix for matrix in matrices]
    rows, columns = (max(sizes) for sizes in zip(*(matrix.shape for matrix in wide), strict=True))
    padded = len(wide) * rows * columns
    if not batched or padded > _MOST_PADDED * sum(matrix.numel() for matrix in wide):
        return [orthogonal(matrix) for matrix in matrices]
    batch = wide[0].new_zeros(len(wide), rows, columns)
    for place, matrix in zip(batch, wide, strict=True):
        place[: matrix.shape[0], : matrix.shape[1]] = matrix
    steps = [step[: m.shape[0], : m.shape[1]] for step, m in zip(orthogonal(batch), wide, strict=True)]
    return [step if step.shape == matrix.shape else step.mT for step, matrix in zip(steps, matrices, strict=True)]


def orthogonal(matrix: Tensor) -> Tensor:
    """The orthogonal matrix nearest to a matrix (..., M, N), but for singular values of 0.7 to 1.2 instead of 1.

    By a Newton-Schulz iteration: in bfloat16, as published, on a GPU and CPUs with AMX; elsewhere, faster, in float32.
    """
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)  # no singular value above 1
    if matrix.is_cuda or bf16_units() == "AMX":
        x = _iterate(x.bfloat16())
    else:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        x = _iterate_squares(x) if x.shape[-1] > 1.5 * x.shape[-2] else _iterate(x)
    return (x.mT if tall else x).to(matrix.dtype)


def _iterate(x: Tensor) -> Tensor:
    a, b, c = _COEFFICIENTS
    add_product: Callable[..., Tensor] = torch.addmm if x.ndim == 2 else torch.baddbmm
    for _ in range(_NS_STEPS):
        square = x @ x.mT
        x = add_product(x, add_product(square, square, square, beta=b, alpha=c), x, beta=a)
    return x


def _iterate_squares(x: Tensor) -> Tensor:
    """The same from x x^T: each turn multiplies x by a polynomial of that, and the polynomials are multiplied first.

    0.4 of the time for AlexNet's kernels. In bfloat16 small singular values would be lost, and grow without bound.
    """
    a, b, c = _COEFFICIENTS
    add_product: Callable[..., Tensor] = torch.addmm if x.ndim == 2 else torch.baddbmm
    square, product = x @ x.mT, None
    for turn in range(_NS_STEPS):
        factor = add_product(square, square, square, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        product = factor if product is None else factor @ product
        if turn < _NS_STEPS - 1:
            square = factor @ square @ factor
    assert product is not None
    return product @ x
