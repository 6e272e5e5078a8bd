"""The jobs of a sweep: those that its folder tells of, and those that it was to have."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from alexnet_lit.config import as_typed, typed_overrides
from alexnet_lit.groups import key_by_key
from alexnet_lit.resume import under_way

PLAN = "multirun.yaml"  # what Hydra saves in a sweep's folder when it starts: the whole config and what was typed


@dataclass(frozen=True)
class Job:
    """What a job was asked (`overrides`, key by key) and what it came to (`result`: result.json, if there is one)."""

    number: int
    folder: Path
    overrides: dict[str, str]
    result: dict[str, Any]

    @property
    def status(self) -> str:
        """That of result.json; without one the job is still at work, or died before it could write it."""
        return str(self.result.get("status", "unfinished"))

    @property
    def reason(self) -> str:
        """Why it came to no result, in one line; empty where there is nothing to say."""
        return str(self.result.get("reason") or ("" if self.result else "no result.json: at work still, or killed"))

    @property
    def ended(self) -> bool:
        """Whether it came to an outcome that stands. To diverge is one: to try until it fits would be choosing."""
        return self.status in ("completed", "diverged")

    @property
    def tried(self) -> bool:
        """Whether a search has learned from it."""
        return self.ended or self.status == "failed"

    @property
    def can_go_on(self) -> bool:
        """Whether it was stopped in training, or a process of it was killed, so that last.ckpt is to go on from."""
        saved = (self.folder / "checkpoints" / "last.ckpt").is_file()
        return saved and (self.status in ("interrupted", "unfinished") or bool(self.result.get("killed")))


def jobs_of(sweep: Path) -> list[Job]:
    """All jobs that have a folder, by number."""
    folders = [path for path in sweep.iterdir() if path.is_dir() and (_number(path) or (path / ".hydra").is_dir())]
    return sorted((read_job(folder) for folder in folders), key=lambda job: (job.number, job.folder.name))


def _number(folder: Path) -> str:
    """What the folder's name begins with; nothing where hydra.sweep.subdir names folders in another way."""
    first = folder.name.partition("_")[0]
    return first if first.isdigit() else ""


def read_job(folder: Path) -> Job:
    """The job whose folder this is."""
    result = folder / "result.json"
    return Job(
        number=int(_number(folder) or 0),
        folder=folder,
        overrides=key_by_key(typed_overrides(folder)),
        result=json.loads(result.read_text(encoding="utf-8")) if result.is_file() and not under_way(folder) else {},
    )


def subfolder(loader: ConfigLoader, sweep: DictConfig, number: int, overrides: Sequence[str]) -> str:
    """The name of a job's folder, as Hydra will make it from hydra.sweep.subdir. `sweep`: the sweep's config."""
    config, before = loader.load_sweep_config(sweep, list(overrides)), HydraConfig.instance().cfg
    with open_dict(config):
        config.hydra.job.num, config.hydra.job.id = number, str(number)
    try:
        HydraConfig.instance().set_config(config)  # for ${hydra:...}
        return str(config.hydra.sweep.subdir)
    finally:
        HydraConfig.instance().cfg = before


def record_death(folder: Path, reason: str) -> None:
    """Write result.json for a job whose process was ended, unless that was after the job's end."""
    if (job := read_job(folder)).ended:
        return
    told = {"status": "failed", "reason": reason, "killed": True, "overrides": typed_overrides(folder)}
    write(folder / "result.json", json.dumps({**job.result, **told}, indent=2) + "\n")


def write(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8", newline="")
    part.replace(path)


def planned(sweep: Path) -> list[list[str]] | None:
    """What each job of the sweep is asked, in their order; None where a sweeper decides that as it goes."""
    plan = _plan(sweep)
    if plan is None or not plan.sweeper["_target_"].endswith(".BasicSweeper"):
        return None
    arguments = [f"{key}={value}" for key, value in (plan.sweeper.params or {}).items()] + as_typed(plan.overrides.task)
    (jobs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(arguments), None)
    return jobs


def searches(sweep: Path) -> bool:
    """Whether a sweeper decides on each job as it goes, for so many trials: one that fails is an answer too."""
    plan = _plan(sweep)
    return plan is not None and "n_trials" in plan.sweeper


def worst(direction: str) -> float:
    """What a search is told of a job that came to nothing: it goes on from there, and ends if it is told nothing."""
    return -math.inf if direction == "maximize" else math.inf


def left_to_run(sweep: Path) -> int | None:
    """How many jobs of the sweep have come to no outcome yet; None where that can't be told."""
    jobs = planned(sweep)
    if jobs is not None:
        return len(jobs) - sum(job.ended for job in jobs_of(sweep))
    if searches(sweep):
        return max(0, int(_plan(sweep).sweeper.n_trials) - sum(job.tried for job in jobs_of(sweep)))
    return None


def _plan(sweep: Path) -> Any:
    """Hydra's own part of the config that the sweep was started with."""
    return OmegaConf.load(sweep / PLAN).hydra if (sweep / PLAN).is_file() else None
