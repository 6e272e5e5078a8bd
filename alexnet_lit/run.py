"""One run: build everything, fit, test the best checkpoint once, and write result.json."""

import json
import math
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from alexnet_lit import config as composition
from alexnet_lit import terminal
from alexnet_lit.callbacks.ema import MovingAverage
from alexnet_lit.callbacks.loggers import TensorBoard
from alexnet_lit.callbacks.summary import layer_table, result_text
from alexnet_lit.checkpoint import read_checkpoint
from alexnet_lit.config import as_override, read_result, to_plain
from alexnet_lit.data import ImageData
from alexnet_lit.distributed.environment import rank_environment
from alexnet_lit.distributed.launch import Failure, join, launch
from alexnet_lit.errors import Diverged, Interrupted, UserError, exits_raised, reason_of, writing
from alexnet_lit.factory import epoch_batches, infer_model_dims, limited_images
from alexnet_lit.nets.kernels.native import bf16_units
from alexnet_lit.prepare import RunObjects, build_trainer, prepare
from alexnet_lit.terminal import close_log, log, log_table, open_log, plain_text, quiet_libraries, train_command

Result = dict[str, Any]


def run(config: DictConfig, folder: Path) -> Result:
    """Train and test as `config` says, in `folder`; returns what result.json holds.

    On several devices this process checks everything first. Started by torchrun or srun it is rank 0 and broadcasts the
    config; standing alone it starts a process for each device and waits for them.
    Raises: UserError for wrong input, before training starts; any other exception once result.json is written.
    """
    began = time.time()
    rank_group = join()
    with _log_and_report(folder), composition.lock_run(folder):
        objects = prepare(config, folder)
        found = objects.data.found
        objects.data.prepare_data()  # a missing or broken file is an error before anything starts
        if objects.data.found != found:  # fewer images than a folder seemed to hold: a schedule of another length
            objects = prepare(infer_model_dims(objects.config, objects.data), folder)
        _log_start(objects)
        if objects.config.model.get("compile"):
            torch.compiler.reset()  # else nets of earlier runs in this process count as shapes of this one's
        shared = objects.config.copy()
        shared.trainer.devices = "auto"  # as many as each machine has ranks
        # In YAML, as keys may be numbers, which JSON knows none of.
        message = {"config": OmegaConf.to_yaml(shared, resolve=True), "folder": str(folder), "began": began}
        if rank_group is not None:
            rank_group.broadcast(message)
            rank_group.barrier()
        with _mark_result_outdated(folder):
            if rank_group is None and objects.ranks > 1:
                return _launch_ranks(objects, message)
            return _fit_and_test(objects, began)


def fit(config: DictConfig) -> Result:
    """Train and test as `python train.py` does, in a new run folder below config.paths.logs, or in that of the run that
    `compose("ckpt=...")` named; returns what `run` returns, and the run's `folder`.

    Seeds all random generators with config.seed. Raises: UserError for wrong input, and leaves no folder then.
    """
    overrides = composition.overrides_of(config)
    if config.ckpt is None:
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        folder = Path(composition.run_folder(f"{config.paths.logs}/runs", stamp, config.name))
        record = folder / ".hydra"
    else:
        if (found := composition.run_of(Path(config.ckpt).expanduser())) is None:
            raise UserError(f"ckpt={config.ckpt}: is of no run: name a run folder, or a .ckpt file of one")
        folder = found
        before: Any = OmegaConf.load(composition.hydra_folders(folder)[-1] / "config.yaml")
        same = all(before.get(key) == config.get(key) for key in ("trainer", "callbacks"))
        if same and read_result(folder).get("status") == "completed":
            raise UserError(f"ckpt={config.ckpt}: is complete: trainer.max_epochs=... beside ckpt= makes it longer")
        record = composition.next_hydra_folder(folder)
    record.mkdir(exist_ok=True)
    OmegaConf.save(config, record / "config.yaml")  # resuming starts from this
    OmegaConf.save(overrides, record / "overrides.yaml")
    return {**run(config, folder), "folder": str(folder)}


def run_as_rank() -> Result:
    """This rank's part in a run that another process leads; returns as `run`.

    Raises: SystemExit if there is nothing to do, or if another rank, which reports it, has ended the run.
    """
    rank_group = join()
    assert rank_group is not None
    message = rank_group.receive()
    folder = Path(message["folder"])
    with _log_and_report(folder):
        try:
            with exits_raised():
                objects = prepare(OmegaConf.create(message["config"]), folder)
            if rank_environment().local_rank == 0 and not rank_environment().is_child:
                objects.data.prepare_data()  # are the images on this machine too?
        except UserError as error:
            rank_group.barrier(error)
        rank_group.barrier()
        return _fit_and_test(objects, message["began"])


@contextmanager
def _log_and_report(folder: Path) -> Iterator[None]:
    """Log on rank 0, to the screen and train.log; let the rank that fails first report why, and no other."""
    rank_group = join()
    environment = rank_environment()
    first = environment.rank == 0
    quiet_libraries()
    if rank_group is not None:
        rank_group.on_abort = partial(_write_aborted_result, folder, environment.ranks)
    try:
        open_log(folder / "train.log" if first else None, speak=first)
        yield
    except Exception as error:
        if rank_group is not None:
            failure = rank_group.fail(error)
            if failure.killed and failure.reporter == environment.rank:
                open_log(folder / "train.log" if folder.is_dir() else None, speak=True)
                log.error("failed: %s", failure.reason)
                if failure.rank == 0:
                    _write_aborted_result(folder, environment.ranks, failure)
            if failure.rank != environment.rank:
                sys.exit(2 if failure.mistake else 1)
            error.add_note(f"(on rank {failure.rank} of {environment.ranks})")
        if not first and folder.is_dir():  # else on another machine
            open_log(folder / "train.log", speak=False)
        if not isinstance(error, UserError):
            log.debug("failed", exc_info=True)  # the traceback is on the terminal too, once it arrives at the top
        elif not environment.is_child:  # else the parent does so
            log.debug("error: %s", error)
            close_log()
            composition.remove_refused(folder)
        raise
    finally:
        close_log()


def _fit_and_test(objects: RunObjects, began: float) -> Result:
    """Fit, test, and write the result. began: start of the run, by time.time()."""
    status, folder, refused = "failed", objects.folder, False
    reason: dict[str, Any] = {}
    signals = (*terminal.STOP_SIGNALS[1:], *terminal.hangup())
    try:
        # Training has handlers that save; in the test there is nothing to save.
        with exits_raised(), terminal.handling(signals, _interrupt):
            if objects.config.get("budget") is not None and not objects.config.trainer.fast_dev_run:
                objects = _size_to_budget(objects, began)
            _log_run(objects)
            objects.trainer.fit(objects.module, datamodule=objects.data, ckpt_path=objects.resume)
            _test(objects)
        status = "completed"
    except (Interrupted, Diverged, KeyboardInterrupt) as outcome:
        status = "diverged" if isinstance(outcome, Diverged) else "interrupted"
        reason = {"reason": str(outcome)} if str(outcome) else {}
        if status == "diverged":
            log.warning("%s", outcome)
    except Exception as error:
        rank_group = join()
        reason = _reason(rank_group.fail(error)) if rank_group else {"reason": reason_of(error)}
        refused = isinstance(error, UserError) and objects.config.get("budget") is not None  # too little of it
        raise  # reported by `_log_and_report`
    finally:
        result, trainer = _collect(status, objects) | reason, objects.trainer
        if trainer.is_global_zero and not refused:
            try:
                with terminal.handling(signals, terminal.ignore):  # a second or two
                    kept = write_result(result, folder)
                    if kept is result:
                        from alexnet_lit.callbacks.figures import draw_curves  # matplotlib takes a second to import

                        draw_curves(objects.history.points, folder / "curves.png", folder.name)
                for logger in trainer.loggers:
                    if (end := getattr(logger, "end", None)) is not None:
                        end(kept)
            except UserError as error:  # the disk
                if not reason:
                    raise
                log.warning("%s", error)  # beside what ended the run
    _log_results(objects, result)
    return result


def _interrupt(number: int, frame: object) -> None:
    raise Interrupted(signal.Signals(number).name)


def _test(objects: RunObjects) -> None:
    """Evaluate the best net, or the last where none was chosen, on the test images: once."""
    data, trainer, (step, images) = objects.data, objects.trainer, objects.module.tested
    if step == trainer.global_step and images >= limited_images(data, "test", trainer.limit_test_batches):
        return  # the last validation was the test, and the last net is the result
    if not data.sizes["test"]:
        log.info("no test: the data has no test images, so test/acc and test/loss are null in result.json")
        return
    if objects.checkpoints.chosen:
        objects.module.load_state_dict(read_checkpoint(objects.checkpoints.best)["state_dict"])
    trainer.test(objects.module, datamodule=data, verbose=False)


def _size_to_budget(objects: RunObjects, began: float) -> RunObjects:
    """The run with as many steps as fit into its budget; trains and saves for some seconds to measure its speed.

    In its config, the saved one too, the steps replace the budget, so that it can be repeated exactly.
    """
    from alexnet_lit.callbacks.budget import MEASURING, RESERVE, TimeBudget, choose_steps, parse_seconds

    config, data, started = objects.config, objects.data, time.time()
    budget = parse_seconds(config.budget)
    log.info("budget  %s, whose first seconds measure the speed of this run", config.budget)
    measuring = config.copy()
    whole = min(max(1, data.sizes["train"] // data.batch_size), epoch_batches(config.trainer, data))
    # For a last batch that is smaller torch.compile would compile anew.
    OmegaConf.update(measuring, "trainer", MEASURING | {"limit_train_batches": whole}, force_add=True)
    timer = TimeBudget(min(30.0, RESERVE * budget))
    means = [each for each in objects.trainer.callbacks if isinstance(each, MovingAverage)]  # type: ignore[attr-defined] # set by Lightning's callback connector
    trainer = build_trainer(measuring, rank_environment(), callbacks=[timer, *means], logger=[], folder=objects.folder)
    took = timer.measure(trainer, objects.module, data)
    now = time.time()
    again = now - started - took.measured + objects.seconds  # start-up that the run itself repeats
    took, left = trainer.strategy.broadcast((took, (1 - RESERVE) * budget - (now - began) - again))
    validation = limited_images(data, data.validate, config.trainer.limit_val_batches)
    test = limited_images(data, "test", config.trainer.limit_test_batches)
    test *= data.validate != "test" or validation < test  # else the last validation is the test
    steps, interval = choose_steps(
        *(config.budget, left, took),
        epoch=epoch_batches(config.trainer, data),
        validation=validation,
        test=test * data.views.count,
        save_every=config.checkpoint.every_steps,
        most=config.trainer.max_steps,
    )
    speed = f"{data.batch_size} images at {data.batch_size / took.batch:,.1f} images/s"
    looks = f"{steps // interval} x {validation:,} images validated, {test:,} tested"
    log.info("        %s steps of %s, %s", f"{steps:,}", speed, looks)
    limits = {"max_steps": steps, "max_epochs": -1, "val_check_interval": interval, "check_val_every_n_epoch": None}
    changes = {f"trainer.{key}": value for key, value in limits.items()}
    typed = " ".join(f"{key}={as_override(value)}" for key, value in changes.items())
    log.info("        to repeat this run without budget=: %s", typed)
    file = objects.folder / ".hydra" / "config.yaml"
    saved = OmegaConf.load(file) if trainer.is_global_zero else config  # the folder may be on another machine
    config = config.copy()
    for each in (config, saved):
        for key, value in {**changes, "budget": None}.items():
            OmegaConf.update(each, key, value)
    if trainer.is_global_zero:
        OmegaConf.save(saved, file)
    objects = prepare(config, objects.folder)
    if trainer.is_global_zero:
        objects.data.prepare_data()
    return objects


def _launch_ranks(objects: RunObjects, message: dict[str, Any]) -> Result:
    """Do the run in one process a device, and wait."""
    close_log()  # rank 0 writes train.log from here on
    failure, stopped = launch(message, ranks=objects.ranks, name=str(objects.folder))
    open_log(objects.folder / "train.log", speak=True)
    if failure and failure.mistake:
        raise UserError(failure.reason)
    if stopped and not read_result(objects.folder):
        log.info("interrupted")
    elif failure:
        log.error("failed: %s", failure.reason)
    return _write_aborted_result(objects.folder, objects.ranks, failure, "interrupted" if stopped else "failed")


def _write_aborted_result(folder: Path, ranks: int, failure: Failure | None, status: str = "failed") -> Result:
    """Complete result.json after ranks have ended, or write it for those that were killed. failure: why, if known."""
    result = read_result(folder) or {"status": status, "world_size": ranks}
    if result["status"] == "failed":
        result |= _reason(failure) if failure else {"reason": "one of its processes failed: see train.log"} | result
    write_result(result, folder)
    return result


def _reason(failure: Failure) -> Result:
    """What result.json says of the rank that failed first, whichever rank writes it."""
    return {"reason": failure.reason} | ({"killed": True} if failure.killed else {})


def _collect(status: str, objects: RunObjects) -> Result:
    """All keys of result.json; null for what a run did not measure."""
    module, trainer, throughput = objects.module, objects.trainer, objects.throughput
    names = ("test/acc", "test/loss", "val/acc", "val/loss", "val/acc_best", "train/loss")
    scores = {name: module.published.get(name, objects.history.latest(name)) for name in names}
    losses = [loss for _, loss in objects.history.points.get("val/loss", ()) if math.isfinite(loss)]
    return {
        "status": status,
        **{name: value if value is None or math.isfinite(value) else None for name, value in scores.items()},
        "val/loss_best": min(losses, default=None),
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "images": throughput.images,
        "seconds": round(throughput.seconds, 3),
        "images_per_second": round(throughput.images_per_second, 3),
        "params": sum(parameter.numel() for parameter in module.net.parameters()),
        "seed": module.seed,
        "device": objects.device,
        "world_size": trainer.world_size,
        "precision": str(trainer.precision),
        "overrides": composition.typed_overrides(objects.folder),
        **origin(),
    }


@cache  # the code that runs is that of the start, even if there are commits meanwhile
def origin() -> Result:
    """The versions of libraries, and the checkout's commit, `-dirty` where files differ from it; None without git."""
    packages = {"torch": "torch", "lightning": "lightning", "hydra": "hydra-core"}
    versions = {name: version(package) for name, package in packages.items()} | {"python": platform.python_version()}
    command = ["git", "-C", composition.home(), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    commit = ""
    with suppress(OSError, subprocess.TimeoutExpired):
        commit = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=10, check=False).stdout.strip()
    return {"versions": versions, "commit": commit or None}


@contextmanager
def _mark_result_outdated(folder: Path) -> Iterator[None]:
    """Mark an earlier result.json as outdated while its run is resumed. The mark stays if the run is killed."""
    part = folder / composition.PART
    if (folder / composition.RESULT).exists():
        part.touch()
    try:
        yield
    finally:
        if part.exists() and not _has_saved(folder):
            part.unlink()


def write_result(result: Result, folder: Path) -> Result:
    """Write result.json, whole or not at all, and return what is in it then: a failure never replaces the result of a
    run that completed, and a stop before anything is saved replaces none. Raises: UserError where the disk refuses.
    """
    file, part = folder / composition.RESULT, folder / composition.PART
    if part.exists() and result["status"] != "completed" and (before := composition.read_json(file)):
        states = (before["status"], result["status"])
        stands = states[0] == "completed" or states == ("interrupted", "interrupted")
        if states == ("completed", "failed") or (stands and not _has_saved(folder)):
            return before
    with writing(file):
        part.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        part.replace(file)
    return result


def _has_saved(folder: Path) -> bool:
    """Whether the run has saved a step since its result was expected."""
    last = folder / "checkpoints" / "last.ckpt"
    return last.exists() and last.stat().st_mtime_ns > (folder / composition.PART).stat().st_mtime_ns


def _log_start(objects: RunObjects) -> None:
    """Log device, data, run folder and the layers of the net."""
    config, trainer = objects.config, objects.config.trainer
    strategy = "" if trainer.strategy == "auto" else f", {trainer.strategy}"
    log.info("device  %s, precision %s%s", objects.device, trainer.precision, strategy)
    if objects.why_precision:
        log.info("        %s", objects.why_precision)
    if "16" in trainer.precision and trainer.accelerator == "cpu" and not bf16_units():
        log.warning("precision %s: this CPU has no units for it: it takes many times as long", trainer.precision)
    data, px = objects.data, f"{objects.data.source_size} px -> {config.data.image_size} px"
    log.info("data    %s of %d classes, %s", _images(data), len(data.classes), px)
    log.info("        from %s", data.origin)
    if config.data.validate == "test":
        log.info("        test images are evaluated after each epoch (data.validate=test); nothing is chosen by them")
    log.info("run     %s", objects.folder)
    if objects.resume is not None:
        log.info("resume  %s", objects.resume)
        for override in composition.typed_overrides(objects.folder, last=True):
            log.info("        with %s", override)
    size = config.data.image_size
    log_table(layer_table(objects.module.net, (data.channels, size, size)))


def _images(data: ImageData) -> str:
    return "{train:,} training, {val:,} validation, {test:,} test images".format(**data.sizes)


def _log_run(objects: RunObjects) -> None:
    """Log the config to all loggers; command, data and net to TensorBoard too, unless the run is resumed."""
    config, data, size, made_from = objects.config, objects.data, objects.config.data.image_size, origin()
    about = {
        "command": " \\\n  ".join(["python train.py", *composition.typed_overrides(objects.folder)]),
        "device": f"{objects.device}, precision {config.trainer.precision}",
        "images": f"{_images(data)}, from {data.origin}",
        "commit": made_from["commit"],
        "versions": ", ".join(f"{name} {number}" for name, number in made_from["versions"].items()),
    }
    for logger in objects.trainer.loggers:
        logger.log_hyperparams(to_plain(config))
        if isinstance(logger, TensorBoard) and objects.resume is None:
            net = plain_text(layer_table(objects.module.net, (data.channels, size, size)))
            logger.begin(about=about, config=OmegaConf.to_yaml(config, resolve=True), net=net)


def _log_results(objects: RunObjects, result: Result) -> None:
    """Log the table of results, and the command that resumes the run."""
    checkpoints, folder = objects.checkpoints, objects.folder
    last = checkpoints.last if checkpoints.last.exists() else None
    sizes = [path.stat().st_size for path in checkpoints.folder.glob("*.ckpt")]
    board = f"{terminal.program('tensorboard')} --logdir {shlex.quote(str(folder.parent))}"
    places = {
        "checkpoint": checkpoints.best if checkpoints.chosen else last,
        "disk": f"{sum(sizes) / 1e6:,.1f} MB in {len(sizes)} file{'s' * (len(sizes) > 1)}" if sizes else None,
        "run_dir": folder,
        "tensorboard": board if any(isinstance(each, TensorBoard) for each in objects.trainer.loggers) else None,
    }
    log_table(result_text({**result, **places}))
    if result["status"] == "diverged" and last:
        log.info("last finite weights: %s", last)
    if result["status"] == "interrupted" and last:
        log.info("resume with: %s %s", train_command(), shlex.quote(f"ckpt={folder}"))
