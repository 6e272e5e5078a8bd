"""result.json: what a run came to, in figures."""

import functools
import json
import math
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning import Trainer

from alexnet_lit.callbacks.loggers import History
from alexnet_lit.callbacks.metrics import Throughput
from alexnet_lit.config import home, typed_overrides
from alexnet_lit.callbacks.history import History
from alexnet_lit.callbacks.speed import Speed
from alexnet_lit.config import PART, RESULT, home, typed_overrides, under_way
from alexnet_lit.errors import writing
from alexnet_lit.lit import Classifier

Result = dict[str, Any]
SCORES = ("test/acc", "test/loss", "val/acc", "val/loss", "val/acc_best", "train/loss")


def collect(
    *, status: str, folder: Path, module: Classifier, trainer: Trainer, speed: Throughput, device: str, precision: str
) -> Result:
    """All keys of result.json; null where a run did not come to measure something."""
    history = History.of(trainer)
    scores = {name: module.published.get(name, history.latest(name)) for name in SCORES}
    return {
        "status": status,
        **{name: value if value is None or math.isfinite(value) else None for name, value in scores.items()},
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "images": speed.images,
        "seconds": round(speed.seconds, 3),
        "images_per_second": round(speed.images_per_second, 3),
        "params": sum(parameter.numel() for parameter in module.net.parameters()),
        "seed": module.seed,
        "device": device,
        "world_size": trainer.world_size,
        "precision": precision,
        **origin(folder),
    }


def origin(folder: Path) -> dict[str, Any]:
    """What a run was made from: what was typed, the versions of what it rests on, the commit."""
    versions = {name: version(package) for name, package in _PACKAGES.items()}
    return {
        "overrides": typed_overrides(folder),
        "versions": {**versions, "python": platform.python_version()},
        "commit": _commit(),
    }


_PACKAGES = {"torch": "torch", "lightning": "lightning", "hydra": "hydra-core"}


def expect_result(folder: Path) -> None:
    """Note that a run that has a result goes on. It stays until there is another; meanwhile the run is `under_way`, and
    for good if its process is killed.
    """
    if (folder / RESULT).exists():
        (folder / PART).touch()


def answered(folder: Path) -> Result | None:
    """The result, if the run has ended with one since it was last expected."""
    file = folder / RESULT
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() and not under_way(folder) else None


def keep_result(result: Result, folder: Path) -> bool:
    """Write it, but never let a failure take the place of a run that completed, nor a stop before anything was saved.
    Whether it was written.
    """
    if under_way(folder) and result["status"] != "completed":
        complete = json.loads((folder / RESULT).read_text(encoding="utf-8"))["status"] == "completed"
        if complete and (result["status"] == "failed" or not _saved(folder)):
            return False
    write_result(result, folder)
    return True


def forget_expected(folder: Path) -> None:
    """Take the earlier result for the last word again, if the run has not saved a step since."""
    if under_way(folder) and not _saved(folder):
        (folder / PART).unlink()


def _saved(folder: Path) -> bool:
    """Whether the run has saved a step since its result was expected."""
    last = folder / "checkpoints" / "last.ckpt"
    return last.exists() and last.stat().st_mtime_ns > (folder / PART).stat().st_mtime_ns


def write_result(result: Result, folder: Path) -> None:
    """Write <folder>/result.json, whole or not at all. Raises: UserError where the disk refuses."""
    part = folder / PART
    with writing(folder / RESULT):
        part.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        part.replace(folder / RESULT)


@functools.cache  # what runs is the code that was there at first, whatever is committed meanwhile
def _commit() -> str | None:
    """The checkout's commit, with `-dirty` where files differ from it; null outside one."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=home(),
            capture_output=True,
            encoding="utf-8",
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None  # no git on this machine
    return described.stdout.strip() or None
