"""curves.png, confusion matrices, and Chinese characters in them with a Chinese font and without."""

import io
import logging
import math
from pathlib import Path
from unittest.mock import Mock

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

from alexnet_lit.callbacks import figures
from alexnet_lit.callbacks.figures import confusion, draw_curves
from alexnet_lit.errors import UserError

Points = dict[str, list[tuple[int, float]]]
TRAIN, VALIDATION, TEST = (0, 114, 178), (213, 94, 0), (64, 64, 64)

RUN: Points = {
    "train/loss": [(step, 2.3 * math.exp(-step / 300)) for step in range(10, 1010, 10)],
    "train/acc": [(step, 0.9 - 0.8 * math.exp(-step / 300)) for step in range(10, 1010, 10)],
    "val/loss": [(500, 0.6), (1000, 0.4)],
    "val/acc": [(500, 0.8), (1000, 0.86)],
    "test/loss": [(1000, 0.42)],
    "test/acc": [(1000, 0.85)],
}


def same(path: Path, colour: tuple[int, int, int]) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    """Which pixels have that very colour: (height, width)."""
    with Image.open(path) as image:
        return np.asarray(np.all(np.asarray(image.convert("RGB")) == colour, axis=2))


def pixels(path: Path, colour: tuple[int, int, int]) -> tuple[int, int]:
    """How many pixels of that very colour the left and the right half of the picture have."""
    left, right = np.split(same(path, colour), 2, axis=1)
    return int(left.sum()), int(right.sum())


def test_a_run_has_its_curves_in_both_panels(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    draw_curves(RUN, tmp_path / "curves.png", "2026-11-25_10-00-00_quick")
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == [], "a notebook's figures are its own"
    with Image.open(tmp_path / "curves.png") as image:
        assert (image.format, image.size) == ("PNG", (1600, 672))
    for colour in (TRAIN, VALIDATION, TEST):
        assert min(pixels(tmp_path / "curves.png", colour)) > 300
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    assert (tmp_path / "curves.png").stat().st_mode & 0o044 == 0o044, "others may read it"


@pytest.mark.parametrize(
    ("points", "drawn"),
    [
        ({}, False),
        ({"train/loss": [(1, math.nan)], "train/acc": [(1, math.inf)]}, False),
        ({"train/loss": [(step, math.nan if step % 2 else 1.0) for step in range(200)]}, True),
    ],
)
def test_odd_runs_have_a_picture_too(points: Points, drawn: bool, tmp_path: Path) -> None:
    draw_curves(points, tmp_path / "curves.png", "odd")
    assert any(pixels(tmp_path / "curves.png", TRAIN)) is drawn


def test_a_failed_drawing_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "curves.png").write_bytes(b"old")
    monkeypatch.setattr(Path, "replace", Mock(side_effect=OSError("no space left")))
    with pytest.raises(UserError, match=r"curves\.png: cannot be written \(no space left\)"):
        draw_curves(RUN, tmp_path / "curves.png", "new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("curves.png", b"old")]


@pytest.mark.parametrize("count", [2, 31])
def test_any_number_of_classes_has_a_picture(count: int, tmp_path: Path) -> None:
    matrix = [[int(row == column) for column in range(count)] for row in range(count)]
    confusion(matrix, [f"class {n}" for n in range(count)], "title", dpi=120).savefig(tmp_path / "c.png")
    dark = same(tmp_path / "c.png", (8, 48, 107))  # the last of the colour map: what is all right
    rows, columns = np.nonzero(dark)
    assert abs(np.corrcoef(rows, columns)[0, 1]) > 0.7, "it is the diagonal"
    assert max(dark.shape) < 2500


def text_png(text: str) -> bytes:
    """A picture of it. Warnings are errors: matplotlib would warn of a character that it has to draw as a box."""
    page = io.BytesIO()
    with figures.style():
        figure = Figure(figsize=(3, 1))
        figure.text(0, 0.5, text, fontweight="bold")
        figure.savefig(page, format="png")
    return page.getvalue()


def test_without_a_chinese_font_there_are_boxes_and_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_CHINESE", ())
    assert figures.families() == ["DejaVu Sans"]
    assert text_png("图") != text_png("$5") != text_png("\N{MINUS SIGN}5")


@pytest.mark.skipif(len(figures.families()) == 1, reason="this machine has no Chinese font")
def test_with_a_chinese_font_all_is_drawn(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len({text_png(text) for text in "图像暂退法"}) == 5
    assert not caplog.records, "that a Chinese font has no bold need not be told"
