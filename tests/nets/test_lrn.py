"""Local response normalisation against the paper's formula, written as loops."""

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from alexnet_lit.nets import LocalResponseNorm


def by_hand(x: Tensor, size: int, alpha: float, beta: float, k: float, *, mean: bool) -> Tensor:
    """Krizhevsky et al. 2012, section 3.3, channel by channel; the window is torch's."""
    out = torch.empty_like(x)
    channels = x.shape[1]
    for c in range(channels):
        window = range(max(0, c - size // 2), min(channels, c + (size - 1) // 2 + 1))
        squares = sum((x[:, n] ** 2 for n in window), torch.zeros_like(x[:, 0]))
        out[:, c] = x[:, c] / (k + alpha * squares / (size if mean else 1)) ** beta
    return out


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_equals_the_formula(size: int, reduction: Literal["sum", "mean"]) -> None:
    x = 30 * torch.randn(2, 7, 3, 4, dtype=torch.float64)
    layer = LocalResponseNorm(size, alpha=1e-3, beta=0.75, k=2.0, reduction=reduction)

    expected = by_hand(x, size, 1e-3, 0.75, 2.0, mean=reduction == "mean")

    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_the_mean_is_torchs_layer_and_the_sum_is_it_at_five_times_alpha() -> None:
    x = 100 * torch.randn(2, 96, 5, 5)
    paper = LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0, reduction="sum")
    code = LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0, reduction="mean")

    torch.testing.assert_close(code(x), nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)(x))
    torch.testing.assert_close(paper(x), nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)(x))
    assert not torch.allclose(paper(x), code(x), rtol=1e-3)


def test_gradient() -> None:
    x = torch.randn(1, 6, 2, 2, dtype=torch.float64, requires_grad=True)
    layer = LocalResponseNorm(5, alpha=0.1, beta=0.75, k=2.0, reduction="sum")
    assert torch.autograd.gradcheck(layer, x)


@pytest.mark.parametrize("size", [1, 2, 4, 5, 9])
@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_gradient_of_every_window(size: int, beta: float) -> None:
    x = torch.randn(2, 6, 2, 2, dtype=torch.float64, requires_grad=True)
    layer = LocalResponseNorm(size, alpha=0.3, beta=beta, k=1.5, reduction="mean")
    assert torch.autograd.gradcheck(layer, x)


def test_gradient_equals_torchs() -> None:
    mine = torch.randn(2, 96, 9, 9, requires_grad=True)
    theirs = mine.detach().clone().requires_grad_()
    upstream = torch.randn(2, 96, 9, 9)

    LocalResponseNorm(5, alpha=1e-2, beta=0.75, k=2.0, reduction="mean")(mine).backward(upstream)
    nn.LocalResponseNorm(5, 1e-2, 0.75, 2.0)(theirs).backward(upstream)

    torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_safe(dtype: torch.dtype) -> None:
    x = torch.full((1, 5, 1, 1), 300.0, dtype=dtype, requires_grad=True)  # 300 squared is beyond float16
    layer = LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0, reduction="mean")

    out = layer(x)
    out.sum().backward()

    assert out.dtype == dtype
    assert out[0, 2].item() == pytest.approx(49.7, rel=0.01)
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_keeps_its_inputs_dtype_under_autocast() -> None:
    x = torch.randn(1, 8, 2, 2, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0, reduction="mean")(x).dtype == torch.bfloat16


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_keeps_the_memory_format(memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 8, 3, 4).contiguous(memory_format=memory_format).requires_grad_()
    out = LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0, reduction="mean")(x)
    out.backward(torch.ones_like(out))
    assert out.is_contiguous(memory_format=memory_format)
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=memory_format)


def test_is_exported_as_plain_operations() -> None:
    layer = LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0, reduction="sum")
    x = torch.randn(2, 8, 3, 4)
    program = torch.export.export(layer, (x,))
    torch.testing.assert_close(program.module()(x), layer(x))
