"""Augmentation of training images (Augment; MixUp and CutMix in Mix), and test-time augmentation."""

import math
from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field, validate_call
from torch import Tensor
from torchvision.transforms.functional import five_crop

from alexnet_lit.data.loader import Batch
from alexnet_lit.data.transforms import Preprocess
from alexnet_lit.errors import UserError

# Zhong et al. 2020, "Random erasing data augmentation", section 4: share of the image's area, and height / width.
ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = (0.3, 1 / 0.3)

Averaging = Literal["none", "mirror", "ten_crop"]


class Augment:
    """Random changes of a batch of training images on the device, in the order of the arguments.

    They follow from the image's random values alone, which are a function of (seed, epoch, image).

    mirror: flip left to right with probability 1/2 (Krizhevsky et al. 2012, section 4.1).
    crop: side of a random crop as a share of the enlarged image; 1 keeps the whole. 0.875 is the paper's 224 of 256 px.
    translate: shift by up to this share of image_size in each direction, by whole px, black coming in.
    color: standard deviation of the normal factors of color_axes, whose weighted sum is added to all pixels (PCA colour
    augmentation, section 4.1: 0.1); 0 is off. color_axes: principal axes of the training images' colours (axes, C),
    each as long as the standard deviation along it (in the paper: the variance), for values 0..1.
    erase: probability that a random rectangle becomes the mean of the training images (Zhong et al. 2020: 0.5). Where
    the paper draws height / width anew until the rectangle fits, it is drawn from what fits.
    mixup, cutmix: see Mix, which is called by itself, as it needs the labels too.
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
        self.mirror, self.crop, self.translate, self.color, self.erase = mirror, crop, translate, color, erase
        self.color_axes = torch.tensor(color_axes)  # (axes, C)
        self.mix = Mix(mixup=mixup, cutmix=cutmix)
        own = mirror + 2 * ((crop < 1) + (translate > 0)) + len(color_axes) * (color > 0) + 5 * (erase > 0)
        self.num_random_values = own + self.mix.num_random_values  # uniform ones for each image, those of `mix` last

    def __call__(self, images: Tensor, random_values: Tensor, pixels: Preprocess) -> Tensor:
        """Change images uint8 (B, ..., H, W) by random_values (B, D) in [0, 1), normalise and resize them by `pixels`.

        With D = 0 they are normalised and resized only. -> float (B, C, S, S). `pixels` enlarges by 1 / crop.
        """
        if not random_values.shape[1]:
            return pixels(images)
        values = iter(random_values.float().unbind(1))  # each switch takes its columns (B,)
        if self.mirror:  # flip the small image: exact, and cheaper than a resize matrix per image
            flipped = (next(values) < 0.5).reshape(-1, *[1] * (images.ndim - 1))
            images = torch.where(flipped, images.flip(-1), images)
        out = pixels(
            images,
            corners=self._corners(values, pixels.image_size, pixels.enlarged - pixels.image_size),
            color=self._color(values) if self.color else None,
        )
        return self._erase(out, values) if self.erase else out

    def _corners(self, values: Iterator[Tensor], size: int, margin: int) -> Tensor | None:
        """Top and left px of the window of each enlarged image: (B, 2), or None where all is seen."""
        furthest = round(self.translate * size)
        corners = []
        if self.crop < 1:
            corners.append(torch.stack([_integers(next(values), margin) for _ in range(2)], 1))
        if self.translate:
            corners.append(torch.stack([_integers(next(values), 2 * furthest) for _ in range(2)], 1) - furthest)
        return torch.stack(corners).sum(0) if corners else None

    def _color(self, values: Iterator[Tensor]) -> Tensor:
        """What is added to the colours of each image: (B, C)."""
        smallest = 2.0**-25  # half of the least step between values: 0 would be infinitely far from the mean
        uniform = torch.stack([next(values) for _ in self.color_axes], 1).clamp(smallest, 1 - 2 * smallest)
        on = "cpu" if uniform.device.type == "mps" else uniform.device  # MPS has no ndtri
        normal: Tensor = torch.special.ndtri(uniform.to(on)).to(uniform.device)
        axes = self.color_axes.to(uniform.device, non_blocking=True)
        return self.color * normal @ axes  # (B, axes) @ (axes, C)

    def _erase(self, images: Tensor, values: Iterator[Tensor]) -> Tensor:
        """Put the mean, which is 0 once normalised, into a rectangle of some of the images, in place."""
        size = images.shape[-1]
        erased = next(values) < self.erase
        area = ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * next(values)
        least, most = area.clamp(min=ERASED_ASPECT[0]), (1 / area).clamp(max=ERASED_ASPECT[1])
        aspect = least + (most - least) * next(values)
        heights, widths = ((px.sqrt() * size).round().clamp(max=size) for px in (area * aspect, area / aspect))
        top, left = (_integers(next(values), size - length) for length in (heights, widths))
        mask = _rectangles((top, top + heights), (left, left + widths), size)
        return images.masked_fill_((mask & erased[:, None, None])[:, None], 0)


class Mix:
    """MixUp, CutMix, or one of them with probability 1/2: puts a share of its neighbour into each image of a batch.

    Images 2i and 2i + 1 of a global batch are a pair, which the loader keeps on one rank (`together`). An odd
    last image stays as it is.

    mixup, cutmix: alpha of the Beta(alpha, alpha) that the share which an image keeps is drawn from; 0 is off. MixUp
    adds the images up by their shares (Zhang et al. 2018, section 2). CutMix puts in a rectangle of the neighbour, cut
    off at the edges; shares are those of the areas (Yun et al. 2019, section 3.1).
    """

    def __init__(self, *, mixup: float, cutmix: float) -> None:
        self.mixup, self.cutmix = mixup, cutmix
        self.betas = tuple(alpha for alpha in (mixup, cutmix) if alpha > 0)  # of the columns behind the uniform ones
        self.num_random_values = 2 * (cutmix > 0) + (len(self.betas) > 1)  # uniform ones
        self.together = 2 if self.betas else 1

    def __call__(self, batch: Batch) -> Batch:
        """Mix images (B, C, S, S), in place, by the last columns of random_values: uniform ones, then `betas`."""
        if not self.betas or not batch.random_values.shape[1]:
            return batch
        images, labels = batch.images, batch.labels
        values = iter(batch.random_values[:, -self.num_random_values - len(self.betas) :].float().unbind(1))
        weights, shares = self._neighbours_part(values, images.shape[-1])
        neighbour = torch.arange(len(labels), device=labels.device).bitwise_xor(1).clamp(max=len(labels) - 1)
        images.lerp_(images[neighbour], weights[:, None].to(images.dtype))
        others = labels[neighbour]
        own_is_larger = shares < 0.5
        return batch._replace(
            labels=torch.where(own_is_larger, labels, others),
            mixed_in=(torch.where(own_is_larger, others, labels), torch.minimum(shares, 1 - shares)),
        )

    def _neighbours_part(self, values: Iterator[Tensor], size: int) -> tuple[Tensor, Tensor]:
        """Weight of the neighbour in each pixel, (B, size, size) or (B, 1, 1), and its share of the image, (B,)."""
        centre = [_integers(next(values), size - 1) for _ in range(2)] if self.cutmix else []
        by_mixup = next(values) < 0.5 if len(self.betas) > 1 else None
        if self.mixup:
            faded = 1 - next(values)
            if by_mixup is None:
                return faded[:, None, None], faded
        half = (0.5 * size * (1 - next(values)).sqrt()).long()
        rows, columns = (((middle - half).clamp(min=0), (middle + half).clamp(max=size)) for middle in centre)
        area = (rows[1] - rows[0]) * (columns[1] - columns[0])
        cut, share = _rectangles(rows, columns, size).float(), area / size**2
        if by_mixup is None:
            return cut, share
        return torch.where(by_mixup[:, None, None], faded[:, None, None], cut), torch.where(by_mixup, faded, share)


def _integers(values: Tensor, most: Tensor | int) -> Tensor:
    """Whole numbers 0..most, each as likely as the others, from values in [0, 1): (B,) int64."""
    return (values * (most + 1)).floor().clamp(max=most).long()


def _rectangles(rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor], size: int) -> Tensor:
    """Masks (B, size, size) of a rectangle in each image. A pair is the first px and the one behind the last."""
    px = torch.arange(size, device=rows[0].device)
    down, across = ((px >= first[:, None]) & (px < end[:, None]) for first, end in (rows, columns))  # (B, size)
    return down[:, :, None] & across[:, None]


class TestTimeAugmentation:
    """Averages a net's probabilities over views of each image.

    tta: "none" is the image alone, "mirror" the image and its mirror image, "ten_crop" the four corners and the centre
    of the whole image, and their mirror images (Krizhevsky et al. 2012, section 4.1).
    """

    def __init__(self, *, tta: Averaging, image_size: int) -> None:
        self.tta, self.image_size = tta, image_size
        self.whole = tta == "ten_crop"  # it takes whole images, not their middle alone
        self.count = {"none": 1, "mirror": 2, "ten_crop": 10}[tta]  # views of an image

    def __call__(self, images: Tensor) -> Iterator[Tensor]:
        """The views (B, C, image_size, image_size) of images (B, C, size, size), one after the other."""
        for view in five_crop(images, [self.image_size]) if self.whole else [images]:
            yield view
            if self.tta != "none":
                yield view.flip(-1)

    def logits(self, net: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, size, size) whose softmax is the mean of the views' probabilities."""
        if self.tta == "none":
            return net(images)
        logs = torch.stack([net(view).float().log_softmax(1) for view in self(images)])  # (views, B, classes)
        return logs.logsumexp(0) - math.log(len(logs))
