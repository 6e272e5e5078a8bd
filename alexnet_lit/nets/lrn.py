"""Local response normalisation, the layer that AlexNet is remembered for."""

from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor, nn


class LocalResponseNorm(nn.Module):
    """Divide each activation by a power of the squares of its neighbours in the channel dimension.

    b[c] = a[c] / (k + alpha * R(a^2 over the `size` channels around c)) ^ beta, where R is the `reduction`.

    Trap: the formula printed in the paper sums the squares (`reduction="sum"`); the code that was released with it,
    Caffe and torch divide the sum by `size` (`reduction="mean"`). At the same alpha the two differ by that factor.
    The window is torch's: for an even `size` it reaches one channel further down than up, and channels beyond the
    ends count as zero while the divisor stays `size`.

    Source: Krizhevsky et al. 2012, section 3.3 (k=2, size=5, alpha=1e-4, beta=0.75).

    Shape: (B, C, H, W) -> (B, C, H, W).
    """

    @validate_call(config=ConfigDict(strict=True))
    def __init__(
        self,
        size: Annotated[int, Field(ge=1)],
        alpha: float,
        beta: float,
        k: float,
        reduction: Literal["sum", "mean"],
    ) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k
        self.reduction = reduction

    def forward(self, x: Tensor) -> Tensor:
        """Normalise across channels: (B, C, H, W) -> (B, C, H, W)."""
        alpha = self.alpha * self.size if self.reduction == "sum" else self.alpha
        return F.local_response_norm(x, self.size, alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        """What `print(net)` shows between the brackets."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}, reduction={self.reduction}"
