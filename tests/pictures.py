"""Small colour pictures for tests: clothes of the sample, each class in a tint and a folder of its own."""

from pathlib import Path

from PIL import Image

from alexnet_lit.data.files import load_sample

CLASSES = {"bag": 8, "boot": 9, "shirt": 6}  # folder -> label in Fashion-MNIST


def picture(name: str, number: int, *, size: int = 40) -> Image.Image:
    """The class's picture of that number: grey clothes on a background whose colour they invert."""
    train = load_sample().train
    index = (train.labels == CLASSES[name]).nonzero().flatten()[number]
    grey = Image.fromarray(train.images[index].numpy()).resize((size + number % 5, size))
    return Image.merge("RGB", (grey, grey.point(lambda value: value // 2), grey.point(lambda value: 255 - value)))


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
