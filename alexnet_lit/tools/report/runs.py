"""Runs as their folders hold them: result.json and event files, in a table with a row per run."""

import logging
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alexnet_lit.config import RESULT
from alexnet_lit.errors import UserError
from alexnet_lit.sweep.jobs import REPEATS, key_by_key, read_job

_NUMBERS = ("steps", "images", "test/acc", "val/acc_best", "seconds")
_TAGS = ("train/loss", "val/loss", "val/acc", "test/loss", "test/acc")
_SKIPPED_FOLDERS = ("earlier", "checkpoints")  # `earlier`: first attempts of a sweep's jobs, which no longer count

logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns of what a resumed run has measured again

# A run's name, its paths and its loggers don't make it another experiment.
_IGNORED_KEYS = (*REPEATS, "name", "ckpt", "logger", "data.dir", "data.search", "data.mirrors", "data.cache")
_IGNORED_PREFIXES = ("paths.", "hydra.", "hydra/", "logger.")


def read_runs(folders: Sequence[str]) -> pd.DataFrame:
    """All runs in these folders and below, each once, sorted by name with numbers as numbers; a row as of `read_run`.

    Raises: UserError for a missing folder, or if there is no run at all.
    """
    hint = "name a sweep's or a run's folder, as logs/sweeps/<sweep>"
    for folder in folders:
        if not os.path.isdir(Path(folder).expanduser()):
            raise UserError(f"{folder}: there is no such folder: {hint}")
    found = dict.fromkeys(path.resolve() for folder in folders for path in _run_folders(Path(folder).expanduser()))
    if not found:
        raise UserError(f"{', '.join(folders)}: no run in it: {hint}")
    return pd.DataFrame([read_run(folder) for folder in found])


def _run_folders(folder: Path) -> Iterator[Path]:
    # os.path and os.walk pass over what may not be read, where Path raises.
    if os.path.isfile(folder / RESULT) or any(folder.glob("events.out.tfevents.*")) or os.path.isdir(folder / ".hydra"):
        yield folder
        return
    _, below, _ = next(os.walk(folder), ("", [], []))
    parts = {name: re.split(r"(\d+)", name) for name in below}
    for name in sorted(parts, key=lambda name: [int(part) if part.isdigit() else part for part in parts[name]]):
        if not (folder / name).is_symlink() and name not in _SKIPPED_FOLDERS and name[0] != ".":
            yield from _run_folders(folder / name)


def read_run(folder: Path) -> dict[str, Any]:
    """One run: folder, status, seed, fold, overrides by key, remark, curves, images_per_step and _NUMBERS, NaN where
    they are not known. Of a run that has no result, or has gone on since, its event files tell how far it came.
    """
    job, curves = read_job(folder), read_curves(folder)
    overrides = key_by_key(job.result.get("overrides", ())) or job.overrides
    numbers = {key: math.nan if (value := job.result.get(key)) is None else float(value) for key in _NUMBERS}
    if not job.result:
        best = curves["val/acc"].max() if "val/acc" in curves else math.nan
        numbers |= {"steps": max((curve.index[-1] for curve in curves.values()), default=0), "val/acc_best": best}
    return {
        "folder": folder,
        "status": job.status,
        "seed": str(job.result.get("seed", overrides.get("seed", ""))),
        "fold": overrides.get("data.fold", ""),
        "overrides": overrides,
        "remark": job.reason,
        "curves": curves,
        "images_per_step": numbers["images"] / numbers["steps"] if numbers["steps"] else math.nan,
        **numbers,
    }


def read_curves(folder: Path) -> dict[str, pd.Series]:
    """The finite losses and accuracies in the event files of a run: by tag a series of values by step.

    What a resumed run measures again replaces what was there, as in TensorBoard. A file may be cut off anywhere.
    """
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1, "tensors": 1}).Reload()
    curves = {}
    for tag in set(_TAGS) & set(events.Tags()["scalars"]):
        points = {event.step: event.value for event in events.Scalars(tag) if math.isfinite(event.value)}
        if points:
            curves[tag] = pd.Series(points)
    return curves


def group_runs(runs: pd.DataFrame) -> tuple[pd.Series, list[dict[str, str]], list[str], dict[str, str]]:
    """Experiments, numbered in the order of their first runs: runs that differ in seed and fold alone.

    Returns the experiment of each run; of each experiment the overrides that tell it from the others, and its label;
    the overrides that all have in common.
    """
    overrides: list[dict[str, str]] = [
        {key: run[key] for key in run if not (key in _IGNORED_KEYS or key.startswith(_IGNORED_PREFIXES))}
        for run in runs["overrides"]
    ]
    keys = dict.fromkeys(key for run in overrides for key in run)
    common = {key: overrides[0].get(key, "") for key in keys if len({run.get(key) for run in overrides}) == 1}
    differing = [{key: run[key] for key in keys if key in run and key not in common} for run in overrides]
    names = [" ".join(f"{key}={value}" for key, value in run.items()) or "no other override" for run in differing]
    experiments = dict(zip(names, differing, strict=True))
    labels = [*experiments]
    return pd.Series([labels.index(name) for name in names], runs.index), [*experiments.values()], labels, common


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
