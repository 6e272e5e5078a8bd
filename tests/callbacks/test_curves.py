import math
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

from alexnet_lit.callbacks.curves import draw
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


def pixels(path: Path, colour: tuple[int, int, int]) -> tuple[int, int]:
    """How many pixels of that very colour the left and the right half of the picture have."""
    with Image.open(path) as image:
        same = (np.asarray(image.convert("RGB")) == colour).all(axis=2)  # (height, width)
    left, right = np.split(same, 2, axis=1)
    return int(left.sum()), int(right.sum())


def test_a_run_has_its_curves_in_both_panels(tmp_path: Path) -> None:
    draw(RUN, tmp_path / "curves.png", "2026-11-25_10-00-00_quick")
    with Image.open(tmp_path / "curves.png") as image:
        assert (image.format, image.size) == ("PNG", (1600, 672))
    for colour in (TRAIN, VALIDATION, TEST):
        assert min(pixels(tmp_path / "curves.png", colour)) > 300
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    assert (tmp_path / "curves.png").stat().st_mode & 0o777 == 0o644


def test_each_stage_has_its_own_colour_and_panel(tmp_path: Path) -> None:
    draw({"val/acc": RUN["val/acc"]}, tmp_path / "curves.png", "validation only")
    loss, accuracy = pixels(tmp_path / "curves.png", VALIDATION)
    assert loss == 0 < accuracy
    assert pixels(tmp_path / "curves.png", TRAIN) == (0, 0)


@pytest.mark.parametrize(
    ("points", "drawn"),
    [
        ({}, False),
        ({"train/loss": []}, False),
        ({"train/loss": [(1, math.nan)], "train/acc": [(1, math.inf)]}, False),
        ({"train/loss": [(3, 1.2)]}, True),
        ({"train/loss": [(0, 1.2)]}, True),
        ({"train/loss": [(1, 1.0), (2, math.nan), (3, math.inf), (4, 2.0)]}, True),
        ({"train/loss": [(step, math.nan if step % 2 else 1.0) for step in range(200)]}, True),
    ],
)
def test_odd_runs_have_a_picture_too(points: Points, drawn: bool, tmp_path: Path) -> None:
    draw(points, tmp_path / "curves.png", "odd")
    assert any(pixels(tmp_path / "curves.png", TRAIN)) is drawn


def test_a_newer_picture_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    draw(RUN, tmp_path / "curves.png", "old")
    draw({}, tmp_path / "curves.png", "new")
    assert pixels(tmp_path / "curves.png", TRAIN) == (0, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_a_failed_drawing_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    (tmp_path / "curves.png").write_bytes(b"old")
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UserError, match=r"curves\.png: cannot be written \(no space left\)"):
        draw(RUN, tmp_path / "curves.png", "new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("curves.png", b"old")]


def test_no_state_is_shared_with_a_notebook(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    draw(RUN, tmp_path / "curves.png", "run")
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []
