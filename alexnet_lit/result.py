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

from alexnet_lit.config import home, typed_overrides
from alexnet_lit.lit import Classifier
from alexnet_lit.watch import History, Speed

Result = dict[str, Any]
SCORES = ("test/acc", "test/loss", "val/acc", "val/loss", "val/acc_best", "train/loss")


def collect(
    *, status: str, folder: Path, module: Classifier, trainer: Trainer, speed: Speed, device: str, precision: str
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
    """Note that a run that has a result goes on. The result stays until `write_result` puts another in its place, and
    until then the run counts as unfinished: a process that is killed can't say so any more.
    """
    if (folder / RESULT).exists():
        (folder / PART).touch()


def expected(folder: Path) -> bool:
    """Whether the run has no result, or has gone on since it had one."""
    return (folder / PART).exists() or not (folder / RESULT).exists()


def drop(folder: Path) -> None:
    """Take the earlier result as the last word: the run did not go on after all."""
    (folder / PART).unlink(missing_ok=True)


def write_result(result: Result, folder: Path) -> None:
    """Write <folder>/result.json, whole or not at all."""
    part = folder / PART
    part.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    part.replace(folder / RESULT)


@functools.cache  # what runs is the code that was there at first, whatever is committed meanwhile
def _commit() -> str | None:
    """The checkout's commit, with `-dirty` where files differ from it; null outside one."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=home(),
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None  # no git on this machine
    return described.stdout.strip() or None
