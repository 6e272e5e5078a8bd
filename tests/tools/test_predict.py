"""`predict`: a person's pictures in, names of classes out; tests/data/test_picture.py has what a file may hold."""

import csv
import io
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

import alexnet_lit
from alexnet_lit.data import CLASSES
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.tools.predict import Picture, like_fashion_mnist, square
from tests.conftest import Train
from tests.pictures import CLASSES as NAMES
from tests.pictures import encoded, fill, picture, ready

IMAGES = load_sample()["test"][0][:20]
BOOT = Image.fromarray(IMAGES[0].numpy())

# ---- What becomes of a picture before a net sees it


def seen(image: Image.Image, kind: str = "PNG") -> Picture:
    return like_fashion_mnist(encoded(image, kind), size=28)


def same(picture: Picture, image: Image.Image, within: int = 0) -> bool:
    difference = np.asarray(picture.image, dtype=int) - np.asarray(image, dtype=int)
    return picture.image.size == image.size and int(np.abs(difference).max()) <= within


def test_real_images_stay_as_they_are_in_both_polarities_and_on_nothing() -> None:
    for image in map(Image.fromarray, load_sample()["test"][0][:100].numpy()):
        assert same(shown := seen(image), image)
        assert shown.steps == "28x28, as it is"
        assert same(shown := seen(ImageOps.invert(image)), image)
        assert shown.steps == "28x28, inverted"
    holes = ImageOps.invert(BOOT).convert("RGBA")
    holes.putalpha(BOOT.point(lambda value: 255 * (value > 0)))
    assert same(seen(holes), BOOT)


def test_trimmed_shrunk_by_areas_inverted_and_padded() -> None:
    photo = Image.new("RGB", (300, 200), "white")
    item = Image.effect_noise((112, 56), 80).point(lambda value: min(value, 200))
    photo.paste(item, (20, 30))
    expected = np.zeros((28, 28), dtype=np.uint8)
    expected[7:21] = 255 - np.asarray(item, dtype=float).reshape(14, 4, 28, 4).mean((1, 3))

    shown = seen(photo)
    assert shown.steps == "300x200, trimmed to 112x56, shrunk to 28x14, inverted, padded"
    assert same(shown, Image.fromarray(expected), within=1)
    photo = Image.new("RGB", (4000, 3000), "white")  # of which a JPEG is decoded in small
    photo.paste("navy", (1000, 1000, 2600, 1800))
    assert seen(photo, "JPEG").steps == "4000x3000, trimmed to 1600x800, shrunk to 28x14, inverted, padded"


def test_trimming_stops_at_5_percent_and_one_corner_may_be_covered() -> None:
    photo = Image.new("L", (100, 100), 240)
    ImageDraw.Draw(photo).rectangle((20, 20, 79, 79), fill=228)
    assert "trimmed" not in seen(photo).steps
    ImageDraw.Draw(photo).rectangle((30, 30, 69, 69), fill=227)
    assert "trimmed to 40x40" in seen(photo).steps
    ImageDraw.Draw(photo).rectangle((0, 0, 60, 60), fill=40)
    assert "inverted" in seen(photo).steps


@pytest.mark.parametrize(("size", "colour"), [((1, 1), "white"), ((28, 1), "grey"), ((1, 4000), "black")])
def test_blank_and_tiny_pictures(size: tuple[int, int], colour: str) -> None:
    image = np.asarray(seen(Image.new("L", size, colour)).image)
    assert image.shape == (28, 28)
    assert np.ptp(image) == 0
    assert image[0, 0] == {"white": 0, "grey": 127, "black": 0}[colour]


def test_other_nets_see_the_very_pixels_that_they_were_trained_on(tmp_path: Path) -> None:
    files = fill(tmp_path, train=2) / "train" / "bag"
    exif = Image.Exif()
    exif[0x0112] = 6
    large, holes = picture("bag", 1, size=600), picture("bag", 2).convert("RGBA")
    holes.putalpha(picture("bag", 3).convert("L").resize(holes.size))
    large.save(files / "large.jpg", exif=exif)
    holes.save(files / "holes.png")

    images, labels = ready(tmp_path, "data.val_size=0", "objective=null").read()["train"]

    names = sorted(files.iterdir())
    assert len(names) == 4 == int((labels == 0).sum())
    for name, row in zip(names, images.index_select(0, torch.arange(4)), strict=True):
        assert torch.equal(pil_to_tensor(square(str(name), size=32, channels=3).image), row)


# ---- The command


@pytest.fixture(scope="module")
def expected(lenet: Path) -> Tensor:
    """What the Python API says of the raw images: (20, 10)."""
    return alexnet_lit.load(lenet).predict(IMAGES)


@pytest.fixture
def boot(tmp_path: Path) -> str:
    """A picture in a file, the first test image."""
    BOOT.save(tmp_path / "boot.png")
    return "boot.png"


def photograph(image: Image.Image) -> Image.Image:
    """As a shop shows it: in colour, large, dark on white, not in the middle, higher than wide."""
    page = Image.new("RGB", (500, 700), "white")
    page.paste(ImageOps.invert(image).resize((448, 448), Image.Resampling.BICUBIC), (30, 60))
    return page


def test_photographs_in_a_folder(lenet: Path, expected: Tensor, verb: Train, tmp_path: Path) -> None:
    # More than a batch of them.
    names = [f"pictures/{number % 3}/{number:03}.{'PNG' if number % 2 else 'jpg'}" for number in range(40)]
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        photograph(Image.fromarray(IMAGES[number % 20].numpy())).save(tmp_path / name)
    (tmp_path / "pictures" / "notes.txt").touch()
    (tmp_path / "pictures" / ".hidden.png").touch()

    outcome = verb("predict", str(lenet), "pictures", "--csv", "--top=1").ok()

    rows = {row["file"]: row for row in csv.DictReader(io.StringIO(outcome.out))}
    assert list(rows) == sorted(names)
    assert all("inverted" in row["picture"] for row in rows.values())
    classes = [CLASSES[index] for index in expected.argmax(1)] * 2
    assert sum(rows[name]["class_1"] == right for name, right in zip(names, classes, strict=True)) >= 36


def test_probabilities_are_those_of_the_python_api(lenet: Path, expected: Tensor, boot: str, verb: Train) -> None:
    best = expected[0].topk(10)
    ranked = [(CLASSES[index], value) for index, value in zip(best.indices, best.values.tolist(), strict=True)]

    (found,) = json.loads(verb("predict", str(lenet), boot, "--json", "--top=99").out)
    assert (found["file"], found["picture"]) == (boot, "28x28, as it is")
    assert [one["class"] for one in found["classes"]] == [name for name, _ in ranked]
    for one, (_, value) in zip(found["classes"], ranked, strict=True):
        assert one["probability"] == pytest.approx(value, abs=1e-5)

    table = verb("predict", str(lenet), boot, "--top=2").out.rstrip()
    cells = [boot, *(f"{name} {100 * value:.1f}%" for name, value in ranked[:2]), "28x28, as it is"]
    assert re.split(r"\s{2,}", table.splitlines()[-1].strip()) == cells


def test_a_net_of_colour_pictures_needs_the_pictures_alone(rgb: tuple[Path, Path], verb: Train, tmp_path: Path) -> None:
    folder, pictures = rgb
    shutil.copytree(pictures / "test", tmp_path / "own")
    shutil.copy(folder / "checkpoints" / "best.ckpt", tmp_path / "net.ckpt")

    found = json.loads(verb("predict", "net.ckpt", "own", "--json").ok().out)

    rows, _ = ready(pictures).read()["test"]  # in the order of the names, as those of a folder are
    probabilities = alexnet_lit.load(folder).predict(rows.index_select(0, torch.arange(15)))
    for one, row in zip(found, probabilities, strict=True):
        there = {answer["class"]: answer["probability"] for answer in one["classes"]}
        assert [there[name] for name in NAMES] == pytest.approx(row.tolist(), abs=1e-5)
    assert [one["picture"] for one in found[:2]] == ["40x40, shrunk to 32x32", "41x40, centre 40x40, shrunk to 32x32"]


def test_a_picture_comes_from_stdin_and_what_can_t_be_read_is_left_out(
    lenet: Path, boot: str, verb: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.png").write_text("no picture")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO((tmp_path / boot).read_bytes())))

    outcome = verb("predict", str(lenet), "broken.png", boot, "-", "--csv")
    assert outcome.status == 1
    from_file, from_stdin = csv.DictReader(io.StringIO(outcome.out))
    assert from_stdin == {**from_file, "file": "-"}
    assert from_file["file"] == boot
    line = "broken.png: not a picture that can be read (none of JPEG, PNG, GIF, BMP, PPM, TIFF, WEBP): left out\n"
    assert outcome.err == line
    assert verb("predict", str(lenet), "broken.png", "--json").out == "[]\n"
