"""The jobs of a sweep, read from their folders: their results, and which to run when it is resumed."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from alexnet_lit.config import PLAN, claim_folder, quoted, read_result, to_plain, typed_overrides, typed_path
from alexnet_lit.errors import UserError

MULTIRUN = {"-m", "--multirun"}  # Hydra's options for a sweep
REPEATS = ("seed", "data.fold")  # runs that differ in nothing else are the same experiment
_PYTHON = {"True": "true", "False": "false", "None": "null"}  # how Hydra writes the values of a sweep
_KEY = "resume_sweep="
_SET_BY_RESUME = ("hydra.sweep.dir=", "hydra.mode=", "hydra.callbacks.sweep.")
_LAUNCHER = ("hydra/launcher=", "hydra.launcher.")  # a launcher, and keys of it


@dataclass(frozen=True)
class Job:
    """A job's overrides, key by key, and its result.json; empty if there is none."""

    number: int
    folder: Path
    overrides: dict[str, str]
    result: dict[str, Any]

    @property
    def status(self) -> str:
        """That of result.json; without one the job still runs, or was killed before it could write it."""
        return str(self.result.get("status", "unfinished"))

    @property
    def reason(self) -> str:
        """Why it has no scores, in one line; else empty."""
        return str(self.result.get("reason") or ("" if self.result else "no result.json: at work still, or killed"))

    @property
    def ended(self) -> bool:
        """Whether it is final. A diverged run is: repeating it until one converges would be selection."""
        return self.status in ("completed", "diverged")

    @property
    def can_resume(self) -> bool:
        """Whether it was stopped in training, or a process of it was killed, and there is a last.ckpt."""
        saved = (self.folder / "checkpoints" / "last.ckpt").is_file()
        return saved and (self.status in ("interrupted", "unfinished") or bool(self.result.get("killed")))


def key_by_key(overrides: Iterable[str]) -> dict[str, str]:
    """`["+model.lrn=True", "seed=0"]` -> `{"model.lrn": "true", "seed": "0"}`."""
    parts = [override.lstrip("+").partition("=") for override in overrides]
    return {key: _PYTHON.get(value, value) for key, _, value in parts}


def jobs_of(sweep: Path) -> list[Job]:
    """All jobs that have a folder, by number."""
    folders = (path for path in sweep.iterdir() if path.is_dir() and path.name.partition("_")[0].isdigit())
    return sorted((read_job(folder) for folder in folders), key=lambda job: (job.number, job.folder.name))


def read_job(folder: Path) -> Job:
    """The job in `folder`, <number>_<overrides>; a run that is no job of a sweep counts as number 0."""
    number, overrides = folder.name.partition("_")[0], key_by_key(typed_overrides(folder))
    return Job(int(number) if number.isdigit() else 0, folder, overrides, read_result(folder))


def is_search(sweep: Path) -> bool:
    """Whether the sweep is a search, whose trials depend on the results of earlier ones."""
    return "n_trials" in OmegaConf.load(sweep / PLAN).hydra.sweeper


def unfinished_jobs(sweep: Path) -> list[Job]:
    """The jobs that have a folder and no result. In a search a failure is a result, from which it has learned."""
    search = is_search(sweep)
    return [job for job in jobs_of(sweep) if not (job.ended or (search and job.status == "failed"))]


def move_failed_jobs(sweep: Path) -> None:
    """Move jobs that failed, or were stopped before they saved anything, to <sweep>/earlier/<now>: they start anew.

    In a search also all that were stopped: their trials are not repeated.
    """
    search, earlier = is_search(sweep), sweep / "earlier" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    for job in unfinished_jobs(sweep):
        if search or not job.can_resume:
            earlier.mkdir(parents=True, exist_ok=True)
            job.folder.rename(earlier / job.folder.name)


def worst(direction: str) -> float:
    """The score of a job that has none, for a search: without one it would end."""
    return -math.inf if direction == "maximize" else math.inf


def typed_sweep(arguments: Sequence[str]) -> Path | None:
    """The sweep's folder that `resume_sweep=` names; None where it is not typed. Raises: UserError if it is none."""
    typed = typed_path(arguments, _KEY)
    if typed is None:
        return None
    sweep = Path(typed).expanduser().resolve()
    if not (sweep / PLAN).is_file():
        run = (sweep / ".hydra").is_dir()
        hint = f"continue a run with ckpt={typed}" if run else "name a folder below logs/sweeps"
        raise UserError(f"{_KEY}{typed}: is no sweep, as there is no {PLAN} in it: {hint}")
    return sweep


def resume_arguments(sweep: Path, arguments: Sequence[str]) -> list[str]:
    """Hydra's arguments for resuming the sweep: those that it was started with, in the same folder.

    Raises: UserError if something typed beside resume_sweep= would make another sweep of it.
    """
    hydra = [argument for argument in arguments if argument.startswith(("hydra.", "hydra/"))]
    for argument in arguments:
        if argument not in {*MULTIRUN, *hydra} and not argument.startswith((_KEY, "paths.")):
            raise UserError(f"{argument}: a sweep goes on as it was started: leave it out, or start a new sweep")
    plan = OmegaConf.load(sweep / PLAN).hydra
    saved = to_plain(plan.overrides, raw=True)
    places = [f"--config-dir={each.path}" for each in plan.runtime.config_sources if each.provider == "command-line"]
    changed = _LAUNCHER if any(each.startswith(_LAUNCHER[0]) for each in hydra) else ()
    kept = [each for each in saved["hydra"] if not each.startswith((*_SET_BY_RESUME, *changed))]
    own = [f"hydra.sweep.dir={quoted(sweep)}", "hydra.callbacks.sweep.resumes=true"]
    return ["--multirun", *places, *saved["task"], *kept, *hydra, *own]


def record(*, _root_: DictConfig) -> str | None:
    """hydra.output_subdir of a run: ".hydra", or None for a resumed job, which has it already.

    Raises: UserError for a run, not a job of a sweep, in a folder that holds results.
    """
    if OmegaConf.is_missing(_root_.hydra.runtime, "output_dir"):  # Hydra only shows its config
        return ".hydra"
    folder = Path(_root_.hydra.runtime.output_dir)
    if _root_.hydra.mode == RunMode.RUN:
        claim_folder(folder, "hydra.run.dir")
    return None if (folder / ".hydra").exists() else ".hydra"


OmegaConf.register_new_resolver("alexnet_lit.record", record, replace=True)
