"""What a net makes of one picture: how it sees it, what its first layer answers, and which class it takes it for."""

from io import BytesIO
from typing import NamedTuple

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from alexnet_lit.tools.predict.guess import Guesser

_COLUMNS, _WIDTH, _GAP = 16, 960, 2  # of the first layer's maps in a row at most; px of all, and between them
_WEAK, _HALF, _STRONG = "#eef2f5", "#56b4e9", "#00344f"
_MIDDLE = 100  # of 0..255: the value that gets the colour in the middle; most are weak


class Sight(NamedTuple):
    """probabilities: of all classes, by name. done: to the picture, in words. seen: "L" or "RGB".

    maps: see `grid`; None where the net has no convolution.
    """

    probabilities: dict[str, float]
    done: str
    seen: Image.Image
    maps: Image.Image | None


def look(guesser: Guesser, source: str | BytesIO) -> Sight:
    """The picture in a file, or in memory, through the eyes of the net. Raises: alexnet_lit.data.picture.Broken."""
    picture = guesser.read(source)
    net = guesser.module.net
    first = first_convolution(net)
    images, maps = list[Tensor](), list[Tensor]()  # copies, as what comes next may be in place
    hooks = [net.register_forward_pre_hook(lambda _, given: images.append(given[0][0].clone()))]
    if first is not None:
        hooks.append(first.register_forward_hook(lambda _, __, given: maps.append(given[0].clone())))
    try:
        probabilities = guesser.probabilities([picture])[0]
    finally:
        for hook in hooks:
            hook.remove()
    ranked = guesser.ranked(probabilities, len(probabilities))
    page = grid(_activated(guesser, maps[0])) if maps else None
    return Sight(dict(ranked), picture.done, _seen(guesser, images[0]), page)


def first_convolution(net: nn.Module) -> nn.Conv2d | None:
    """The first layer, where the net has one whose answers are maps."""
    return next((layer for layer in net.modules() if isinstance(layer, nn.Conv2d)), None)


def grid(maps: Tensor) -> Image.Image:
    """Maps (N, H, W) side by side, 16 in a row at most, 960 px all together: the stronger, the darker.

    They share one scale, from the least value of all to the greatest.
    """
    columns = min(_COLUMNS, len(maps))
    cell = _WIDTH // columns
    low, high = maps.aminmax()
    values = (255 * (maps - low) / (high - low).clamp(min=1e-12)).round().byte().cpu()
    page = Image.new("RGB", (columns * cell - _GAP, -(-len(maps) // columns) * cell - _GAP), "white")
    for number, one in enumerate(values):
        grey = Image.fromarray(one.numpy()).resize((cell - _GAP, cell - _GAP), Image.Resampling.BICUBIC)
        tinted = ImageOps.colorize(grey, _WEAK, _STRONG, _HALF, midpoint=_MIDDLE)
        page.paste(tinted, (number % columns * cell, number // columns * cell))
    return page


def _seen(guesser: Guesser, image: Tensor) -> Image.Image:
    """What goes into the net (C, S, S) as a picture: enlarged and cut to size, its normalising taken back."""
    pixels = guesser.module.pixels
    mean, std = (torch.as_tensor(value, device=image.device).view(-1, 1, 1) for value in (pixels.mean, pixels.std))
    values = (255 * (image * std + mean)).round().clamp(0, 255).byte().cpu()
    return Image.fromarray(values[0].numpy() if len(values) == 1 else values.permute(1, 2, 0).contiguous().numpy())


def _activated(guesser: Guesser, answers: Tensor) -> Tensor:
    """The first convolution's output (N, H, W) after the activation of the run, if the net's config names one."""
    known = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
    activation = known.get(guesser.module.hparams["config"]["model"].get("activation"))
    return answers.float() if activation is None else activation(answers.float())
