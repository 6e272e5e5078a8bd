"""One run: build everything, fit, test the best checkpoint once, and write what a run leaves behind."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from alexnet_lit import budget, trial
from alexnet_lit.announce import log_data, log_origin, log_results, log_start
from alexnet_lit.callbacks.quiet import quiet_libraries
from alexnet_lit.callbacks.tensorboard import log_hparams
from alexnet_lit.config import plain
from alexnet_lit.console import close_log, log, open_log
from alexnet_lit.distributed.launch import Failure, join, launch
from alexnet_lit.distributed.launcher import launch
from alexnet_lit.distributed.rank_group import join
from alexnet_lit.distributed.store import Failure
from alexnet_lit.errors import Diverged, Interrupted, UserError, exits_raised, reason_of
from alexnet_lit.factory import infer_model_dims, read_checkpoint
from alexnet_lit.prepare import RunObjects, message_to_ranks, prepare, prepare_data
from alexnet_lit.result import Result, answered, collect, expect_result, forget_expected, keep_result
from alexnet_lit.terminal import close_log, log, open_log


def run(config: DictConfig, folder: Path) -> Result:
    """Train and test as `config` says, in `folder`; returns what result.json holds.

    On several devices this process checks everything first. Then, as rank 0, it tells the other ranks; standing alone
    it starts a process for each device and waits for them.
    Raises: UserError for wrong input, before training starts. Whatever else goes wrong is raised once result.json and
    train.log tell of it.
    """
    rank_group = join()
    with _telling(folder):
        config = budget.sized(config, folder)
        parts = prepare(config, folder)
        log_start(parts)
        before, parts = parts, prepare_data(parts)  # a missing or broken file is told before anything starts
        if parts is not before:
            log_data(parts)
        log.info("images from %s", parts.data.origin)
        told = message_to_ranks(infer_model_dims(config, parts.data), folder)
        told["config"]["trainer"]["precision"] = parts.config.trainer.precision  # the same on all ranks
        if rank_group is not None:
            rank_group.broadcast(told)
            rank_group.barrier()
        expect_result(folder)
        try:
            return _spread(parts, told) if rank_group is None and parts.ranks > 1 else _train(parts)
        finally:
            forget_expected(folder)


def run_as_rank() -> Result:
    """Do this rank's part in a run that another process leads; returns as `run`.

    Raises: SystemExit if there is nothing to do, or if another rank, which tells why, has ended the run.
    """
    rank_group = join()
    assert rank_group is not None
    told = rank_group.receive()
    folder = Path(told["folder"])
    with _telling(folder):
        try:
            with exits_raised():
                parts = prepare(OmegaConf.create(told["config"]), folder)
            if rank_group.place.local_rank == 0 and not rank_group.place.is_child:
                parts.data.prepare_data()  # are the images on this machine too?
        except UserError as mistake:
            rank_group.barrier(mistake)
        rank_group.barrier()
        if "trial" in told:
            trial.try_out(parts, told["trial"])
            return {"status": "completed"}
        return _train(parts)


@contextmanager
def _telling(folder: Path) -> Iterator[None]:
    """Let rank 0 speak, on the screen and in train.log; let whichever rank fails first say why, and no other."""
    rank_group = join()
    first = rank_group is None or rank_group.place.rank == 0
    quiet_libraries()
    open_log(folder / "train.log" if first else None, speak=first)
    if rank_group is not None:
        rank_group.on_abort = partial(_write_aborted_result, folder, rank_group.place.ranks)
    try:
        yield
    except Exception as error:
        if rank_group is not None:
            failure = rank_group.fail(error)
            if failure.killed and failure.teller == rank_group.place.rank:
                open_log(folder / "train.log", speak=True)
                log.error("failed: %s", failure.reason)
                if failure.rank == 0:
                    _write_aborted_result(folder, rank_group.place.ranks, failure)
            if failure.rank != rank_group.place.rank:
                sys.exit(failure.status)
            error.add_note(f"(on rank {failure.rank} of {rank_group.place.ranks})")
        if not first:
            open_log(folder / "train.log", speak=False)
        if not isinstance(error, UserError):
            log.debug("failed", exc_info=True)  # the terminal shows it when it arrives at the top
        elif rank_group is None or not rank_group.place.is_child:  # else whoever leads says it
            log.debug("error: %s", error)
        raise
    finally:
        close_log()


def _train(parts: RunObjects) -> Result:
    """Fit, test, and tell."""
    trainer, module, data = parts.trainer, parts.module, parts.data
    status: str = "failed"
    reason: dict[str, Any] = {}
    try:
        log_origin(parts)
        with exits_raised():
            trainer.fit(module, datamodule=data, ckpt_path=parts.resume and str(parts.resume))
            _test(parts)
        status = "completed"
    except Interrupted as outcome:
        status, reason = "interrupted", {"reason": str(outcome)}
    except Diverged as outcome:
        status, reason = "diverged", {"reason": str(outcome)}
        log.warning("%s", outcome)
    except KeyboardInterrupt:
        status = "interrupted"
    except Exception as error:
        rank_group = join()
        reason = _reason(rank_group.fail(error)) if rank_group else {"reason": reason_of(error)}
        raise  # told by `run`
    finally:
        result = collect(
            status=status,
            folder=parts.folder,
            module=module,
            trainer=trainer,
            speed=parts.speed,
            device=parts.device,
            precision=str(trainer.precision),
        )
        result |= reason
        if trainer.is_global_zero:
            try:
                if keep_result(result, parts.folder):
                    parts.picture.draw()
                    log_hparams(trainer.loggers, plain(parts.config), result)
            except UserError as mistake:  # the disk
                if not reason:
                    raise
                log.warning("%s", mistake)  # beside what ended the run
    log_results(parts, result)
    return result


def _reason(failure: Failure) -> Result:
    """What result.json says of a rank that failed first, whichever rank writes it."""
    return {"reason": failure.reason} | ({"killed": True} if failure.killed else {})


def _test(parts: RunObjects) -> None:
    """Evaluate the best net, or the last where none was chosen, on the test images: once."""
    if parts.config.data.validate == "test" and "test/acc" in parts.module.published:
        return  # the last epoch ended with it, and the last net is the result
    if not parts.data.sizes["test"]:
        log.info("no test: the data has no test images, so test/acc and test/loss are null in result.json")
        return
    if parts.checkpoints.chosen:
        parts.module.load_state_dict(read_checkpoint(parts.checkpoints.best)["state_dict"])
    parts.trainer.test(parts.module, datamodule=parts.data, verbose=False)


def _spread(parts: RunObjects, told: dict[str, Any]) -> Result:
    """Do the job in one process a device, and wait."""
    close_log()  # rank 0 writes train.log from here on
    ended = launch(told, ranks=parts.ranks, name=str(parts.folder))
    open_log(parts.folder / "train.log", speak=True)
    failure = ended.failure
    if failure and failure.mistake:
        raise UserError(failure.reason)
    if ended.asked and answered(parts.folder) is None:
        log.info("interrupted")
    elif failure:
        log.error("failed: %s", failure.reason)
    return _write_aborted_result(parts.folder, parts.ranks, failure, "interrupted" if ended.asked else "failed")


def _write_aborted_result(folder: Path, ranks: int, failure: Failure | None, status: str = "failed") -> Result:
    """What is left to say of a run that was ended before it could tell. `failure`: why, where that is known."""
    result = answered(folder) or {"status": status, "world_size": ranks}
    if result["status"] == "failed":
        result |= _reason(failure) if failure else {"reason": "one of its processes failed: see train.log"} | result
    keep_result(result, folder)
    return result
