"""From figures and images to pictures of an event file."""

import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined] # made at import time
from torch import Tensor, nn
from torch.utils.tensorboard.summary import image

from alexnet_lit.callbacks.fonts import fonts


def summary(tag: str, picture: Tensor | Figure) -> Summary:
    """The picture, uint8 (H, W, 3) or a figure, as what an event file has of it: a PNG."""
    pixels = rendered(picture) if isinstance(picture, Figure) else picture
    return image(tag, pixels.numpy(), dataformats="HWC")


@fonts()
def rendered(figure: Figure) -> Tensor:
    """The figure drawn: uint8 (H, W, 3)."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()  # type: ignore[no-untyped-call] # matplotlib types its backends in part
    width, height = canvas.get_width_height()
    drawn = canvas.buffer_rgba()  # type: ignore[no-untyped-call] # as above
    return torch.frombuffer(drawn, dtype=torch.uint8).view(height, width, 4)[..., :3].clone()


def shown(images: Tensor, pixels: nn.Module, side: int) -> Tensor:
    """Images as the net sees them (N, C, S, S), made visible: uint8 (N, s, s, 3) on the CPU, s at most `side` px.

    pixels: what normalised them, of which `mean` and `std` are of values 0..1.
    """
    mean, std = (torch.as_tensor(value, device=images.device).view(-1, 1, 1) for value in (pixels.mean, pixels.std))
    values = images.detach().float() * std + mean
    if values.shape[-1] > side:
        values = F.interpolate(values, size=(side, side), mode="area")
    return coloured((255 * values.clamp(0, 1)).round().byte().cpu())


def coloured(images: Tensor) -> Tensor:
    """Images (N, C, h, w), on a CPU, with their channels last, three of them: of grey ones and of others the mean."""
    if images.shape[1] != 3:
        images = images.float().mean(1, keepdim=True).to(images.dtype)
    return images.permute(0, 2, 3, 1).expand(-1, -1, -1, 3)  # (N, C, h, w) -> (N, h, w, 3)


def tiles(images: Tensor, columns: int, gap: int) -> Tensor:
    """Images uint8 (N, h, w, 3) in rows of `columns`, white between them: (H, W, 3)."""
    rows = -(-len(images) // columns)
    height, width = (side + gap for side in images.shape[1:3])
    sheet = torch.full((rows * height + gap, columns * width + gap, 3), 255, dtype=torch.uint8)
    for n, one in enumerate(images):
        top, left = n // columns * height + gap, n % columns * width + gap
        sheet[top : top + height - gap, left : left + width - gap] = one
    return sheet


def scaled(values: Tensor) -> Tensor:
    """Each of the images (N, ...) from its least value to its greatest as 0..255: uint8. What is flat is grey."""
    flat = values.flatten(1).float()
    least, most = flat.aminmax(dim=1, keepdim=True)
    span = most - least
    return torch.where(span > 0, 255 * (flat - least) / span.clamp(min=1e-12), 128).round().byte().view(values.shape)


def enlarged(images: Tensor, least: int) -> Tensor:
    """Images (N, C, h, w) with each pixel repeated, so often that a side has about `least` px."""
    times = max(1, round(least / images.shape[-1]))
    return images.repeat_interleave(times, 2).repeat_interleave(times, 3)
