"""Small pictures for tests: clothes of the sample, plain or in colour, each class in a tint and a folder of its own."""

from io import BytesIO
from pathlib import Path

from PIL import Image

import alexnet_lit
from alexnet_lit.data import ImageData, ImageFolder
from alexnet_lit.data.fashion_mnist import load_sample

CLASSES = {"bag": 8, "boot": 9, "shirt": 6}  # folder -> label in Fashion-MNIST
TINY = ("data=image_folder", "data.cache_size=32", "model=lenet", "data.image_size=28")


def picture(name: str, number: int, *, size: int = 40) -> Image.Image:
    """The class's picture of that number: grey clothes on a background whose colour they invert."""
    images, labels = load_sample()["train"]
    index = (labels == CLASSES[name]).nonzero().flatten()[number]
    grey = Image.fromarray(images[index].numpy()).resize((size + number % 5, size))
    return Image.merge("RGB", (grey, grey.point(lambda value: value // 2), grey.point(lambda value: 255 - value)))


def encoded(image: Image.Image, form: str = "PNG") -> BytesIO:
    """A picture as a file in memory."""
    image.save(file := BytesIO(), form)
    return file


def fill(root: Path, *, train: int = 4, val: int = 0, test: int = 0) -> Path:
    """Write so many pictures of each class into train/, val/ and test/, every second one as JPEG; 0 leaves one out."""
    start = 0
    for part, count in (("train", train), ("val", val), ("test", test)):
        for name in CLASSES if count else ():
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for number in range(start, start + count):
                picture(name, number).save(root / part / name / f"{number:03}.{('png', 'jpg')[number % 2]}")
        start += count
    return root


def build(root: Path, *overrides: str) -> ImageFolder:
    """The data of a run on these pictures, for a tiny net; nothing is decoded yet."""
    _, data = alexnet_lit.build(alexnet_lit.compose(*TINY, f"data.dir={root}", *overrides))
    assert isinstance(data, ImageFolder)
    return data


def ready(root: Path, *overrides: str) -> ImageFolder:
    """The same, decoded and split."""
    data = build(root, *overrides)
    data.prepare_data()
    data.setup("fit")
    return data


def data(*overrides: str) -> ImageData:
    """The embedded sample at 32 px, ready for a fit."""
    _, data = alexnet_lit.build(alexnet_lit.compose("data=sample", "model=lenet", "data.image_size=32", *overrides))
    data.setup("fit")
    return data
