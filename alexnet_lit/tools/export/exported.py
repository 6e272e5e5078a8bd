"""What is exported: pictures in, probabilities out; and the check that a file gives the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet_lit import __version__
from alexnet_lit.checkpoint import read_checkpoint, restore
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.lit import Classifier

INPUT, OUTPUT = "images", "probabilities"
BATCH = "batch"  # the name of the dimension that is free
_CHECKED = 8  # images that a file is tried with
_TOLERANCE = 1e-4  # of a probability

Reader = Callable[[Tensor], Tensor]


class Whole(nn.Module):
    """`Classifier.predict` as a module.

    Shape: uint8 images (B, H, W) or (B, 3, H, W) -> probabilities (B, classes) float32.
    """

    def __init__(self, module: Classifier) -> None:
        super().__init__()
        self.pixels = module.pixels
        self.net = module.net

    def forward(self, images: Tensor) -> Tensor:
        """Normalise, enlarge, classify."""
        logits: Tensor = self.net(self.pixels(images))
        return logits.float().softmax(1)


class Exported(NamedTuple):
    """The module, images that fit it (8, ...), what it makes of them, and what the file is to know about itself."""

    module: Whole
    images: Tensor
    expected: Tensor
    metadata: dict[str, str]


def load_exported(ckpt: Path, *, size: int | None) -> Exported:
    """The net of a checkpoint file, for pictures of `size` px; None is as the data has them."""
    checkpoint = read_checkpoint(ckpt)
    module, data = restore(checkpoint, {}, compiled=False)
    images = _images(data.channels, size or data.source_size)
    metadata = {
        "classes": json.dumps(data.classes, ensure_ascii=False),
        "config": json.dumps(checkpoint["hyper_parameters"]["config"]),
        "alexnet_lit": __version__,
        "torch": torch.__version__,
    }
    # Asked before it is exported: `pixels` makes a matrix for a size when it first sees it.
    return Exported(Whole(module).eval(), images, module.predict(images), metadata)


def check(exported: Exported, read: Reader) -> float:
    """The largest difference between the file's probabilities and torch's, for several images and for one.

    Raises: RuntimeError if it is more than rounding.
    """
    difference = 0.0
    for part in (slice(0, _CHECKED), slice(0, 1)):
        difference = max(difference, (read(exported.images[part]) - exported.expected[part]).abs().max().item())
    if not difference <= _TOLERANCE:
        raise RuntimeError(f"the exported net differs from torch's by {difference:.1e} in a probability")
    return difference


def describe(exported: Exported, path: Path, difference: float, example: str) -> str:
    """What a person needs to know to use the file."""
    shape = ", ".join(str(side) for side in exported.images.shape[1:])
    kind = "grey" if exported.images.ndim == 3 else "RGB"
    lines = [
        f"wrote  {path}  {path.stat().st_size / 1e6:,.1f} MB",
        f"takes  {INPUT}: uint8 (B, {shape}), {kind}, light and dark as in the training images",
        f"gives  {OUTPUT}: float32 (B, {exported.expected.shape[1]})",
        f"check  differs from torch by {difference:.1e} at most, on {_CHECKED} real images",
        "run it, without alexnet_lit:",
        "",
        example.format(path=str(path), shape=shape),
    ]
    return "\n".join(lines)


def _images(channels: int, size: int) -> Tensor:
    """Real images: uint8 (8, size, size) or (8, 3, size, size)."""
    images = load_sample().test.images[:_CHECKED]
    images = F.interpolate(images[:, None].float(), size=size, mode="bilinear").round().to(torch.uint8)
    return images[:, 0] if channels == 1 else images.repeat(1, channels, 1, 1)
