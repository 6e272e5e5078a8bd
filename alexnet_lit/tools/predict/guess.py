"""What a net makes of many pictures: a checkpoint and files in, names of classes with probabilities out."""

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from alexnet_lit.checkpoint import read_checkpoint, restore
from alexnet_lit.data import FashionMNIST, ImageData, Sample
from alexnet_lit.data.picture import Broken, pixels
from alexnet_lit.distributed.devices import cores, pick
from alexnet_lit.errors import UserError
from alexnet_lit.tools.predict.picture import Picture, clothes, square
from alexnet_lit.tools.predict.sources import STDIN


class Guess(NamedTuple):
    """What a picture shows: the likeliest classes with their probabilities, and what was done to the picture."""

    file: str
    classes: list[tuple[str, float]]
    picture: str


class Failure(NamedTuple):
    """A picture that can't be read, and why."""

    file: str
    reason: str


class Guesser:
    """The net of a checkpoint, and how a picture becomes one of those that it was trained on.

    read: a file or its content -> the picture; raises Broken. background, device: as of `predict`.
    Raises: UserError before a picture is read.
    """

    def __init__(self, ckpt: Path, *, background: str, device: str) -> None:
        kind = pick(device)
        warnings.filterwarnings("ignore", module="PIL")  # of what is odd in a file that can be read all the same
        self.module, self.data = restore(read_checkpoint(ckpt), {}, compiled=False)
        self.module.to(kind)
        self.read = _preparation(self.data, background)

    def probabilities(self, pictures: Sequence[Picture]) -> Tensor:
        """Of each class for each picture: (B, classes), on the CPU."""
        images = [_pixels(picture.image) for picture in pictures]
        return self.module.predict(torch.stack(images)).cpu() if images else torch.empty(0)

    def ranked(self, probabilities: Tensor, top: int) -> list[tuple[str, float]]:
        """The likeliest `top` classes by name, from the probabilities (classes,) of one picture."""
        best = probabilities.topk(min(top, len(self.data.classes)))
        return [
            (self.data.classes[index], value)
            for index, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]


def guesses(ckpt: Path, sources: Sequence[str], *, top: int, background: str, device: str) -> Iterator[Guess | Failure]:
    """What the net of the checkpoint file `ckpt` says of each source, in their order, a batch at a time.

    top: so many classes of each. Raises: UserError before a picture is read.
    """
    guesser = Guesser(ckpt, background=background, device=device)
    read = partial(_read, prepare=guesser.read)
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(sources), guesser.data.batch_size):
            part = sources[start : start + guesser.data.batch_size]
            results = list(pool.map(read, part))
            pictures = [result for result in results if isinstance(result, Picture)]
            probabilities = iter(guesser.probabilities(pictures))
            for name, result in zip(part, results, strict=True):
                if isinstance(result, Broken):
                    yield Failure(name, str(result))
                else:
                    yield Guess(name, guesser.ranked(next(probabilities), top), result.done)


def _preparation(data: ImageData, background: str) -> Callable[[str | BytesIO], Picture]:
    """How a picture becomes one like those that the net was trained on."""
    if isinstance(data, FashionMNIST | Sample):
        return partial(clothes, size=data.source_size, background=background)
    if background != "auto":
        raise UserError(f"--background={background}: this net was trained on pictures as they are: leave it out")
    return partial(square, size=data.source_size, channels=data.channels)


def _read(name: str, *, prepare: Callable[[str | BytesIO], Picture]) -> Picture | Broken:
    """A thread's part of the work."""
    try:
        return prepare(BytesIO(sys.stdin.buffer.read()) if name == STDIN else name)
    except Broken as reason:
        return reason


def _pixels(image: Image.Image) -> Tensor:
    """As what `Classifier.predict` takes: uint8 (C, H, W)."""
    return torch.frombuffer(bytearray(pixels(image)), dtype=torch.uint8).view(-1, image.height, image.width)
