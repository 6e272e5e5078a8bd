"""One run: build everything, fit, test the best checkpoint once, and write what a run leaves behind."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from alexnet_lit import budget, distributed, trial, watch
from alexnet_lit.announce import announce, announce_data, conclude, introduce
from alexnet_lit.config import plain
from alexnet_lit.errors import Diverged, Interrupted, Mistake, exits_raised, reason_of
from alexnet_lit.factory import follow, read_checkpoint
from alexnet_lit.prepare import Parts, message_to_ranks, prepare, ready
from alexnet_lit.result import Result, answered, collect, expect_result, forget_expected, keep_result
from alexnet_lit.watch import log


def run(config: DictConfig, folder: Path) -> Result:
    """Train and test as `config` says, in `folder`; returns what result.json holds.

    On several devices this process checks everything first. Then, as rank 0, it tells the other ranks; standing alone
    it starts a process for each device and waits for them.
    Raises: Mistake for wrong input, before training starts. Whatever else goes wrong is raised once result.json and
    train.log tell of it.
    """
    crew = distributed.join()
    with _telling(folder):
        config = budget.sized(config, folder)
        parts = prepare(config, folder)
        announce(parts)
        before, parts = parts, ready(parts)  # a missing or broken file is told before anything starts
        if parts is not before:
            announce_data(parts)
        log.info("images from %s", parts.data.origin)
        told = message_to_ranks(follow(config, parts.data), folder)
        told["config"]["trainer"]["precision"] = parts.config.trainer.precision  # the same on all ranks
        if crew is not None:
            crew.tell(told)
            crew.settle()
        expect_result(folder)
        try:
            return _spread(parts, told) if crew is None and parts.ranks > 1 else _train(parts)
        finally:
            forget_expected(folder)


def take_part() -> Result:
    """Do this rank's part in a run that another process leads; returns as `run`.

    Raises: SystemExit if there is nothing to do, or if another rank, which tells why, has ended the run.
    """
    crew = distributed.join()
    assert crew is not None
    told = crew.receive()
    folder = Path(told["folder"])
    with _telling(folder):
        try:
            with exits_raised():
                parts = prepare(OmegaConf.create(told["config"]), folder)
            if crew.place.local_rank == 0 and not crew.place.led:
                parts.data.prepare_data()  # are the images on this machine too?
        except Mistake as mistake:
            crew.settle(mistake)
        crew.settle()
        if "trial" in told:
            trial.try_out(parts, told["trial"])
            return {"status": "completed"}
        return _train(parts)


@contextmanager
def _telling(folder: Path) -> Iterator[None]:
    """Let rank 0 speak, on the screen and in train.log; let whichever rank fails first say why, and no other."""
    crew = distributed.join()
    first = crew is None or crew.place.rank == 0
    watch.quiet_libraries()
    watch.open_log(folder / "train.log" if first else None, speak=first)
    if crew is not None:
        crew.last_words = partial(_last_words, folder, crew.place.ranks)
    try:
        yield
    except Exception as error:
        if crew is not None:
            failure = crew.fail(error)
            if failure.killed and failure.teller == crew.place.rank:
                watch.open_log(folder / "train.log", speak=True)
                log.error("failed: %s", failure.reason)
                if failure.rank == 0:
                    _last_words(folder, crew.place.ranks, failure)
            if failure.rank != crew.place.rank:
                sys.exit(crew.status())
            error.add_note(f"(on rank {failure.rank} of {crew.place.ranks})")
        if not first:
            watch.open_log(folder / "train.log", speak=False)
        if not isinstance(error, Mistake):
            log.debug("failed", exc_info=True)  # the terminal shows it when it arrives at the top
        elif crew is None or not crew.place.led:  # else whoever leads says it
            log.debug("error: %s", error)
        raise
    finally:
        watch.close_log()


def _train(parts: Parts) -> Result:
    """Fit, test, and tell."""
    trainer, module, data = parts.trainer, parts.module, parts.data
    status: str = "failed"
    reason: dict[str, Any] = {}
    try:
        introduce(parts)
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
        crew = distributed.join()
        reason = _reason(crew.fail(error)) if crew else {"reason": reason_of(error)}
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
                    watch.tell_board(trainer.loggers, plain(parts.config), result)
            except Mistake as mistake:  # the disk
                if not reason:
                    raise
                log.warning("%s", mistake)  # beside what ended the run
    conclude(parts, result)
    return result


def _reason(failure: distributed.Failure) -> Result:
    """What result.json says of a rank that failed first, whichever rank writes it."""
    return {"reason": failure.reason} | ({"killed": True} if failure.killed else {})


def _test(parts: Parts) -> None:
    """Evaluate the best net, or the last where none was chosen, on the test images: once."""
    if parts.config.data.validate == "test" and "test/acc" in parts.module.published:
        return  # the last epoch ended with it, and the last net is the result
    if not parts.data.sizes["test"]:
        log.info("no test: the data has no test images, so test/acc and test/loss are null in result.json")
        return
    if parts.checkpoints.chosen:
        parts.module.load_state_dict(read_checkpoint(parts.checkpoints.best)["state_dict"])
    parts.trainer.test(parts.module, datamodule=parts.data, verbose=False)


def _spread(parts: Parts, told: dict[str, Any]) -> Result:
    """Do the job in one process a device, and wait."""
    watch.close_log()  # rank 0 writes train.log from here on
    ended = distributed.launch(told, ranks=parts.ranks, name=str(parts.folder))
    watch.open_log(parts.folder / "train.log", speak=True)
    failure = ended.failure
    if failure and failure.mistake:
        raise Mistake(failure.reason)
    if ended.asked and answered(parts.folder) is None:
        log.info("interrupted")
    elif failure:
        log.error("failed: %s", failure.reason)
    return _last_words(parts.folder, parts.ranks, failure, "interrupted" if ended.asked else "failed")


def _last_words(folder: Path, ranks: int, failure: distributed.Failure | None, status: str = "failed") -> Result:
    """What is left to say of a run that was ended before it could tell. `failure`: why, where that is known."""
    result = answered(folder) or {"status": status, "world_size": ranks}
    if result["status"] == "failed":
        result |= _reason(failure) if failure else {"reason": "one of its processes failed: see train.log"} | result
    keep_result(result, folder)
    return result
