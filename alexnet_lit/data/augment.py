"""What may happen to a training image before the net sees it. Never to a validation or test image."""

from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor

from alexnet_lit.data.boxes import inside, whole
from alexnet_lit.data.mix import Mix
from alexnet_lit.data.pixels import Preprocess
from alexnet_lit.errors import UserError

# Zhong et al. 2020, "Random erasing data augmentation", section 4: share of the image's area, and height / width.
ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = (0.3, 1 / 0.3)


class Augment:
    """Random changes of a whole batch on the device, in the order of the arguments.

    What happens to an image depends on its draws alone, which are a function of (seed, epoch, image): the same on any
    number of devices, in any batch, and after a resume.

    mirror: turn an image left to right with probability 1/2 (Krizhevsky et al. 2012, section 4.1).
    crop: side of a random square of the enlarged image that is seen, as a share of it; 1 sees the whole. 0.875 is the
    paper's 224 of 256 px (section 4.1): an image is enlarged to image_size / crop px, and image_size of them are seen.
    translate: shift by up to this share of image_size in each direction, by whole px, black coming in.
    color: standard deviation of the normal number by which each axis of color_axes is multiplied and added to all
    pixels (section 4.1: 0.1); 0 leaves colours alone. color_axes: the principal axes of the training images' colours, a
    row an axis and a column a channel, each as long as the standard deviation along it, for values 0..1.
    erase: probability that a random rectangle becomes the mean of the training images (Zhong et al. 2020: 0.5). Where
    the paper draws height / width anew until the rectangle fits, it is drawn from what fits.
    mixup, cutmix: see Mix, which comes last and is called by itself, as it asks for the labels too.
    """

    @validate_call(config=ConfigDict(strict=True))
    def __init__(
        self,
        *,
        mirror: bool,
        crop: Annotated[float, Field(ge=0.1, le=1)],
        translate: Annotated[float, Field(ge=0, lt=1)],
        color: Annotated[float, Field(ge=0, allow_inf_nan=False)],
        color_axes: list[list[float]],
        erase: Annotated[float, Field(ge=0, le=1)],
        mixup: Annotated[float, Field(ge=0, allow_inf_nan=False)],
        cutmix: Annotated[float, Field(ge=0, allow_inf_nan=False)],
    ) -> None:
        if not color_axes or len({len(axis) for axis in color_axes}) > 1:
            raise UserError(f"data.augment.color_axes={color_axes}: should be axes with a number for each channel")
        self.mirror = mirror
        self.crop = crop
        self.translate = translate
        self.color = color
        self.color_axes = torch.tensor(color_axes)  # (axes, C)
        self.erase = erase
        self.mix = Mix(mixup=mixup, cutmix=cutmix)

    @property
    def draws(self) -> int:
        """Uniform numbers that it takes for each image, those of `mix` behind its own."""
        pairs = (self.crop < 1) + (self.translate > 0)
        own = self.mirror + 2 * pairs + len(self.color_axes) * (self.color > 0) + 5 * (self.erase > 0)
        return own + self.mix.draws

    def enlarged(self, image_size: int) -> int:
        """The px that an image is enlarged to, so that a crop of it has `image_size`."""
        return round(image_size / self.crop)

    def __call__(self, images: Tensor, draws: Tensor, pixels: Preprocess) -> Tensor:
        """Change images uint8 (B, ..., H, W) by draws (B, D) in [0, 1), normalise and enlarge them by `pixels`.

        Without draws they are normalised and enlarged only. -> float (B, C, S, S). `pixels` enlarges to `enlarged()`.
        """
        if not draws.shape[1]:
            out: Tensor = pixels(images)
            return out
        chances = iter(draws.float().unbind(1))  # each switch takes its columns (B,)
        if self.mirror:  # of the small image, which is exact and costs less than choosing a matrix for each
            turned = (next(chances) < 0.5).reshape(-1, *[1] * (images.ndim - 1))
            images = torch.where(turned, images.flip(-1), images)
        out = pixels(
            images,
            corners=self._corners(chances, pixels.image_size, pixels.enlarged - pixels.image_size),
            color=self._color(chances) if self.color else None,
        )
        return self._erase(out, chances) if self.erase else out

    def _corners(self, chances: Iterator[Tensor], size: int, margin: int) -> Tensor | None:
        """Top and left px of what is seen of each enlarged image: (B, 2), or None where all is seen."""
        furthest = round(self.translate * size)
        corners = []
        if self.crop < 1:
            corners.append(torch.stack([whole(next(chances), margin) for _ in range(2)], 1))
        if self.translate:
            corners.append(torch.stack([whole(next(chances), 2 * furthest) for _ in range(2)], 1) - furthest)
        return torch.stack(corners).sum(0) if corners else None

    def _color(self, chances: Iterator[Tensor]) -> Tensor:
        """What is added to the colours of each image: (B, C)."""
        smallest = 2.0**-25  # half of the least step between draws: 0 would be infinitely far from the mean
        normal = [torch.special.ndtri(next(chances).clamp(smallest, 1 - 2 * smallest)) for _ in self.color_axes]
        axes = self.color_axes.to(normal[0].device, non_blocking=True)
        return torch.stack([self.color * number for number in normal], 1) @ axes  # (B, axes) @ (axes, C)

    def _erase(self, images: Tensor, chances: Iterator[Tensor]) -> Tensor:
        """Put the mean, which is 0 once normalised, into a rectangle of some of the images, in place."""
        size = images.shape[-1]
        taken = next(chances) < self.erase
        area = ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * next(chances)
        least, most = area.clamp(min=ERASED_ASPECT[0]), (1 / area).clamp(max=ERASED_ASPECT[1])
        aspect = least + (most - least) * next(chances)
        heights, widths = (
            (side * size).round().clamp(max=size) for side in ((area * aspect).sqrt(), (area / aspect).sqrt())
        )
        rows, columns = ((whole(next(chances), size - length), length) for length in (heights, widths))
        box = inside((rows[0], rows[0] + rows[1]), (columns[0], columns[0] + columns[1]), size)
        return images.masked_fill_((box & taken[:, None, None])[:, None], 0)
