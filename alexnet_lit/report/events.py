"""A run's curves, as its event files have them."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined] # made at import time

PATTERN = "events.out.tfevents.*"
TAGS = ("train/loss", "val/loss", "val/acc", "test/loss", "test/acc")


class Point(NamedTuple):
    """A value, the global step that it belongs to, and the seconds that the run had taken by then."""

    step: int
    seconds: float
    value: float


Curves = dict[str, list[Point]]


def read_curves(folder: Path) -> Curves:
    """The curves of TAGS in the order of steps, without what is no number.

    Each file is a session of the run, and their seconds add up: what lay between them does not count. The end of a file
    may be missing, as a kill leaves it. What a resumed run measures again is void, as TensorBoard has it.
    """
    points: dict[str, dict[int, Point]] = {tag: {} for tag in TAGS}
    for file in sorted(folder.glob(PATTERN)):
        began: float | None = None
        earlier = _latest(points)
        for event in _events(file):
            began = event.wall_time if began is None else began
            if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                points = {tag: _before(event.step, curve) for tag, curve in points.items()}
                earlier, began = _latest(points), event.wall_time
            for value in event.summary.value:
                if value.tag in points and value.HasField("simple_value") and math.isfinite(value.simple_value):
                    seconds = earlier + event.wall_time - began
                    points[value.tag][event.step] = Point(event.step, seconds, value.simple_value)
    return {tag: [curve[step] for step in sorted(curve)] for tag, curve in points.items() if curve}


def _events(file: Path) -> Iterator[Event]:
    """Up to the end, or to where the file is broken."""
    yield from LegacyEventFileLoader(str(file)).Load() if file.stat().st_size else ()


def _before(step: int, curve: dict[int, Point]) -> dict[int, Point]:
    return {at: point for at, point in curve.items() if at < step}


def _latest(points: dict[str, dict[int, Point]]) -> float:
    """The seconds that have gone by at the latest point."""
    return max((point.seconds for curve in points.values() for point in curve.values()), default=0.0)
