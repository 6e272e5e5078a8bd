"""Initial weights from the images: whitened kernels for the first convolution."""

from typing import Annotated, Any

import torch
from lightning.pytorch import Callback, Trainer
from pydantic import ConfigDict, Field, validate_call
from torch import nn

from alexnet_lit.errors import UserError

_PART = 16  # images whose windows are in memory at a time: 50 MB for a grey one of 224 px


class WhitenedKernels(Callback):
    """Draws the first convolution's weights so that its outputs are far less correlated on training images.

    Neighbouring px of an enlarged image are nearly alike, so that kernels which are drawn px by px all see its
    brightness. Here they are orthogonal mixtures of the principal components of its windows, each divided by its
    standard deviation; all are scaled so that the outputs keep their mean square. A resumed run keeps its weights,
    which are loaded after this.

    images: number of training images used, the first ones. eps: components with less than this share of the
    largest variance, which hold little but noise, are damped as by a Wiener filter.
    Source: whitening of patches after Coates, Ng and Lee 2011; as initial kernels in a CNN, Jordan 2024, "94% on
    CIFAR-10 in 3.29 seconds". Raises: UserError for a net without a convolution over the whole image's channels.
    """

    @validate_call(config=ConfigDict(strict=True))
    def __init__(self, *, images: Annotated[int, Field(ge=1)], eps: Annotated[float, Field(gt=0)]) -> None:
        self.images, self.eps = images, eps

    @torch.no_grad()
    def setup(self, trainer: Trainer, module: Any, stage: str) -> None:
        """Before a fit: the data is set up, the net is not split yet, and no checkpoint is loaded."""
        if stage != "fit":
            return
        first = next((layer for layer in module.net.modules() if isinstance(layer, nn.Conv2d)), None)
        if first is None or first.groups > 1:
            hint = "leave it out by ~callbacks.whitening"
            raise UserError(f"callbacks=whitening: the net has no first convolution over all channels: {hint}")
        data: Any = trainer.datamodule  # type: ignore[attr-defined] # set by Lightning's data connector
        images, _ = data.images["train"]
        moments = torch.zeros(first.weight[0].numel(), first.weight[0].numel(), dtype=torch.float64)
        for part in torch.arange(min(self.images, len(images))).split(_PART):
            seen = module.pixels(images.index_select(0, part))  # (N, C, S, S)
            for dim, size, step in zip((2, 3), first.kernel_size, first.stride, strict=True):
                seen = seen.unfold(dim, size, step)  # ten times as fast as F.unfold
            windows = seen.permute(0, 2, 3, 1, 4, 5).reshape(-1, len(moments)).double()  # (places, C * h * w)
            moments += windows.T @ windows  # not divided by their number: the scale cancels below
        variances, components = torch.linalg.eigh(moments)
        source = torch.Generator().manual_seed(module.seed)
        turns, _ = torch.linalg.qr(torch.randn(len(moments), len(moments), generator=source, dtype=torch.float64))
        variances = variances.clamp(min=0)
        scales = variances.sqrt() / (variances + self.eps * variances[-1])
        weights = turns.repeat(-(-first.out_channels // len(turns)), 1)[: first.out_channels] * scales @ components.T
        both = (first.weight.flatten(1).double(), weights)
        strength = [torch.einsum("ki,ij,kj->", each, moments, each) for each in both]
        first.weight.copy_((weights * (strength[0] / strength[1]).sqrt()).view_as(first.weight))
