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
from alexnet_lit.errors import writing
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


def write_result(result: Result, folder: Path) -> None:
    """Write <folder>/result.json, whole or not at all. Raises: Mistake where the disk refuses."""
    part = folder / "result.json.part"
    with writing(folder / "result.json"):
        part.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        part.replace(folder / "result.json")


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
