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

from alexnet_lit.data import FashionMNIST, ImageData, Sample
from alexnet_lit.data.picture import Broken, pixels
from alexnet_lit.distributed.devices import cores, pick
from alexnet_lit.errors import Mistake
from alexnet_lit.factory import read_checkpoint
from alexnet_lit.predict.picture import Picture, clothes, square
from alexnet_lit.predict.sources import STDIN
from alexnet_lit.saved import restore


class Guess(NamedTuple):
    """What a picture shows: the likeliest classes with their probabilities, and what was done to the picture."""

    file: str
    classes: list[tuple[str, float]]
    picture: str


class Failure(NamedTuple):
    """A picture that can't be read, and why."""

    file: str
    reason: str


def guesses(ckpt: Path, sources: Sequence[str], *, top: int, background: str, device: str) -> Iterator[Guess | Failure]:
    """What the net of the checkpoint file `ckpt` says of each source, in their order, a batch at a time.

    top: so many classes of each. Raises: Mistake before a picture is read.
    """
    kind = pick(device)
    warnings.filterwarnings("ignore", module="PIL")  # of what is odd in a file that can be read all the same
    module, data = restore(read_checkpoint(ckpt), {}, compiled=False)
    module.to(kind)
    read = partial(_read, prepare=_preparation(data, background))
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(sources), data.batch_size):
            part = sources[start : start + data.batch_size]
            results = list(pool.map(read, part))
            pictures = [result for result in results if isinstance(result, Picture)]
            images = [_pixels(picture.image) for picture in pictures]
            probabilities = iter(module.predict(torch.stack(images)).cpu() if images else torch.empty(0))
            for name, result in zip(part, results, strict=True):
                if isinstance(result, Broken):
                    yield Failure(name, str(result))
                else:
                    best = next(probabilities).topk(min(top, len(data.classes)))
                    ranked = zip(best.indices.tolist(), best.values.tolist(), strict=True)
                    yield Guess(name, [(data.classes[index], value) for index, value in ranked], result.done)


def _preparation(data: ImageData, background: str) -> Callable[[str | BytesIO], Picture]:
    """How a picture becomes one like those that the net was trained on."""
    if isinstance(data, FashionMNIST | Sample):
        return partial(clothes, size=data.source_size, background=background)
    if background != "auto":
        raise Mistake(f"--background={background}: this net was trained on pictures as they are: leave it out")
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
