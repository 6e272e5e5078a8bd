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
from torch import Tensor

from alexnet_lit.data import FashionMNIST, ImageData, Sample
from alexnet_lit.distributed.devices import cores, pick
from alexnet_lit.errors import Mistake
from alexnet_lit.factory import read_checkpoint
from alexnet_lit.predict.picture import Decoded, Picture, Unreadable, clothes, decode, square
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
    prepare, least = _preparation(data, background)
    mode, behind = "RGB" if data.channels == 3 else "L", "black" if background == "black" else "white"
    read = partial(_read, prepare=prepare, mode=mode, least=least, behind=behind)
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(sources), data.batch_size):
            part = sources[start : start + data.batch_size]
            results = list(pool.map(read, part))
            pictures = [result for result in results if isinstance(result, Picture)]
            images = [_pixels(picture) for picture in pictures]
            probabilities = iter(module.predict(torch.stack(images)).cpu() if images else torch.empty(0))
            for name, result in zip(part, results, strict=True):
                if isinstance(result, Unreadable):
                    yield Failure(name, str(result))
                else:
                    best = next(probabilities).topk(min(top, len(data.classes)))
                    ranked = zip(best.indices.tolist(), best.values.tolist(), strict=True)
                    yield Guess(name, [(data.classes[index], value) for index, value in ranked], result.done)


def _preparation(data: ImageData, background: str) -> tuple[Callable[[Decoded], Picture], int]:
    """How a picture becomes one like those that the net was trained on, and how many px of it that takes."""
    size = data.source_size
    if isinstance(data, FashionMNIST | Sample):
        return partial(clothes, size=size, background=background), 16 * size  # of which trimming leaves a part
    if background != "auto":
        raise Mistake(f"--background={background}: this net was trained on pictures as they are: leave it out")
    return partial(square, size=size), 2 * size


def _read(
    name: str, *, prepare: Callable[[Decoded], Picture], mode: str, least: int, behind: str
) -> Picture | Unreadable:
    """A thread's part of the work."""
    try:
        source = BytesIO(sys.stdin.buffer.read()) if name == STDIN else name
        return prepare(decode(source, mode=mode, least=least, behind=behind))
    except Unreadable as reason:
        return reason


def _pixels(picture: Picture) -> Tensor:
    """As what `Classifier.predict` takes: uint8 (H, W) of a grey picture, (3, H, W) of RGB."""
    image = picture.image
    planes = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width, -1)
    return planes.movedim(-1, 0) if image.mode == "RGB" else planes[..., 0]
