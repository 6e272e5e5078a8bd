"""Runs, as their folders tell of them: result.json and event files, nothing else."""

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from alexnet_lit.errors import Mistake
from alexnet_lit.groups import key_by_key
from alexnet_lit.report.events import PATTERN, Curves, read_curves

RESULT = "result.json"
_PASSED_OVER = ("earlier", "checkpoints")  # first attempts of a sweep's jobs; they count no more
_NAMED = re.compile(r"(?:^|_)(seed|data\.fold)-(\d+)(?=_|$)")  # as a job's folder tells its seed and fold


@dataclass(frozen=True, eq=False)  # each run is itself alone
class Run:
    """`result`: what result.json holds; empty where there is none, or where it can't be read (`broken` says why)."""

    folder: Path
    result: dict[str, Any]
    curves: Curves
    broken: str

    @cached_property
    def overrides(self) -> dict[str, str]:
        """What was typed, key by key. Without a result nobody knows."""
        return key_by_key(map(str, self.result.get("overrides") or ()))

    @property
    def status(self) -> str:
        """That of result.json; `unfinished` without one, or if the run has gone on since: at work still, or killed."""
        steps = self.result.get("steps")
        if not self.result or (isinstance(steps, int) and self.last_step > steps):
            return "unfinished"
        return str(self.result.get("status", "unfinished"))

    @property
    def repeat(self) -> tuple[str, str]:
        """The seed and the fold: what tells a run from others of its experiment. Without a result its name may say."""
        named: dict[str, str] = {} if self.result else dict(_NAMED.findall(self.folder.name))
        seed = self.result.get("seed", self.overrides.get("seed", named.get("seed", "")))
        return str(seed), self.overrides.get("data.fold", named.get("data.fold", ""))

    @property
    def last_step(self) -> int:
        """The last step that something was recorded of; 0 before the first."""
        return max((curve[-1].step for curve in self.curves.values()), default=0)

    @property
    def images_a_step(self) -> float | None:
        """Training images a step; None where the result doesn't tell."""
        images, steps = self.figure("images"), self.figure("steps")
        return images / steps if images and steps else None

    @property
    def stem(self) -> str:
        """The folder's name without the number of the job, the seed and the fold."""
        return _NAMED.sub("", re.sub(r"^\d+_(?=\D)", "", self.folder.name)).strip("_")

    def figure(self, key: str) -> float | None:
        """A number of the result, None where there is none."""
        value = self.result.get(key)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def read_runs(folders: Sequence[str]) -> list[Run]:
    """All runs in these folders and below, each once, in the order of names, numbers as numbers.

    Raises: Mistake for a folder that is not there, and if there is no run at all.
    """
    for folder in folders:
        if not Path(folder).expanduser().is_dir():
            raise Mistake(f"{folder}: there is no such folder: name a sweep's or a run's, as logs/sweeps/<sweep>")
    found = dict.fromkeys(path.resolve() for folder in folders for path in _run_folders(Path(folder).expanduser()))
    if not found:
        raise Mistake(f"{', '.join(folders)}: no run in it: name a sweep's or a run's folder, as logs/sweeps/<sweep>")
    return [_read(folder) for folder in found]


def _run_folders(folder: Path) -> Iterator[Path]:
    if (folder / RESULT).is_file() or any(folder.glob(PATTERN)) or (folder / ".hydra").is_dir():
        yield folder
        return
    for path in _in_order(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
        if not path.name.startswith(".") and path.name not in _PASSED_OVER:
            yield from _run_folders(path)


def _in_order(paths: Iterable[Path]) -> list[Path]:
    def key(path: Path) -> list[str | int]:
        return [int(part) if n % 2 else part for n, part in enumerate(re.split(r"(\d+)", path.name))]

    return sorted(paths, key=key)


def _read(folder: Path) -> Run:
    result, broken = _result(folder / RESULT)
    return Run(folder, result, read_curves(folder), broken)


def _result(file: Path) -> tuple[dict[str, Any], str]:
    """What the file holds, and why it could not be read."""
    if not os.path.lexists(file):
        return {}, ""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return {}, f"{RESULT}: {' '.join(str(error).split())}"
    return (content, "") if isinstance(content, dict) else ({}, f"{RESULT}: holds no result")
