"""`python -m alexnet_lit predict`: pictures in files, in folders or on stdin in, probabilities of classes out."""

import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pandas as pd
import torch
from PIL import Image, ImageOps, ImageStat
from rich import box
from rich.table import Table
from rich.text import Text
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from alexnet_lit.callbacks.progress import TASK, counter
from alexnet_lit.checkpoint import read_checkpoint
from alexnet_lit.data import FashionMNIST, Sample
from alexnet_lit.data.picture import KINDS, SUFFIXES, Broken, Decoded, centre, decode
from alexnet_lit.distributed.devices import cores, device_type
from alexnet_lit.errors import UserError
from alexnet_lit.prepare import restore
from alexnet_lit.terminal import plain_text

_DIGITS = 6  # decimals of a probability in JSON and CSV
_TOLERANCE = 0.05 * 255  # "within 5% of the maximum possible intensity" (Xiao et al. 2017, section 2)
_CORNER = 28  # a corner is this part of a side


class Picture(NamedTuple):
    """A picture as the net gets it, "L" or "RGB", and what was done to it, in words."""

    image: Image.Image
    steps: str


class Predictor:
    """The net of a checkpoint, and the preparation that turns any picture into one like its training images.

    device: as of the command `predict`. Raises: UserError.
    """

    def __init__(self, ckpt: Path, *, device: str) -> None:
        kind = device_type(device)
        warnings.filterwarnings("ignore", module="PIL")  # remarks on files that it can read
        self.module, self.data = restore(read_checkpoint(ckpt), {})
        self.module.to(kind)

    def read(self, source: str | BytesIO) -> Picture:
        """Decode and prepare a picture. Raises: Broken."""
        size = self.data.source_size
        if isinstance(self.data, FashionMNIST | Sample):
            return like_fashion_mnist(source, size=size)
        return square(source, size=size, channels=self.data.channels)

    def probabilities(self, pictures: Sequence[Picture]) -> Tensor:
        """(B, classes) of B >= 1 pictures, on the CPU."""
        return self.module.predict(torch.stack([pil_to_tensor(image) for image, _ in pictures])).cpu()

    def ranked(self, probabilities: Tensor, top: int) -> list[tuple[str, float]]:
        """The names of the likeliest `top` classes, from the probabilities (classes,) of one picture."""
        values, indices = probabilities.topk(min(top, len(probabilities)))
        return [(self.data.classes[n], value) for n, value in zip(indices.tolist(), values.tolist(), strict=True)]

    def predict(self, files: Sequence[str], *, top: int) -> Iterator[dict[str, Any] | str]:
        """The `top` classes of each file in order, as in JSON, a batch at a time; why one can't be decoded."""
        size = self.data.batch_size
        with ThreadPoolExecutor(cores()) as pool:
            for batch in (files[start : start + size] for start in range(0, len(files), size)):
                results = list(pool.map(self._try_read, batch))
                pictures = [result for result in results if isinstance(result, Picture)]
                rows = iter(self.probabilities(pictures) if pictures else ())
                for file, result in zip(batch, results, strict=True):
                    if isinstance(result, str):
                        yield f"{file}: not a picture that can be read ({result}): left out"
                        continue
                    ranked = self.ranked(next(rows), top)
                    classes = [{"class": name, "probability": round(value, _DIGITS)} for name, value in ranked]
                    yield {"file": file, "classes": classes, "picture": result.steps}

    def _try_read(self, file: str) -> Picture | str:
        """The picture, or why it can't be decoded."""
        try:
            return self.read(BytesIO(sys.stdin.buffer.read()) if file == "-" else file)
        except Broken as reason:
            return str(reason)


def like_fashion_mnist(source: str | BytesIO, *, size: int) -> Picture:
    """A grey picture made like those of Fashion-MNIST: light on black, the longest edge `size` px, centred.

    Trims edges close to the background, which the corners tell, shrinks the longest edge to `size`, negates what has a
    light background, and pads the shortest edge with the background (Xiao et al. 2017, section 2; there edges are
    shrunk by leaving out rows and columns, here by means over areas, and nothing is sharpened). One of `size` x `size`
    is at most negated. Raises: Broken.
    """
    decoded = decode(source, channels=1, least=16 * size)  # trimming leaves a part of it
    image, steps = decoded.image, list[str]()
    level = _corner_level(image)
    if image.size != (size, size):
        box = image.point([255 * (abs(value - level) > _TOLERANCE) for value in range(256)]).getbbox()
        if box is not None and box != (0, 0, *image.size):
            image = image.crop(box)
            scale = decoded.width / decoded.image.width  # a large JPEG is decoded smaller than the file has it
            steps.append("trimmed to {}x{}".format(*(round(side * scale) for side in image.size)))
        longest = max(image.size)
        if longest != size:
            width, height = (max(1, round(side * size / longest)) for side in image.size)
            image = image.resize((width, height), Image.Resampling.BOX if longest > size else Image.Resampling.BILINEAR)
            steps.append(f"{'shrunk' if longest > size else 'enlarged'} to {width}x{height}")
    if level > 127:
        image, level = ImageOps.invert(image), 255 - level
        steps.append("inverted")
    if image.size != (size, size):
        canvas = Image.new("L", (size, size), round(level))
        canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
        image = canvas
        steps.append("padded")
    return _described(decoded, image, steps)


def square(source: str | BytesIO, *, size: int, channels: int) -> Picture:
    """The square in the centre of a picture, the very pixels that `ImageFolder` keeps of it. Raises: Broken."""
    image, decoded = centre(source, size=size, channels=channels)
    side, steps = min(decoded.width, decoded.height), list[str]()
    if decoded.width != decoded.height:
        steps.append(f"centre {side}x{side}")
    if min(decoded.image.size) != size:
        steps.append(f"{'shrunk' if min(decoded.image.size) > size else 'enlarged'} to {size}x{size}")
    return _described(decoded, image, steps)


def _corner_level(image: Image.Image) -> float:
    """The background of a grey picture, 0..255: the median of its four corners, one of which may be covered."""
    width, height = (max(1, side // _CORNER) for side in image.size)
    corners = [(left, top) for left in (0, image.width - width) for top in (0, image.height - height)]
    boxes = [(left, top, left + width, top + height) for left, top in corners]
    return median(ImageStat.Stat(image.crop(box)).mean[0] for box in boxes)


def _described(decoded: Decoded, image: Image.Image, steps: list[str]) -> Picture:
    return Picture(image, f"{decoded.width}x{decoded.height}, {', '.join(steps or ['as it is'])}")


def predict(ckpt: Path, typed: Sequence[str], *, top: int, device: str, as_json: bool, as_csv: bool) -> int:
    """Print the classes of the pictures `typed` as a table, in JSON or in CSV.

    A picture that can't be read is named on stderr and left out. Returns the exit status: 1 if there was one, else 0.
    Raises: UserError before a picture is read.
    """
    if as_json and as_csv:
        raise UserError("--json --csv: one or the other")
    files = [file for name in typed for file in _files(name)]
    predictor = Predictor(ckpt, device=device)
    predictions = []
    with counter("pictures", len(files)) as bar:
        for result in predictor.predict(files, top=top):
            bar.advance(TASK)
            if isinstance(result, str):
                print(result, file=sys.stderr)
            else:
                predictions.append(result)
    if as_json:
        print(json.dumps(predictions, indent=2))
    elif predictions:
        (_print_csv if as_csv else _print_table)(predictions)
    return 1 if len(predictions) < len(files) else 0


def _files(name: str) -> list[str]:
    """A file or "-" itself; of a folder all pictures below it by name, hidden ones left out.

    Raises: UserError for what is not there, or a folder without pictures.
    """
    if name == "-":
        if sys.stdin is None:
            raise UserError("-: stdin is closed: pipe a picture into it")
        return [name]
    path = Path(name).expanduser()
    if not os.path.exists(path):
        raise UserError(f"{name}: there is no such file or folder: name pictures, a folder of them, or - for stdin")
    if not os.path.isdir(path):
        return [str(path)]
    pictures = [file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES]
    shown = [file for file in pictures if not any(part[0] == "." for part in file.relative_to(path).parts)]
    if not shown:
        raise UserError(f"{name}: there is no picture in it ({KINDS}): name another folder, or files one by one")
    return sorted(map(str, shown))


def _print_table(predictions: Sequence[dict[str, Any]]) -> None:
    """As wide as it is, so that names stay in one piece."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("picture", *(f"{n}." for n, _ in enumerate(predictions[0]["classes"], 1)), "preprocessing"):
        table.add_column(title, no_wrap=True)
    for each in predictions:
        cells = [f"{one['class']} {100 * one['probability']:.1f}%" for one in each["classes"]]
        table.add_row(*map(Text, (each["file"], *cells, each["picture"])))
    print(plain_text(table))


def _print_csv(predictions: Sequence[dict[str, Any]]) -> None:
    """file, class_1, probability_1, class_2, ..., picture."""
    rows = []
    for each in predictions:
        row = {"file": each["file"]}
        for rank, one in enumerate(each["classes"], start=1):
            row |= {f"class_{rank}": one["class"], f"probability_{rank}": f"{one['probability']:.{_DIGITS}f}"}
        rows.append({**row, "picture": each["picture"]})
    print(pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"), end="")
