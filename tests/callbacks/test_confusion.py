from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_lit.callbacks.confusion import draw


def pixels(path: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.slow
def test_the_colour_is_the_share_of_the_row(tmp_path: Path) -> None:
    def colours(matrix: list[list[int]]) -> set[bytes]:
        draw(matrix, ["a", "b"], tmp_path / "c.png", "title")
        found, counts = np.unique(pixels(tmp_path / "c.png").reshape(-1, 3), axis=0, return_counts=True)
        return {colour.tobytes() for colour in found[counts > 5000]}  # of areas, not of letters

    assert colours([[8, 2], [0, 1]]) == colours([[80, 20], [0, 5]])
    assert colours([[8, 2], [0, 1]]) != colours([[5, 5], [0, 1]])


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 31, 200])
def test_any_number_of_classes_has_a_picture(count: int, tmp_path: Path) -> None:
    matrix = [[int(row == column) for column in range(count)] for row in range(count)]
    draw(matrix, [f"class {n}" for n in range(count)], tmp_path / "c.png", "title")
    dark = (pixels(tmp_path / "c.png") == (8, 48, 107)).all(-1)  # the last of the colour map: what is all right
    rows, columns = np.nonzero(dark)
    assert abs(np.corrcoef(rows, columns)[0, 1]) > 0.7, "it is the diagonal"
    assert max(dark.shape) < 2500


def test_a_class_without_images_is_blank(tmp_path: Path) -> None:
    draw([[0, 0], [1, 3]], ["a", "b"], tmp_path / "c.png", "title")
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_chinese_classes_leave_no_empty_boxes(tmp_path: Path) -> None:
    draw([[2, 1], [1, 3]], ["短靴", "连衣裙"], tmp_path / "c.png", "图")  # matplotlib warns of such a box
    assert (tmp_path / "c.png").stat().st_size > 1000
