"""The jobs of a sweep: those that have folders, those planned, and which of them to run when it is resumed."""

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from alexnet_lit.config import PLAN, RESULT, as_typed, claim_folder, quoted, typed_overrides, typed_path, under_way
from alexnet_lit.distributed.environment import rank_environment
from alexnet_lit.errors import UserError

MULTIRUN = {"-m", "--multirun"}  # Hydra's options for a sweep
REPEATS = ("seed", "data.fold")  # runs that differ in nothing else are the same experiment
_PYTHON = {"True": "true", "False": "false", "None": "null"}  # how Hydra writes the values of a sweep
_KEY = "resume_sweep="
_held: list[FileLock] = []


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
        """Whether its outcome stands. Diverged is one: to try until a run does not diverge would be choosing."""
        return self.status in ("completed", "diverged")

    @property
    def tried(self) -> bool:
        """Whether a search has learned from it."""
        return self.ended or self.status == "failed"

    @property
    def can_go_on(self) -> bool:
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
    number, file = folder.name.partition("_")[0], folder / RESULT
    result = json.loads(file.read_text(encoding="utf-8")) if file.is_file() and not under_way(folder) else {}
    return Job(int(number) if number.isdigit() else 0, folder, key_by_key(typed_overrides(folder)), result)


def record_death(sweep: Path, number: int, reason: str) -> None:
    """Write result.json for a job whose process was killed, unless it had ended, or had not begun."""
    for job in jobs_of(sweep):
        if job.number == number and not job.ended:
            died = {"status": "failed", "reason": reason, "killed": True, "overrides": typed_overrides(job.folder)}
            write(job.folder / RESULT, json.dumps({**job.result, **died}, indent=2) + "\n")


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # jobs that end at once write the same summary
    part.write_text(text, encoding="utf-8", newline="")
    part.replace(path)


def _plan(sweep: Path) -> Any:
    """Hydra's own part of the config that the sweep was started with."""
    return OmegaConf.load(sweep / PLAN).hydra


def planned(sweep: Path) -> list[list[str]] | None:
    """The overrides of each job of the sweep, in order; None where a sweeper decides them as it goes."""
    plan = _plan(sweep)
    if not plan.sweeper["_target_"].endswith(".BasicSweeper"):
        return None
    arguments = [f"{key}={value}" for key, value in (plan.sweeper.params or {}).items()] + as_typed(plan.overrides.task)
    (jobs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(arguments), None)
    return jobs


def searches(sweep: Path) -> bool:
    """Whether the sweeper chooses each of a number of trials by those before: one that fails counts too."""
    return "n_trials" in _plan(sweep).sweeper


def worst(direction: str) -> float:
    """The score of a job that has none, for a search: without one it would end."""
    return -math.inf if direction == "maximize" else math.inf


def left_to_run(sweep: Path) -> int | None:
    """How many jobs of the sweep have no outcome yet; None where that can't be known."""
    jobs = planned(sweep)
    if jobs is not None:
        return len(jobs) - sum(job.ended for job in jobs_of(sweep))
    if searches(sweep):
        return max(0, int(_plan(sweep).sweeper.n_trials) - sum(job.tried for job in jobs_of(sweep)))
    return None


def hold(sweep: Path) -> None:
    """Lock the sweep until `release` or the end of the process. Raises: UserError if another process has it."""
    lock = FileLock(sweep / ".running.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{sweep}: this sweep is still running: wait for its end, or stop it with Ctrl-C") from None
    except (OSError, NotImplementedError):  # a file system without locks
        pass
    _held.append(lock)


def is_held() -> bool:
    """Whether this process resumes a sweep."""
    return bool(_held)


def release() -> None:
    """Release the sweep that this process holds."""
    while _held:
        _held.pop().release()


def named_sweep(arguments: Sequence[str]) -> Path | None:
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
    saved = as_typed(_plan(sweep).overrides)
    trials = []
    if searches(sweep):  # those left, with numbers of their own, and with other random values than the first had
        first = 1 + max((job.number for job in jobs_of(sweep)), default=-1)
        trials = [
            f"hydra.sweeper.n_trials={left_to_run(sweep)}",
            f"hydra.sweeper.sampler.seed={first}",
            f"hydra.sweep.subdir='${{alexnet_lit.job_folder:${{hydra.job.num}},${{hydra.job.override_dirname}},{first}}}'",
        ]
    kept = [each for each in saved["hydra"] if not each.startswith(("hydra.sweep.dir=", "hydra.mode="))]
    return ["--multirun", *saved["task"], *kept, *trials, *hydra, f"hydra.sweep.dir={quoted(sweep)}"]


def set_aside(sweep: Path) -> None:
    """Move what failed, or was stopped before it saved anything, to <sweep>/earlier/<now>: it starts anew.

    Of a search what failed stays, and what was stopped goes: its trial isn't asked for again.
    """
    search, earlier = searches(sweep), sweep / "earlier" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    for job in jobs_of(sweep):
        if not (job.tried if search else job.ended or job.can_go_on):
            earlier.mkdir(parents=True, exist_ok=True)
            job.folder.rename(earlier / job.folder.name)


def record(*, _root_: DictConfig) -> str | None:
    """Where Hydra keeps a run's config, below its folder. None: nowhere, as a job that goes on has one already, and of
    several processes of a job rank 0 writes it.

    Raises: UserError for a run, not a job of a sweep, in a folder that holds results.
    """
    if OmegaConf.is_missing(_root_.hydra.runtime, "output_dir"):  # Hydra only shows its config
        return ".hydra"
    folder = Path(_root_.hydra.runtime.output_dir)
    if _root_.hydra.mode == RunMode.RUN:
        claim_folder(folder, "hydra.run.dir")
    return None if rank_environment().rank > 0 or (folder / ".hydra").exists() else ".hydra"


OmegaConf.register_new_resolver("alexnet_lit.record", record, replace=True)
