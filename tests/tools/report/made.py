"""Folders as runs leave them, and a report as its reader sees it."""

import html
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined] # made at import time
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined] # as well
from tensorboard.summary.writer.record_writer import RecordWriter

RENAMED = {"test": "test/acc", "best": "val/acc_best"}


def run(folder: Path, *overrides: str, curve: Sequence[float] = (), **result: Any) -> Path:
    """A run that completed, unless `result` has another status, or the status None: then it has no result.json.

    curve: val/acc after every tenth step; train/loss is at the same steps.
    """
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides))
    steps = 10 * len(curve)
    content = {"status": "completed", "steps": steps, "images": 32 * steps, "seconds": float(steps), "seed": 0}
    content |= {"overrides": list(overrides), **{RENAMED.get(key, key): value for key, value in result.items()}}
    if content["status"] is not None:
        (folder / "result.json").write_text(json.dumps(content))
    if curve:
        values = [({"val/acc": acc, "train/loss": 1 - acc}, 10 * n) for n, acc in enumerate(curve, start=1)]
        events(folder / "events.out.tfevents.1", values)
    return folder


def events(file: Path, values: Iterable[tuple[dict[str, float], int]], *, restart: int | None = None) -> Path:
    """An event file of (values by tag, step). restart: hide what was written before from that step on."""
    with file.open("wb") as stream:
        writer = RecordWriter(stream)
        writer.write(Event(file_version="brain.Event:2").SerializeToString())
        if restart is not None:
            log = SessionLog(status=SessionLog.START)
            writer.write(Event(step=restart, session_log=log).SerializeToString())
        for scalars, step in values:
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()])
            writer.write(Event(step=step, summary=summary).SerializeToString())
        writer.flush()
    return file


def table(page: Path, title: str) -> list[dict[str, str]]:
    """The rows of the table below a heading."""
    parts = (part.partition("</h2>") for part in page.read_text(encoding="utf-8").split("<h2>"))
    (section,) = [section for heading, _, section in parts if html.unescape(heading) == title]
    rows = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row, re.DOTALL) for row in re.findall(r"(?s)<tr.*?</tr>", section)]
    header, *others = [[html.unescape(cell) for cell in row] for row in rows]
    return [dict(zip(header, row, strict=True)) for row in others]
