"""`predict`: a person's pictures in, names of classes out."""

import csv
import io
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

import alexnet_lit
from alexnet_lit.data import CLASSES
from alexnet_lit.data.fashion_mnist import load_sample
from tests.conftest import Train
from tests.pictures import CLASSES as NAMES
from tests.pictures import ready

IMAGES = load_sample().test.images[:20]


@pytest.fixture(scope="module")
def expected(lenet: Path) -> Tensor:
    """What the Python API says of the raw images: (20, 10)."""
    return alexnet_lit.load(lenet).predict(IMAGES)


@pytest.fixture
def boot(tmp_path: Path) -> str:
    """A picture of a file, the first test image."""
    Image.fromarray(IMAGES[0].numpy()).save(tmp_path / "boot.png")
    return "boot.png"


def photograph(image: Image.Image) -> Image.Image:
    """As a shop shows it: in colour, large, dark on white, not in the middle, higher than wide."""
    page = Image.new("RGB", (500, 700), "white")
    page.paste(ImageOps.invert(image).resize((448, 448), Image.Resampling.BICUBIC), (30, 60))
    return page


def test_photographs_of_real_images_give_the_same_class(
    lenet: Path, expected: Tensor, verb: Train, tmp_path: Path
) -> None:
    (tmp_path / "pictures").mkdir()
    for number, image in enumerate(map(Image.fromarray, IMAGES.numpy())):
        photograph(image).save(tmp_path / "pictures" / f"{number:02}.jpg")

    outcome = verb("predict", str(lenet), "pictures", "--csv", "--top=1")

    assert (outcome.status, outcome.err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    assert all("inverted" in row["picture"] for row in rows)
    names = [CLASSES[index] for index in expected.argmax(1)]
    assert sum(row["class_1"] == name for row, name in zip(rows, names, strict=True)) >= 18


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
    row = table.splitlines()[-1]
    assert re.split(r"\s{2,}", row.strip()) == cells


def test_a_net_of_colour_pictures_needs_the_pictures_alone(rgb: tuple[Path, Path], verb: Train, tmp_path: Path) -> None:
    folder, pictures = rgb
    shutil.copytree(pictures / "test", tmp_path / "own")
    shutil.copy(folder / "checkpoints" / "best.ckpt", tmp_path / "net.ckpt")
    pictures.rename(away := pictures.with_name("away"))
    try:
        outcome = verb("predict", "net.ckpt", "own", "--json")
    finally:
        away.rename(pictures)

    assert (outcome.status, outcome.err) == (0, "")
    found = json.loads(outcome.out)
    rows, _ = ready(pictures).read()["test"]  # in the order of the names, as those of a folder are
    probabilities = alexnet_lit.load(folder).predict(rows[torch.arange(15)])
    for one, row in zip(found, probabilities, strict=True):
        there = {answer["class"]: answer["probability"] for answer in one["classes"]}
        assert [there[name] for name in NAMES] == pytest.approx(row.tolist(), abs=1e-5)
    assert sum(one["classes"][0]["class"] == Path(one["file"]).parent.name for one in found) >= 12
    assert found[0]["picture"] == "40x40, shrunk to 32x32"


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


def test_a_folder_is_all_pictures_below_it(lenet: Path, expected: Tensor, verb: Train, tmp_path: Path) -> None:
    # More than a batch of them.
    names = [f"pictures/{number % 3}/{number:03}.{'PNG' if number % 2 else 'jpg'}" for number in range(70)]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[int(name[-7:-4]) % 20].numpy()).save(tmp_path / name)
    (tmp_path / "pictures" / "notes.txt").touch()
    (tmp_path / "pictures" / ".hidden.png").touch()

    outcome = verb("predict", str(lenet), "pictures", "--csv")

    assert (outcome.status, outcome.err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    assert [row["file"] for row in rows] == sorted(names)
    found = {row["file"]: row["class_1"] for row in rows}
    classes = [CLASSES[index] for index in expected.argmax(1)]
    assert [found[name] for name in names if name.endswith("PNG")] == (4 * classes)[1:70:2]


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["boot.png", "nope.png"], "nope.png: there is no such file or folder: name pictures, a folder of them, or -"),
        (["empty"], "empty: there is no picture in it (jpg, jpeg, jfif, png, bmp"),
        (["boot.png", "--json", "--csv"], "--json --csv: one or the other"),
        (["boot.png", "--device=gpu"], "--device=gpu: should be auto, cpu or cuda"),
    ],
)
@pytest.mark.usefixtures("boot")
def test_a_mistake_costs_one_line(typed: list[str], line: str, lenet: Path, verb: Train, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    outcome = verb("predict", str(lenet), *typed)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith(f"error: {line}")
    assert len(outcome.err.splitlines()) == 1
