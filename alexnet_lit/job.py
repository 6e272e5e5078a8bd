"""One job: what Hydra calls with a composed config, alone or as one of a sweep, in this process or another."""

import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alexnet_lit import config as composition
from alexnet_lit import sweep
from alexnet_lit.distributed.environment import rank_environment
from alexnet_lit.errors import UserError, reason_of
from alexnet_lit.mistakes import explain
from alexnet_lit.terminal import printing

Result = dict[str, Any]


def alone(config: DictConfig, folder: Path) -> Result:
    """One run. A mistake that is found before training leaves no folder behind, or a run as it was."""
    from alexnet_lit.run import (
        run,  # torch is imported rank_environment, once it is sure that there is something to train
    )

    composition.register_old_resolvers(folder)
    try:
        return run(config, folder)
    except UserError:
        composition.discard_folder(folder)
        composition.discard_continuation(folder / str(HydraConfig.get().output_subdir))
        raise
    finally:
        if (folder.parent / "summary.csv").is_file():  # ckpt= continued one job of a sweep
            sweep.update(folder.parent)


@printing(ends=False)  # in a process that isn't the person's too
def of_sweep(config: DictConfig, folder: Path) -> Result:
    """One run of a sweep: what goes wrong is its own affair, and the next one starts all the same; Ctrl-C ends both.

    In a sweep that goes on, what has ended is left as it is, and what was stopped goes on as it was started. Where
    srun has started several processes for it, all of them come here.
    """
    if rank_environment().ranks == 1:
        return _of_sweep(config, folder)
    from alexnet_lit.distributed.rank_group import join
    from alexnet_lit.run import run_as_rank

    rank_group = join()
    assert rank_group is not None
    result: Result = {"status": "failed"}
    try:
        result = _of_sweep(config, folder) if rank_group.place.is_leader else run_as_rank()
    finally:
        rank_group.leave(0 if result["status"] == "completed" else 1)
    return result


def _of_sweep(config: DictConfig, folder: Path) -> Result:
    job = sweep.read_job(folder)
    if job.ended:
        print(f"job {job.number}  {folder.name}  {job.status} before", flush=True)
        return job.result
    if sweep.stopping(folder.parent):
        sweep.leave_out(folder)
        return {"status": "unfinished"}
    ours = sweep.Started.folder() is not None  # the process that the person started
    print(f"{chr(10) * ours}job {job.number}  {folder.name}", flush=True)  # beside others a line is a line
    if job.can_go_on:
        composition.register_old_resolvers(folder)
        config = OmegaConf.load(composition.last_record(folder) / "config.yaml")  # type: ignore[assignment] # a mapping at the top
        config.ckpt = str(folder)
    try:
        if not ours:
            return _elsewhere(config, folder, fresh=not job.can_go_on)
        with sweep.undisturbed():
            result = _guarded(config, folder, fresh=not job.can_go_on)
    finally:
        sweep.update(folder.parent)
    if result["status"] == "interrupted":
        raise KeyboardInterrupt
    return result


def _elsewhere(config: DictConfig, folder: Path, *, fresh: bool) -> Result:
    """Run it in a process that isn't the person's: to be interrupted is a result there, as others go on."""
    result = {"status": "interrupted"}
    with suppress(KeyboardInterrupt), sweep.at_work(), sweep.undisturbed():
        result = _guarded(config, folder, fresh=fresh)
    told = sweep.read_job(folder)
    print(f"job {told.number}  {folder.name}  {told.status}{told.reason and ': '}{told.reason}", flush=True)
    return result


def score(config: DictConfig, result: Result) -> float | None:
    """What a sweeper that searches is told: the objective where best.ckpt was chosen, else where the run ended. Of a
    job that came to none, the worst that there is.
    """
    if config.objective is None:
        return None
    value = result.get(f"{config.objective}_best", result.get(config.objective))
    if value is None or result["status"] not in ("completed", "interrupted"):
        return sweep.worst(config.direction)
    return float(value)


def _guarded(config: DictConfig, folder: Path, *, fresh: bool) -> Result:
    """Run it, and record a failure, unless it can still go on from its last checkpoint."""
    from alexnet_lit.run import run, write_result

    try:
        return run(config, folder)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        print(line(error), file=sys.stderr)
        reason = line(error).removeprefix("error: ")
    except Exception as error:
        traceback.print_exception(error)
        reason = reason_of(error)
    failed = {"status": "failed", "reason": reason, "overrides": composition.typed_overrides(folder)}
    if fresh and not (folder / "result.json").exists():
        write_result(failed, folder)
    return failed


def line(error: Exception) -> str:
    """A person's mistake, as the terminal shows it."""
    mistake = error if isinstance(error, UserError) else explain(error, composition.suggest)
    return f"error: {mistake}"
