"""Training images mixed with each other, two by two."""

from collections.abc import Iterator

import torch
from torch import Tensor

from alexnet_lit.data.batches import Batch
from alexnet_lit.data.boxes import inside, whole


class Mix:
    """Puts a share of its neighbour into each image of a batch: MixUp, CutMix, or one of them by a chance of 1/2.

    Rows 2i and 2i + 1 of a global batch are neighbours, and a loader that knows `together` keeps them on one rank. So
    which images meet hangs on seed and epoch alone; how they mix, on the draws of each image, as in Augment. An odd
    last image stays as it is.

    mixup, cutmix: alpha of the distribution Beta(alpha, alpha) that the share which an image keeps is drawn from; 0
    switches off. MixUp adds the images up by their shares (Zhang et al. 2018, "mixup", section 2). CutMix puts in a
    rectangle of the neighbour, which is cut off at the edges; then shares are those of the areas (Yun et al. 2019,
    "CutMix", section 3.1).
    """

    def __init__(self, *, mixup: float, cutmix: float) -> None:
        self.mixup = mixup
        self.cutmix = cutmix
        self.betas = tuple(alpha for alpha in (mixup, cutmix) if alpha > 0)  # of the numbers behind the uniform ones
        self.draws = 2 * (cutmix > 0) + (len(self.betas) > 1)  # uniform numbers
        self.together = 2 if self.betas else 1

    def __call__(self, batch: Batch) -> Batch:
        """Mix images (B, C, S, S), in place, by the last columns of the draws: `draws` uniform ones, then `betas`.

        A batch without draws, or with nothing switched on, comes back as it is.
        """
        if not self.betas or not batch.draws.shape[1]:
            return batch
        images, labels = batch.images, batch.labels
        chances = iter(batch.draws[:, -self.draws - len(self.betas) :].float().unbind(1))
        weights, shares = self._neighbours_part(chances, images.shape[-1])
        last = len(labels) - 1
        neighbour = torch.arange(len(labels), device=labels.device).bitwise_xor(1).clamp(max=last)
        images.lerp_(images[neighbour], weights[:, None].to(images.dtype))
        others = labels[neighbour]
        larger = shares < 0.5  # the image's own class has the larger share
        return batch._replace(
            labels=torch.where(larger, labels, others),
            mixed_in=(torch.where(larger, others, labels), torch.minimum(shares, 1 - shares)),
        )

    def _neighbours_part(self, chances: Iterator[Tensor], size: int) -> tuple[Tensor, Tensor]:
        """Weight of the neighbour in each pixel, (B, size, size) or (B, 1, 1), and its share of the image, (B,)."""
        centre = [whole(next(chances), size - 1) for _ in range(2)] if self.cutmix else []
        by_mixup = next(chances) < 0.5 if len(self.betas) > 1 else None
        found = []
        if self.mixup:
            share = 1 - next(chances)
            found.append((share[:, None, None], share))
        if self.cutmix:
            half = (0.5 * size * (1 - next(chances)).sqrt()).long()
            rows, columns = (((middle - half).clamp(min=0), (middle + half).clamp(max=size)) for middle in centre)
            area = (rows[1] - rows[0]) * (columns[1] - columns[0])
            found.append((inside(rows, columns, size).float(), area / size**2))
        if by_mixup is None:
            return found[0]
        (faded, faded_share), (cut, cut_share) = found
        return torch.where(by_mixup[:, None, None], faded, cut), torch.where(by_mixup, faded_share, cut_share)
