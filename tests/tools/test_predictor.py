"""What becomes of a picture before a net sees it; tests/data/test_picture.py has what a file may hold."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageOps

from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.data.picture import pixels
from alexnet_lit.tools.predictor import Picture, clothes, square
from tests.pictures import fill, picture, ready

IMAGES = load_sample().test.images.numpy()
BOOT = Image.fromarray(IMAGES[0])


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> BytesIO:
    file = BytesIO()
    image.save(file, kind, **options)
    return file


def seen(file: BytesIO) -> Picture:
    return clothes(file, size=28)


def same(picture: Picture, image: Image.Image, within: int = 0) -> bool:
    difference = np.asarray(picture.image, dtype=int) - np.asarray(image, dtype=int)
    return picture.image.size == image.size and int(np.abs(difference).max()) <= within


def test_real_images_stay_as_they_are_in_both_polarities() -> None:
    for image in map(Image.fromarray, IMAGES[:100]):
        assert same(picture := seen(saved(image)), image)
        assert picture.steps == "28x28, as it is"
        assert same(picture := seen(saved(ImageOps.invert(image))), image)
        assert picture.steps == "28x28, inverted"


def test_what_is_transparent_is_background() -> None:
    holes = ImageOps.invert(BOOT).convert("RGBA")
    holes.putalpha(BOOT.point(lambda value: 255 * (value > 0)))
    assert same(seen(saved(holes)), BOOT)


def test_trimmed_shrunk_by_areas_inverted_and_padded() -> None:
    photo = Image.new("RGB", (300, 200), "white")
    item = Image.effect_noise((112, 56), 80).point(lambda value: min(value, 200))
    photo.paste(item, (20, 30))
    expected = np.zeros((28, 28), dtype=np.uint8)
    expected[7:21] = 255 - np.asarray(item, dtype=float).reshape(14, 4, 28, 4).mean((1, 3))

    picture = seen(saved(photo))

    assert picture.steps == "300x200, trimmed to 112x56, shrunk to 28x14, inverted, padded"
    assert same(picture, Image.fromarray(expected), within=1)


def test_trimming_stops_at_5_percent() -> None:
    photo = Image.new("L", (100, 100), 240)
    ImageDraw.Draw(photo).rectangle((20, 20, 79, 79), fill=228)
    assert "trimmed" not in seen(saved(photo)).steps
    ImageDraw.Draw(photo).rectangle((30, 30, 69, 69), fill=227)
    assert "trimmed to 40x40" in seen(saved(photo)).steps


def test_one_corner_may_be_covered() -> None:
    photo = Image.new("L", (100, 100), "white")
    ImageDraw.Draw(photo).rectangle((0, 0, 60, 60), fill=40)
    assert "inverted" in seen(saved(photo)).steps


@pytest.mark.parametrize(("size", "colour"), [((1, 1), "white"), ((28, 1), "grey"), ((1, 4000), "black")])
def test_blank_and_tiny_pictures(size: tuple[int, int], colour: str) -> None:
    image = np.asarray(seen(saved(Image.new("L", size, colour))).image)
    assert image.shape == (28, 28)
    assert np.ptp(image) == 0
    assert image[0, 0] == {"white": 0, "grey": 127, "black": 0}[colour]


def test_a_large_photograph_is_told_by_its_own_size() -> None:
    photo = Image.new("RGB", (4000, 3000), "white")
    ImageDraw.Draw(photo).rectangle((1000, 1000, 2599, 1799), fill="navy")
    picture = seen(saved(photo, "JPEG"))
    assert picture.steps == "4000x3000, trimmed to 1600x800, shrunk to 28x14, inverted, padded"


def test_other_nets_see_the_centre_square_in_colour() -> None:
    photo = Image.new("RGB", (300, 100), "navy")
    photo.paste("red", (100, 0, 200, 100))
    picture = square(saved(photo), size=64, channels=3)
    assert picture.image.size == (64, 64)
    assert (np.asarray(picture.image)[:, 1:-1] == (255, 0, 0)).all()
    assert picture.steps == "300x100, centre 100x100, shrunk to 64x64"
    assert square(saved(Image.new("RGB", (64, 64))), size=64, channels=3).steps == "64x64, as it is"


def test_other_nets_see_the_very_pixels_that_they_were_trained_on(tmp_path: Path) -> None:
    files = fill(tmp_path, train=2) / "train" / "bag"
    exif = Image.Exif()
    exif[0x0112] = 6
    large, holes = picture("bag", 1, size=600), picture("bag", 2).convert("RGBA")
    holes.putalpha(picture("bag", 3).convert("L").resize(holes.size))
    large.save(files / "large.jpg", exif=exif)
    holes.save(files / "holes.png")
    Image.fromarray(IMAGES[0].astype(np.uint16) * 257).save(files / "deep.png")
    large.convert("CMYK").save(files / "printed.tif")

    data = ready(tmp_path, "data.val_size=0", "objective=null")

    images, labels = data.read()["train"]
    names = sorted(path for path in files.iterdir())
    assert len(names) == 6 == int((labels == 0).sum())
    for name, row in zip(names, images[torch.arange(6)], strict=True):
        assert pixels(square(str(name), size=32, channels=3).image) == row.numpy().tobytes()
