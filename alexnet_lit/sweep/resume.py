"""Go on with a sweep in its folder: `resume_sweep=<sweep folder>` runs what is missing, failed or was stopped."""

from collections.abc import Sequence
from pathlib import Path

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from alexnet_lit.config import as_typed, claim_folder
from alexnet_lit.distributed.environment import rank_environment
from alexnet_lit.errors import UserError
from alexnet_lit.resume import MULTIRUN, quoted, typed_path
from alexnet_lit.sweep.jobs import PLAN, Job, jobs_of, left_to_run, searches

_KEY = "resume_sweep="


def named_sweep(arguments: Sequence[str]) -> Path | None:
    """The sweep's folder that `resume_sweep=` names; None where it is not typed. Raises: UserError if it is none."""
    typed = typed_path(arguments, _KEY)
    if typed is None:
        return None
    sweep = Path(typed).expanduser().resolve()
    if not (sweep / PLAN).is_file():
        run = (sweep / ".hydra").is_dir()
        way_out = f"continue a run with ckpt={typed}" if run else "name a folder below logs/sweeps"
        raise UserError(f"{_KEY}{typed}: is no sweep, as there is no {PLAN} in it: {way_out}")
    return sweep


def resume_arguments(sweep: Path, arguments: Sequence[str]) -> list[str]:
    """What to tell Hydra: what the sweep was started with, in the same folder. Jobs that came to an outcome stand.

    Raises: UserError if something typed beside it would make another sweep of it.
    """
    hydra = [argument for argument in arguments if argument.startswith(("hydra.", "hydra/"))]
    for argument in arguments:
        if argument not in {*MULTIRUN, *hydra} and not argument.startswith((_KEY, "paths.")):
            raise UserError(f"{argument}: a sweep goes on as it was started: leave it out, or start a new sweep")
    saved = as_typed(OmegaConf.load(sweep / PLAN).hydra.overrides)
    ours = ("hydra.sweep.dir=", "hydra.mode=")
    return [
        "--multirun",
        *saved["task"],
        *(override for override in saved["hydra"] if not override.startswith(ours)),
        *(_search(sweep) if searches(sweep) else []),
        *hydra,
        f"hydra.sweep.dir={quoted(sweep)}",
    ]


def _search(sweep: Path) -> list[str]:
    """The trials that are left, with numbers of their own, and with other random values than the first had."""
    first = 1 + max((job.number for job in jobs_of(sweep)), default=-1)
    number = f"${{alexnet_lit.later:{first},${{hydra.job.num}}}}"
    return [
        f"hydra.sweeper.n_trials={left_to_run(sweep)}",
        f"hydra.sweeper.sampler.seed={first}",
        f"hydra.sweep.subdir='${{alexnet_lit.job_folder:{number},${{hydra.job.override_dirname}}}}'",
    ]


def set_aside(sweep: Path) -> None:
    """Move what failed, or was stopped before it saved anything, to <sweep>/earlier: it starts anew in a new folder.

    Of a search what failed stays, and what was stopped goes: its trial isn't asked for again.
    """
    search = searches(sweep)
    for job in jobs_of(sweep):
        if not (job.tried if search else job.ended or job.can_go_on):
            _move(job, sweep / "earlier")


def _move(job: Job, to: Path) -> None:
    to.mkdir(exist_ok=True)
    attempt, place = 1, to / job.folder.name
    while place.exists():
        attempt += 1
        place = to / f"{job.folder.name}_{attempt}"
    job.folder.rename(place)


def record(folder: Path, *, mode: RunMode) -> str | None:
    """Where Hydra keeps a run's config, below its folder: nowhere if it has one, as a job goes on with that. Of several
    processes of a job rank 0 keeps it.

    Raises: UserError for a run, not a job of a sweep, that would be written over another.
    """
    if mode == RunMode.RUN:
        claim_folder(folder)
    return None if rank_environment().rank > 0 or (folder / ".hydra").exists() else ".hydra"


def _record(*, _root_: DictConfig) -> str | None:
    runtime = _root_.hydra.runtime
    if OmegaConf.is_missing(runtime, "output_dir"):
        return ".hydra"
    return record(Path(runtime.output_dir), mode=_root_.hydra.mode)


OmegaConf.register_new_resolver("alexnet_lit.later", lambda first, number: first + number, replace=True)
# Hydra asks twice, before it writes the first of these files; where it only shows its config there is no folder.
OmegaConf.register_new_resolver("alexnet_lit.record", _record, replace=True)
