"""The command line of training: from typed arguments to runs, and from errors to one readable line and an exit status.

Imports no torch before there is something to train.
"""

import errno
import os
import shutil
import sys
import traceback
from argparse import Namespace
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alexnet_lit import config as composition
from alexnet_lit.config import explain, quoted
from alexnet_lit.distributed.environment import RankEnvironment, rank_environment
from alexnet_lit.errors import UserError, reason_of, unwritten
from alexnet_lit.sweep.jobs import read_job, resume_arguments, typed_sweep, worst
from alexnet_lit.sweep.signals import process_restored, stop_requested, worker_signals
from alexnet_lit.sweep.start import SweepCallback, SweepRefused, starts_sweep, sweep_arguments
from alexnet_lit.sweep.summary import print_summary, update_summary
from alexnet_lit.terminal import tolerant_output

Result = dict[str, Any]
EXIT = {"completed": 0, "failed": 1, "diverged": 1, "unfinished": 1, "interrupted": 130}
_SHOW = ("help", "hydra_help", "cfg", "resolve", "info", "shell_completion")  # Hydra's options that run nothing
_UNWRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG}
_INPUT_ERRORS = (UserError, HydraException, OmegaConfBaseException)


@tolerant_output(exits=False)
def main() -> int:
    """Run what sys.argv asks for. Returns the exit status: 0, 1 failed, 2 wrong input, 130 interrupted.

    Under torchrun or srun rank 0 does so, and sends the config to the others.
    """
    environment = rank_environment()
    return _run_command(environment) if environment.ranks == 1 else _run_rank(environment)


def _run_rank(environment: RankEnvironment) -> int:
    """Run one of several processes. All of them return the same status."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch would report another rank's end, which reports itself
    status = 1
    try:
        from alexnet_lit.distributed.launch import join
        from alexnet_lit.run import run_as_rank

        rank_group = join()
        assert rank_group is not None
        try:
            leads = environment.rank == 0 and not environment.is_child  # composes the config and broadcasts it
            status = _run_command(environment) if leads else EXIT[run_as_rank()["status"]]
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else status
            raise
        finally:
            rank_group.leave(status)
    except UserError as error:
        if not environment.is_child:  # else the leader prints it
            print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return EXIT["interrupted"]
    return status


def _run_command(environment: RankEnvironment) -> int:
    """Run the command line in rank 0 or the only process: errors become one line and an exit status."""
    full_errors = os.environ.get("HYDRA_FULL_ERROR") == "1"
    program, *typed = sys.argv
    # Without HYDRA_FULL_ERROR Hydra prints errors itself, in several lines, and exits.
    with mock.patch.dict(os.environ, HYDRA_FULL_ERROR="1"), mock.patch.object(sys, "argv", [program]):
        try:
            return _dispatch(typed, environment)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return EXIT["interrupted"]
        except _INPUT_ERRORS as error:
            if full_errors:
                raise
            print(f"error: {explain(error)}", file=sys.stderr)
        except OSError as error:
            if full_errors or error.errno not in _UNWRITTEN:
                raise
            print(f"error: {unwritten(Path(error.filename or 'paths.logs'), error)}", file=sys.stderr)
        return 2


def _dispatch(typed: Sequence[str], environment: RankEnvironment) -> int:
    """Turn typed arguments into Hydra's, for a resumed run or sweep those of its saved config, and run Hydra."""
    options, others = get_args_parser().parse_known_args(typed)
    shows = any(getattr(options, name) for name in _SHOW)
    overrides = [composition.normalise_choice(override) for override in (*options.overrides, *others)]
    flags = [argument for argument in typed if argument not in (*options.overrides, *others)]
    arguments = [*flags, *overrides]  # Hydra reads its options before or after all overrides, not between them
    sweep, ckpt = typed_sweep(arguments), composition.typed_checkpoint(arguments)
    if environment.ranks > 1 and (sweep or starts_sweep(arguments)):
        hint = f"start it without {environment.launcher}, with trainer.devices={environment.local_ranks}"
        raise UserError(f"-m: a sweep starts the processes of each run by itself: {hint}")
    if sweep:
        arguments = resume_arguments(sweep, arguments)
    elif starts_sweep(arguments):
        if ckpt:
            raise UserError(f"ckpt={ckpt}: continues one run: leave out -m and sweep=")
        arguments = [*flags, *sweep_arguments(overrides)]
    else:
        typed, run = composition.continued_run(overrides)
        arguments = [*flags, *typed]
        if run:
            groups = {override.lstrip("+~").partition("=")[0].partition(".")[0] for override in overrides}
            # trainer and callbacks decide when a run ends.
            done = composition.read_result(run).get("status") == "completed" and not groups & {"trainer", "callbacks"}
            if done and not shows:
                print(f"{run} is complete: trainer.max_epochs=... beside ckpt= makes it longer")
                return 0
            # The config that it last had takes the place of conf/, so that overrides of its start and of earlier
            # continuations hold. Each continuation keeps a config of its own.
            arguments = [
                *("--config-path", str(composition.hydra_folders(run)[-1]), "--config-name", "config"),
                *arguments,
                f"hydra.run.dir={quoted(run)}",
                f"hydra.output_subdir=.hydra/{'' if shows else composition.next_hydra_folder(run).name}",
                *("hydra/job_logging=none", "hydra/hydra_logging=none"),
            ]
    sys.argv += arguments
    return _run_hydra(options, shows=shows)


def _run_hydra(options: Namespace, *, shows: bool) -> int:
    """Let Hydra compose each job's config and start it, or show something; the worst exit status of all."""
    statuses: list[str] = []
    failures: list[Exception] = []  # raised at the end, with their own causes: Hydra would add lines
    stopped = False

    @hydra.main(version_base="1.3", config_path=str(composition.CONF), config_name="train")
    def application(config: DictConfig) -> float | None:
        settings = HydraConfig.get()
        folder = Path(settings.runtime.output_dir)
        if settings.mode == RunMode.MULTIRUN:
            return score(config, run_job(config, folder))
        from alexnet_lit.run import run  # imports torch: only if there is something to train

        try:
            statuses.append(run(config, folder)["status"])
        except Exception as error:
            failures.append(error)
        finally:
            if (folder.parent / "summary.csv").is_file():  # ckpt= continued one job of a sweep
                update_summary(folder.parent)
        return None

    sanitized = Hydra.get_sanitized_cfg

    def resolved(hydra_: Hydra, cfg: DictConfig, cfg_type: str) -> DictConfig:
        if options.resolve and cfg_type != "job":  # before Hydra removes nodes that its own part refers to
            OmegaConf.resolve(cfg)
        return sanitized(hydra_, cfg, cfg_type)

    composition.forget_folders(only_named=shows)
    try:
        with mock.patch.object(Hydra, "get_sanitized_cfg", resolved):
            application()
    except SweepRefused as refused:
        failures.append(refused.error)
    except ValueError as error:
        if not shows:
            raise
        failures.append(explain(error))  # options that don't go together
    except KeyboardInterrupt:
        stopped = True
        raise
    finally:
        statuses += _finish_sweep(stopped=stopped)
    if failures:
        raise failures[0]
    return max((EXIT[status] for status in statuses), default=0)


def _finish_sweep(*, stopped: bool) -> list[str]:
    """Print the summary of the sweep, if there was one; returns its jobs' statuses. Removes a folder without jobs."""
    folder = SweepCallback.folder
    SweepCallback.forget()
    if folder:
        composition.remove_refused(folder)
    if not folder or not folder.exists():
        return []
    update_summary(folder)  # a job that was killed has not done so
    return print_summary(folder, stopped=stopped)


@tolerant_output(exits=False)  # in a launcher's worker process too
def run_job(config: DictConfig, folder: Path) -> Result:
    """One job of a sweep, in this process or a launcher's. A failure is recorded, and the next job starts all the same.

    In a sweep that is resumed, a job that has ended stays as it is, and one that was stopped goes on.
    """
    job, sweep = read_job(folder), folder.parent
    if job.ended:
        print(f"job {job.number}  {folder.name}  {job.status} before", flush=True)
        return job.result
    if stop_requested(sweep):
        if {path.name for path in folder.iterdir()} <= {".hydra"}:  # nothing of an earlier start
            shutil.rmtree(folder)
        return {"status": "unfinished"}
    in_worker = SweepCallback.folder is None  # another process started the sweep
    print(f"{'' if in_worker else chr(10)}job {job.number}  {folder.name}", flush=True)
    if job.can_resume:
        config = OmegaConf.load(composition.hydra_folders(folder)[-1] / "config.yaml")  # type: ignore[assignment] # a mapping at the top
        config.ckpt = str(folder)
    result: Result = {"status": "interrupted"}
    try:
        with suppress(KeyboardInterrupt), worker_signals(sweep) if in_worker else nullcontext(), process_restored():
            result = _run_recorded(config, folder, fresh=not job.can_resume)
    finally:
        update_summary(sweep)
    if in_worker:  # an interruption is a result there, as other jobs continue
        job = read_job(folder)
        print(f"job {job.number}  {folder.name}  {job.status}{job.reason and ': '}{job.reason}", flush=True)
    elif result["status"] == "interrupted":
        raise KeyboardInterrupt
    return result


def _run_recorded(config: DictConfig, folder: Path, *, fresh: bool) -> Result:
    """Run it, and write result.json for a failure, unless it can still be resumed from its last checkpoint."""
    from alexnet_lit.run import run, write_result

    try:
        return run(config, folder)
    except _INPUT_ERRORS as error:
        reason = str(explain(error))
        print(f"error: {reason}", file=sys.stderr)
    except Exception as error:
        traceback.print_exception(error)
        reason = reason_of(error)
    failed = {"status": "failed", "reason": reason, "overrides": composition.typed_overrides(folder)}
    if fresh and not (folder / composition.RESULT).exists():
        write_result(failed, folder)
    return failed


def score(config: DictConfig, result: Result) -> float | None:
    """A job's score for a search: the objective of best.ckpt, else of the last net; without any, the worst there is."""
    if config.objective is None:
        return None
    value = result.get(f"{config.objective}_best", result.get(config.objective))
    if value is None or result["status"] not in ("completed", "interrupted"):
        return worst(config.direction)
    return float(value)


if __name__ == "__main__":
    sys.exit(main())
