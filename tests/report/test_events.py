"""Curves, from event files whole and broken."""

import math
from pathlib import Path

import pytest

from alexnet_lit.report.events import Point, read_curves
from alexnet_lit.watch import TensorBoard
from tests.report.made import events

VALUES = [({"train/loss": 2.0}, 5, 3.0), ({"train/loss": 1.5, "val/acc": 0.5}, 10, 7.0), ({"val/acc": 0.75}, 20, 9.0)]


def name(n: int) -> str:
    return f"events.out.tfevents.170000000{n}.host"


def test_points_have_a_step_and_the_seconds_since_the_file_began(tmp_path: Path) -> None:
    events(tmp_path / name(0), VALUES, began=1.0)
    assert read_curves(tmp_path) == {
        "train/loss": [Point(5, 2.0, 2.0), Point(10, 6.0, 1.5)],
        "val/acc": [Point(10, 6.0, 0.5), Point(20, 8.0, 0.75)],
    }


def test_a_file_that_is_cut_anywhere_has_what_stands_before(tmp_path: Path) -> None:
    whole = events(tmp_path / name(0), VALUES).read_bytes()
    found = set()
    for length in range(len(whole) + 1):
        (tmp_path / name(0)).write_bytes(whole[:length])
        curves = read_curves(tmp_path)
        found.add(tuple(len(curves.get(tag, ())) for tag in ("train/loss", "val/acc")))
    assert found == {(0, 0), (1, 0), (2, 1), (2, 2)}


@pytest.mark.parametrize("garbage", [b"\0" * 100, b"not an event file at all, but long enough to have a header"])
def test_garbage_is_no_curve(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / name(0)).write_bytes(garbage)
    assert read_curves(tmp_path) == {}


def test_a_resumed_run_shows_each_step_once_and_its_pause_does_not_count(tmp_path: Path) -> None:
    events(tmp_path / name(0), VALUES)
    events(tmp_path / name(1), [({"val/acc": 0.875}, 20, 1005.0)], began=1000.0, restart=20)
    assert read_curves(tmp_path)["val/acc"] == [Point(10, 7.0, 0.5), Point(20, 12.0, 0.875)]


def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    events(tmp_path / name(0), [({"train/loss": value}, n, n) for n, value in enumerate((1.0, math.nan, math.inf))])
    assert [point.value for point in read_curves(tmp_path)["train/loss"]] == [1.0]


def test_reads_what_the_logger_writes_and_rewinds(tmp_path: Path) -> None:
    for first, value in ((1, 0.25), (2, 0.5)):
        logger = TensorBoard(run_dir=str(tmp_path))
        if first == 2:
            logger.rewind(2)
        for step in range(first, 4):
            logger.log_metrics({"val/acc": value, "lr": 0.1, "epoch": 1}, step=step)
        logger.close()
        if first == 1:  # names of event files have whole seconds in them
            for file in tmp_path.iterdir():
                file.rename(tmp_path / "events.out.tfevents.1000000000.host")
    curves = read_curves(tmp_path)
    assert list(curves) == ["val/acc"]
    assert [(point.step, point.value) for point in curves["val/acc"]] == [(1, 0.25), (2, 0.5), (3, 0.5)]
