"""Runs as their folders hold them: result.json and event files, in a table with a row per run."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import SessionLog  # type: ignore[attr-defined] # made at import time

from alexnet_lit.config import typed_overrides
from alexnet_lit.errors import UserError
from alexnet_lit.sweep.jobs import REPEATS, key_by_key

UNFINISHED = "killed or still running"
_NUMBERS = ("steps", "images", "test/acc", "val/acc_best", "seconds")
_TAGS = ("train/loss", "val/loss", "val/acc", "test/loss", "test/acc")
_RESULT, _EVENTS = "result.json", "events.out.tfevents.*"
_SKIPPED_FOLDERS = ("earlier", "checkpoints")  # `earlier`: first attempts of a sweep's jobs, which no longer count

# A run's name, its paths and its loggers don't make it another experiment.
_IGNORED_KEYS = (*REPEATS, "name", "ckpt", "logger", "sweep", "data.dir", "data.search", "data.mirrors", "data.cache")
_IGNORED_PREFIXES = ("paths.", "hydra.", "hydra/", "logger.")


def read_runs(folders: Sequence[str]) -> pd.DataFrame:
    """All runs in these folders and below, each once, sorted by name with numbers as numbers; a row as of `read_run`.

    Raises: UserError for a missing folder, or if there is no run at all.
    """
    hint = "name a sweep's or a run's folder, as logs/sweeps/<sweep>"
    for folder in folders:
        if not Path(folder).expanduser().is_dir():
            raise UserError(f"{folder}: there is no such folder: {hint}")
    found = dict.fromkeys(path.resolve() for folder in folders for path in _run_folders(Path(folder).expanduser()))
    if not found:
        raise UserError(f"{', '.join(folders)}: no run in it: {hint}")
    return pd.DataFrame([read_run(folder) for folder in found])


def _run_folders(folder: Path) -> Iterator[Path]:
    if (folder / _RESULT).is_file() or any(folder.glob(_EVENTS)) or (folder / ".hydra").is_dir():
        yield folder
        return

    def natural_order(path: Path) -> list[str | int]:
        return [int(part) if n % 2 else part for n, part in enumerate(re.split(r"(\d+)", path.name))]

    for path in sorted(folder.iterdir(), key=natural_order):
        if path.is_dir() and not path.is_symlink() and path.name not in _SKIPPED_FOLDERS and path.name[0] != ".":
            yield from _run_folders(path)


def read_run(folder: Path) -> dict[str, Any]:
    """One run: folder, status (that of result.json, or UNFINISHED without one or if steps were recorded after it was
    written), seed, fold, overrides by key, remark, curves, images_per_step and _NUMBERS, NaN where they are not known.
    """
    file, curves = folder / _RESULT, read_curves(folder)
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    remark = str(result.get("reason") or "") if result else f"no {_RESULT}"
    overrides = key_by_key(map(str, result.get("overrides") or typed_overrides(folder)))
    numbers = {
        key: float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan
        for key, value in ((key, result.get(key)) for key in _NUMBERS)
    }
    images_per_step = numbers["images"] / numbers["steps"] if numbers["steps"] else math.nan
    status = str(result.get("status", UNFINISHED))
    last_step = max((curve.index[-1] for curve in curves.values()), default=0)
    if status == UNFINISHED or last_step > numbers["steps"]:
        best = curves["val/acc"].max() if "val/acc" in curves else math.nan
        numbers = dict.fromkeys(_NUMBERS, math.nan) | {"steps": last_step, "val/acc_best": best}
        status, remark = UNFINISHED, "has gone on since its result.json" if result else remark
    elif status == "completed" and not curves:
        remark = "no event file, so no curves"
    return {
        "folder": folder,
        "status": status,
        "seed": str(result.get("seed", overrides.get("seed", ""))),
        "fold": overrides.get("data.fold", ""),
        "overrides": overrides,
        "remark": remark,
        "curves": curves,
        "images_per_step": images_per_step,
        **numbers,
    }


def read_curves(folder: Path) -> dict[str, pd.Series]:
    """The finite losses and accuracies in the event files of a run: by tag a series of values by step.

    What a resumed run measures again replaces what was there, as in TensorBoard. A file may be cut off anywhere.
    """
    points: dict[tuple[str, int], float] = {}
    for file in sorted(folder.glob(_EVENTS)):
        for event in LegacyEventFileLoader(str(file)).Load() if file.stat().st_size else ():
            if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                points = {key: value for key, value in points.items() if key[1] < event.step}
            for value in event.summary.value:
                if value.tag in _TAGS and value.HasField("simple_value") and math.isfinite(value.simple_value):
                    points[value.tag, event.step] = value.simple_value
    curves: dict[str, dict[int, float]] = {}
    for (tag, step), number in sorted(points.items()):
        curves.setdefault(tag, {})[step] = number
    return {tag: pd.Series(curve) for tag, curve in curves.items()}


def group_runs(runs: pd.DataFrame) -> tuple[pd.Series, list[dict[str, str]], list[str], dict[str, str]]:
    """Experiments, numbered in the order of their first runs: runs that differ in seed and fold alone.

    Returns the experiment of each run; of each experiment the overrides that tell it from the others, and its label;
    the overrides that all have in common.
    """
    overrides = pd.DataFrame(list(runs["overrides"]), index=runs.index, dtype=object)
    ignored = [key for key in overrides if key in _IGNORED_KEYS or key.startswith(_IGNORED_PREFIXES)]
    overrides = overrides.drop(columns=ignored)
    varying = [key for key in overrides if overrides[key].nunique(dropna=False) > 1]
    common = overrides.drop(columns=varying).iloc[0].to_dict()
    if not varying:
        return pd.Series(0, runs.index), [{}], ["no other override"], common
    experiment = overrides.groupby(varying, sort=False, dropna=False).ngroup()
    differing = [group.iloc[0].dropna().to_dict() for _, group in overrides[varying].groupby(experiment)]
    labels = [" ".join(f"{key}={value}" for key, value in each.items()) or "no other override" for each in differing]
    return experiment, differing, labels, common


def find_baseline(labels: Sequence[str], wanted: str | None) -> int:
    """The number of the experiment whose label is or contains `wanted`; without it `idea=base`, else the first.

    Raises: UserError if none or several are meant.
    """
    if wanted is None:
        return next((n for n, label in enumerate(labels) if "idea=base" in label.split()), 0)
    found = [label for label in labels if label == wanted] or [label for label in labels if wanted in label]
    if len(found) != 1:
        there = ", ".join(found or labels)
        raise UserError(f"--baseline={wanted}: {'several are' if found else 'none is'} called so: there are {there}")
    return labels.index(found[0])
