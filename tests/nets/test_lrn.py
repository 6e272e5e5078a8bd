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
