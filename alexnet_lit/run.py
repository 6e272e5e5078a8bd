"""One run: build everything, fit, test the best checkpoint once, and write what a run leaves behind."""

import json
import sys
import tempfile
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from alexnet_lit import distributed, watch
from alexnet_lit.checkpoints import STOP_SIGNALS
from alexnet_lit.config import continued_overrides, plain
from alexnet_lit.errors import Diverged, Interrupted, Mistake, reason_of
from alexnet_lit.factory import follow, read_checkpoint
from alexnet_lit.prepare import Parts, prepare
from alexnet_lit.result import Result, collect, write_result
from alexnet_lit.resume import program
from alexnet_lit.watch import log

_STOPPED = {128 + number for number in STOP_SIGNALS}  # exit statuses


def run(config: DictConfig, folder: Path) -> Result:
    """Train and test as `config` says, in `folder`; returns what result.json holds.

    On several devices this process checks everything, then starts a process for each and waits for them.
    Raises: Mistake for wrong input, before training starts. Whatever else goes wrong is raised once result.json and
    train.log tell of it.
    """
    first = distributed.rank() == 0
    watch.quiet_libraries()
    watch.open_log(folder / "train.log" if first else None, speak=first)
    try:
        parts = prepare(config, folder)
        if not distributed.is_rank():
            _announce(parts)
            parts = _ready(parts)  # a missing or broken file is told before anything starts
            log.info("images from %s", parts.data.origin)
            if parts.ranks > 1:
                return _spread(parts)
        return _train(parts)
    except Mistake as mistake:
        log.debug("error: %s", mistake)
        raise
    except Exception:
        watch.open_log(folder / "train.log", speak=False)  # each rank has something to say here
        log.debug("failed", exc_info=True)  # the terminal shows it when it arrives at the top
        raise
    finally:
        watch.close_log()


def _train(parts: Parts) -> Result:
    """Fit, test, and tell."""
    trainer, module, data = parts.trainer, parts.module, parts.data
    (parts.folder / "result.json").unlink(missing_ok=True)  # only a run that ended has one
    status, reason = "failed", ""
    try:
        trainer.fit(module, datamodule=data, ckpt_path=parts.resume and str(parts.resume))
        _test(parts)
        status = "completed"
    except Interrupted:
        status = "interrupted"
    except Diverged as outcome:
        status, reason = "diverged", str(outcome)
        log.warning("%s", outcome)
    except (KeyboardInterrupt, SystemExit):  # Lightning makes the one into the other
        status = "interrupted"
    except Exception as error:
        reason = reason_of(error)
        raise  # told by `run`
    finally:
        result = collect(
            status=status,
            folder=parts.folder,
            module=module,
            trainer=trainer,
            speed=parts.speed,
            device=parts.device,
            precision=str(parts.config.trainer.precision),
        )
        if reason:
            result["reason"] = reason
        if trainer.is_global_zero:
            write_result(result, parts.folder)
            parts.picture.draw()
            watch.tell_board(trainer.loggers, plain(parts.config), result)
    _conclude(parts, result)
    return result


def _test(parts: Parts) -> None:
    """Evaluate the best net, or the last where none was chosen, on the test images: once."""
    if parts.config.data.validate == "test" and "test/acc" in parts.module.published:
        return  # the last epoch ended with it, and the last net is the result
    if not parts.data.sizes["test"]:
        log.info("no test: the data has no test images, so test/acc and test/loss are null in result.json")
        return
    best = parts.checkpoints.best
    if parts.checkpoints.objective is not None and best.exists():
        parts.module.load_state_dict(read_checkpoint(best)["state_dict"])
    parts.trainer.test(parts.module, datamodule=parts.data, verbose=False)


def _ready(parts: Parts) -> Parts:
    """Have the data ready to be read. Where that leaves fewer images, all is built anew: the schedule is as long."""
    before = parts.data.found
    parts.data.prepare_data()
    if parts.data.found == before:
        return parts
    parts = prepare(follow(parts.config, parts.data), parts.folder)
    _announce_data(parts)
    return parts


def _announce(parts: Parts) -> None:
    """What is about to happen: device, data, net."""
    config = parts.config
    log.info("device  %s, precision %s", parts.device, config.trainer.precision)
    if config.trainer.precision in ("bf16-mixed", "bf16-true") and config.trainer.accelerator == "cpu":
        log.warning("precision %s: a CPU without bf16 units takes many times as long", config.trainer.precision)
    _announce_data(parts)
    if config.data.validate == "test":
        log.info("        looked at after each epoch: the test images (data.validate=test); nothing is chosen by them")
    log.info("run     %s", parts.folder)
    if parts.resume is not None:
        log.info("resume  %s", parts.resume)
        for override in continued_overrides(parts.folder):
            log.info("        with %s", override)
    size = config.data.image_size
    watch.show(watch.layers(parts.module.net, (parts.data.channels, size, size)))


def _announce_data(parts: Parts) -> None:
    """How many images there are, and how large."""
    sizes, px = parts.data.sizes, f"{parts.data.source_size} px -> {parts.config.data.image_size} px"
    images = f"{sizes['train']:,} training, {sizes['val']:,} validation, {sizes['test']:,} test images"
    log.info("data    %s of %d classes, %s", images, len(parts.data.classes), px)


def _conclude(parts: Parts, result: Result) -> None:
    """The closing table, and how to go on."""
    checkpoints = parts.checkpoints
    checkpoint = next((path for path in (checkpoints.best, checkpoints.last) if path.exists()), None)
    board = f"{program('tensorboard')} --logdir {parts.folder.parent}" if parts.config.logger else None
    sizes = [path.stat().st_size for path in checkpoints.folder.glob("*.ckpt")]
    disk = f"{sum(sizes) / 1e6:,.1f} MB in {len(sizes)} file{'s' * (len(sizes) > 1)}" if sizes else None
    places = {"checkpoint": checkpoint, "disk": disk, "run_dir": parts.folder, "tensorboard": board}
    watch.show(watch.closing({**result, **places}))
    if result["status"] == "diverged" and checkpoints.last.exists():
        log.info("last finite weights: %s", checkpoints.last)
    if result["status"] == "interrupted" and checkpoints.last.exists():
        log.info("continue with: %s train.py ckpt=%s", program("python"), parts.folder)


def _spread(parts: Parts) -> Result:
    """Run this config in one process a device, and wait."""
    answer = parts.folder / "result.json"
    answer.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "config.yaml"
        OmegaConf.save(OmegaConf.create(plain(parts.config)), file)
        watch.close_log()  # rank 0 writes train.log from here on
        code = distributed.launch(["-m", "alexnet_lit.run", str(parts.folder), str(file)], ranks=parts.ranks)
    if not answer.exists():  # stopped or killed before it could tell
        reason = f"one of {parts.ranks} processes ended with exit status {code} before the first could tell why"
        told = {"status": "interrupted"} if code in _STOPPED else {"status": "failed", "reason": reason}
        write_result({**told, "world_size": parts.ranks}, parts.folder)
    return Result(json.loads(answer.read_text()))


def main(folder: str, file: str) -> int:
    """What one of several ranks does. Returns its exit status; result.json says how the run ended."""
    try:
        run(OmegaConf.load(file), Path(folder))  # type: ignore[arg-type] # a mapping at the top
    except Mistake as mistake:
        print(f"error: {mistake}", file=sys.stderr)
        return 2
    finally:
        distributed.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
