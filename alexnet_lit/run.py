"""One run: build everything, fit, test the best checkpoint once, and write result.json."""

import functools
import json
import math
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ProgressBar
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

from alexnet_lit import factory
from alexnet_lit.callbacks.board import introduce
from alexnet_lit.callbacks.budget import MEASURING, RESERVE, TimeBudget, choose_steps, parse_seconds
from alexnet_lit.callbacks.checkpointing import Checkpoints
from alexnet_lit.callbacks.ema import MovingAverage
from alexnet_lit.callbacks.finite import TerminateOnNaN
from alexnet_lit.callbacks.history import History
from alexnet_lit.callbacks.hparams import log_hparams
from alexnet_lit.callbacks.picture import Picture
from alexnet_lit.callbacks.points import Points
from alexnet_lit.callbacks.quiet import quiet_libraries
from alexnet_lit.callbacks.speed import Speed
from alexnet_lit.callbacks.summary import closing, layers
from alexnet_lit.checkpoint import Resume, check_resumes, keep_precision_and_split, read_checkpoint, read_resumed
from alexnet_lit.config import continued_overrides, home, plain, typed_overrides
from alexnet_lit.console import close_log, log, open_log, show
from alexnet_lit.data import ImageData
from alexnet_lit.distributed.devices import describe
from alexnet_lit.distributed.environment import rank_environment
from alexnet_lit.distributed.launcher import launch
from alexnet_lit.distributed.rank_group import join
from alexnet_lit.distributed.store import Failure
from alexnet_lit.distributed.towers.split import check_split, shares
from alexnet_lit.errors import Diverged, Interrupted, UserError, exits_raised, reason_of, writing
from alexnet_lit.lit import Classifier
from alexnet_lit.mistakes import show as as_typed
from alexnet_lit.nets.kernels.bf16 import cpu_precision
from alexnet_lit.nets.kernels.native import bf16_units, keep_memory
from alexnet_lit.resume import PART, RESULT, program, under_way

Result = dict[str, Any]


@dataclass(frozen=True)
class RunObjects:
    """All objects of a run, checked; nothing has been read yet. seconds: what building them took."""

    config: DictConfig
    folder: Path
    module: Classifier
    data: ImageData
    trainer: Trainer
    checkpoints: Checkpoints
    speed: Speed
    picture: Picture
    resume: Path | None
    device: str
    ranks: int
    why_precision: str
    seconds: float


def prepare(config: DictConfig, folder: Path) -> RunObjects:
    """Build and check every object of a run. Reads no data, starts no process.

    Raises: UserError that names the key, the value and the way out.
    """
    began = time.monotonic()
    factory.check_root(config)
    config = config.copy()
    config.paths.run = str(folder)
    _check_budget(config)
    if config.ckpt is not None and config.trainer.fast_dev_run:
        raise UserError(
            f"trainer.fast_dev_run={as_typed(config.trainer.fast_dev_run)}: tries out a new run, and "
            f"ckpt={config.ckpt} continues one: leave one of them out"
        )
    resume, saved = read_resumed(config.ckpt) if config.ckpt is not None else (None, None)
    if saved is not None:
        config = keep_precision_and_split(config, saved)
    environment = rank_environment()
    kind, ranks = factory.settle_trainer(config, environment)
    if kind == "cpu":
        keep_memory()
    seed_everything(config.seed, workers=True, verbose=False)
    config, data = factory.build_data(config)
    net = factory.build_net(config if saved is None else factory.without_weights(config))
    why_precision = ""
    if config.trainer.precision == "auto":
        input_shape = (data.channels, config.data.image_size, config.data.image_size)
        config.trainer.precision, why_precision = cpu_precision(net, input_shape)
    module = factory.build_module(config, net, data)
    optimizer = module.optimizer([nn.Parameter(torch.zeros(1))])  # of its kind
    factory.check_clipping(config, optimizer)
    _check_pairs(data, shares(config.trainer.strategy, ranks), ranks)
    callbacks = _callbacks(config, data)
    check_split(
        net,
        config.trainer.strategy,
        ranks=ranks,
        precision=config.trainer.precision,
        optimizer=optimizer,
        callbacks=callbacks,
    )
    if saved is not None:
        check_resumes(saved, module, callbacks, f"ckpt={config.ckpt}")
    if data.sizes[data.validate] == 0:
        config.trainer.limit_val_batches = 0
    factory.check_batches(config, data)
    speed, history = Speed(), History()
    picture = Picture(history, path=folder / "curves.png", title=folder.name)
    checkpoints = factory.instantiate(
        config,
        "checkpoint",
        target=Checkpoints,
        folder=str(folder / "checkpoints"),
        objective=_objective(config, data),
        direction=config.direction,
        say=log.info,
    )
    own: list[Callback] = [Resume(), TerminateOnNaN(), speed, picture, Points(config.trainer.log_every_n_steps)]
    if config.trainer.enable_checkpointing and not config.trainer.fast_dev_run:
        own.append(checkpoints)
    loggers = [history, *([factory.instantiate(config, "logger")] if config.get("logger") else [])]
    trainer = factory.build_trainer(config, environment, callbacks=[*own, *callbacks], logger=loggers, folder=folder)
    device = describe(kind, ranks, config.trainer.num_nodes)
    return RunObjects(
        *(config, folder, module, data, trainer, checkpoints, speed, picture, resume, device, ranks, why_precision),
        seconds=time.monotonic() - began,
    )


def _check_budget(config: DictConfig) -> None:
    """Raises: UserError for a run that can't be sized to a time."""
    budget = config.get("budget")
    if budget is None:
        return
    parse_seconds(budget)
    if config.ckpt is not None:
        raise UserError(
            f"budget={budget}: is for a new run, and ckpt={config.ckpt} continues one: use trainer.max_steps=..."
        )
    if config.trainer.accumulate_grad_batches != 1:
        hint = "use a larger data.batch_size, or trainer.max_steps=..."
        raise UserError(f"budget={budget}: can't be laid out with trainer.accumulate_grad_batches: {hint}")
    if monitor := config.scheduler.get("monitor"):
        hint = "use scheduler=one_cycle or constant, or trainer.max_epochs=..."
        raise UserError(f"budget={budget}: scheduler.monitor={monitor} looks at whole epochs: {hint}")


def _check_pairs(data: ImageData, shares: int, ranks: int) -> None:
    """Refuse batches that would tear apart the images that are to be mixed, or leave a rank without any."""
    together = data.augment.mix.together * shares
    if data.batch_size % together:
        devices = f" over trainer.devices={ranks}" if ranks > 1 else ""
        raise UserError(
            f"data.batch_size={data.batch_size} does not divide{devices} into pairs for data.augment.mixup and cutmix: "
            f"use a multiple of {together}"
        )


def _callbacks(config: DictConfig, data: ImageData) -> list[Callback]:
    """Those of the group; null switches one off. Raises: UserError if one monitors what the run does not measure."""
    nodes = config.get("callbacks") or {}
    callbacks = {
        name: factory.instantiate(config, f"callbacks.{name}") for name, node in nodes.items() if node is not None
    }
    for name, callback in callbacks.items():
        if (monitor := getattr(callback, "monitor", None)) not in (None, "val/acc_best"):
            factory.check_monitor(monitor, f"callbacks.{name}.monitor", config, data)
    bar = config.trainer.enable_progress_bar
    return [callback for callback in callbacks.values() if bar or not isinstance(callback, ProgressBar)]


def _objective(config: DictConfig, data: ImageData) -> str | None:
    """The score that chooses best.ckpt. Raises: UserError if the run does not measure it on validation images."""
    objective: str | None = config.objective
    if objective is None:
        return None
    if objective not in ("val/acc", "val/loss"):
        raise UserError(f"objective={objective}: should be val/acc, val/loss, or null to keep the last net")
    better = "minimize" if objective == "val/loss" else "maximize"
    if config.direction in ("minimize", "maximize") and config.direction != better:
        raise UserError(
            f"direction={config.direction}: would keep the worst net by {objective}: use direction={better}"
        )
    if data.validate != "val" or data.sizes["val"] == 0:
        key = "data.val_size=0" if data.sizes["val"] == 0 else f"data.validate={data.validate}"
        raise UserError(
            f"objective={objective}: {key} leaves no validation images to choose by: "
            f"use data.val_size={max(1, data.train_total // 12)}, or objective=null to keep the last net"
        )
    return objective


def run(config: DictConfig, folder: Path) -> Result:
    """Train and test as `config` says, in `folder`; returns what result.json holds.

    On several devices this process checks everything first. Started by torchrun or srun it is rank 0 and broadcasts the
    config; standing alone it starts a process for each device and waits for them.
    Raises: UserError for wrong input, before training starts. Any other exception is raised once result.json and
    train.log have been written.
    """
    began = time.time()
    rank_group = join()
    with _log_and_report(folder):
        objects = prepare(config, folder)
        log_start(objects)
        found = objects.data.found
        objects.data.prepare_data()  # a missing or broken file is an error before anything starts
        if objects.data.found != found:  # fewer images: a schedule of another length
            objects = prepare(factory.infer_model_dims(objects.config, objects.data), folder)
            log_data(objects)
        log.info("images from %s", objects.data.origin)
        # Each rank resolves `auto` devices by itself; the precision is the same on all.
        rank_config = factory.infer_model_dims(config, objects.data)
        rank_config.paths.run, rank_config.trainer.precision = str(folder), objects.config.trainer.precision
        message = {"config": plain(rank_config), "folder": str(folder), "began": began}
        if rank_group is not None:
            rank_group.broadcast(message)
            rank_group.barrier()
        expect_result(folder)
        try:
            if rank_group is None and objects.ranks > 1:
                return _launch_ranks(objects, message)
            return _fit_and_test(objects, began)
        finally:
            forget_expected(folder)


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
            if rank_group.place.local_rank == 0 and not rank_group.place.is_child:
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
    open_log(folder / "train.log" if first else None, speak=first)
    if rank_group is not None:
        rank_group.on_abort = functools.partial(_write_aborted_result, folder, environment.ranks)
    try:
        yield
    except Exception as error:
        if rank_group is not None:
            failure = rank_group.fail(error)
            if failure.killed and failure.teller == environment.rank:
                open_log(folder / "train.log", speak=True)
                log.error("failed: %s", failure.reason)
                if failure.rank == 0:
                    _write_aborted_result(folder, environment.ranks, failure)
            if failure.rank != environment.rank:
                sys.exit(rank_group.status())
            error.add_note(f"(on rank {failure.rank} of {environment.ranks})")
        if not first:
            open_log(folder / "train.log", speak=False)
        if not isinstance(error, UserError):
            log.debug("failed", exc_info=True)  # the traceback is on the terminal too, once it arrives at the top
        elif not environment.is_child:  # else the parent logs it
            log.debug("error: %s", error)
        raise
    finally:
        close_log()


def _fit_and_test(objects: RunObjects, began: float) -> Result:
    """Fit, test, and write what the run came to. began: the run, as time.time() has it."""
    if objects.config.get("budget") is not None and not objects.config.trainer.fast_dev_run:
        objects = _size_to_budget(objects, began)
    trainer, folder = objects.trainer, objects.folder
    status: str = "failed"
    reason: dict[str, Any] = {}
    try:
        log_to_tensorboard(objects)
        with exits_raised():
            trainer.fit(objects.module, datamodule=objects.data, ckpt_path=objects.resume and str(objects.resume))
            _test(objects)
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
        raise  # reported by `_log_and_report`
    finally:
        result = _collect(status, objects) | reason
        if trainer.is_global_zero:
            try:
                if keep_result(result, folder):
                    objects.picture.draw()
                    log_hparams(trainer.loggers, plain(objects.config), result)
            except UserError as error:  # the disk
                if not reason:
                    raise
                log.warning("%s", error)  # beside what ended the run
    log_results(objects, result)
    return result


def _test(objects: RunObjects) -> None:
    """Evaluate the best net, or the last where none was chosen, on the test images: once."""
    if objects.config.data.validate == "test" and "test/acc" in objects.module.published:
        return  # the last epoch ended with it, and the last net is the result
    if not objects.data.sizes["test"]:
        log.info("no test: the data has no test images, so test/acc and test/loss are null in result.json")
        return
    if objects.checkpoints.chosen:
        objects.module.load_state_dict(read_checkpoint(objects.checkpoints.best)["state_dict"])
    objects.trainer.test(objects.module, datamodule=objects.data, verbose=False)


def _size_to_budget(objects: RunObjects, began: float) -> RunObjects:
    """The same run with as many steps as fit into its budget: first it trains, evaluates and saves a little. On each
    rank. Its config, also the saved one, has the steps in place of the budget, so that it can be repeated exactly.
    """
    config, data, started = objects.config, objects.data, time.time()
    budget = parse_seconds(config.budget)
    log.info("budget  %s, of which the first seconds go into measuring how fast this run is", config.budget)
    measuring = config.copy()
    with open_dict(measuring):
        measuring.trainer.update(MEASURING)
    timer = TimeBudget(min(30.0, RESERVE * budget))
    averages = [each for each in objects.trainer.callbacks if isinstance(each, MovingAverage)]  # type: ignore[attr-defined] # set by Lightning's callback connector
    trainer = factory.build_trainer(
        measuring, rank_environment(), callbacks=[timer, *averages], logger=[], folder=objects.folder
    )
    with exits_raised():
        took = timer.measure(trainer, objects.module, data)
    now = time.time()
    again = now - started - took.measured + objects.seconds  # what the run itself begins with once more
    took, left = trainer.strategy.broadcast((took, (1 - RESERVE) * budget - (now - began) - again))

    validation = factory.limited_images(data, data.validate, config.trainer.limit_val_batches)
    test = factory.limited_images(data, "test", config.trainer.limit_test_batches) * (data.validate != "test")
    steps, interval = choose_steps(
        *(config.budget, left, took),
        epoch=factory.epoch_batches(config.trainer, data),
        validation=validation,
        test=test * data.views.count,
        save_every=config.checkpoint.every_steps,
        most=config.trainer.max_steps,
    )
    limits = {"max_steps": steps, "max_epochs": -1, "val_check_interval": interval, "check_val_every_n_epoch": None}
    changes = {f"trainer.{key}": value for key, value in limits.items()}
    times = steps // interval
    looks = f", {times} validation{'s' * (times > 1)} of {validation:,}" if validation else ""
    speed = f"{data.batch_size} images at {data.batch_size / took.batch:,.1f} images/s"
    log.info("        %s steps of %s%s, a test of %s", f"{steps:,}", speed, looks, f"{test:,}")
    typed = " ".join(f"{key}={as_typed(value)}" for key, value in changes.items())
    log.info("        the very same again, without budget=: %s", typed)
    file = objects.folder / ".hydra" / "config.yaml"  # none for a run that was started from Python
    saved = OmegaConf.load(file) if trainer.is_global_zero and file.is_file() else None
    config = config.copy()
    for each in (config, *([saved] if saved is not None else [])):
        for key, value in {**changes, "budget": None}.items():
            OmegaConf.update(each, key, value)
    if saved is not None:
        OmegaConf.save(saved, file)
    objects = prepare(config, objects.folder)
    if trainer.is_global_zero:
        objects.data.prepare_data()
    return objects


def _launch_ranks(objects: RunObjects, message: dict[str, Any]) -> Result:
    """Do the run in one process a device, and wait."""
    close_log()  # rank 0 writes train.log from here on
    ended = launch(message, ranks=objects.ranks, name=str(objects.folder))
    open_log(objects.folder / "train.log", speak=True)
    failure = ended.failure
    if failure and failure.mistake:
        raise UserError(failure.reason)
    if ended.asked and _finished_result(objects.folder) is None:
        log.info("interrupted")
    elif failure:
        log.error("failed: %s", failure.reason)
    return _write_aborted_result(objects.folder, objects.ranks, failure, "interrupted" if ended.asked else "failed")


def _write_aborted_result(folder: Path, ranks: int, failure: Failure | None, status: str = "failed") -> Result:
    """Complete result.json after ranks have ended, or write it for those that were killed. failure: why, if known."""
    result = _finished_result(folder) or {"status": status, "world_size": ranks}
    if result["status"] == "failed":
        result |= _reason(failure) if failure else {"reason": "one of its processes failed: see train.log"} | result
    keep_result(result, folder)
    return result


def _reason(failure: Failure) -> Result:
    """What result.json says of the rank that failed first, whichever rank writes it."""
    return {"reason": failure.reason} | ({"killed": True} if failure.killed else {})


def _collect(status: str, objects: RunObjects) -> Result:
    """All keys of result.json; null where a run did not come to measure something."""
    module, trainer, speed = objects.module, objects.trainer, objects.speed
    names = ("test/acc", "test/loss", "val/acc", "val/loss", "val/acc_best", "train/loss")
    scores = {name: module.published.get(name, History.of(trainer).latest(name)) for name in names}
    return {
        "status": status,
        **{name: value if value is None or math.isfinite(value) else None for name, value in scores.items()},
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "images": speed.images,
        "seconds": round(speed.seconds, 3),
        "images_per_second": round(speed.images_per_second, 3),
        "params": sum(parameter.numel() for parameter in module.net.parameters()),
        "seed": module.seed,
        "device": objects.device,
        "world_size": trainer.world_size,
        "precision": str(trainer.precision),
        **_origin(objects.folder),
    }


def _origin(folder: Path) -> Result:
    """What a run was made from: what was typed, the versions of libraries, the commit."""
    packages = {"torch": "torch", "lightning": "lightning", "hydra": "hydra-core"}
    versions = {name: version(package) for name, package in packages.items()}
    return {
        "overrides": typed_overrides(folder),
        "versions": {**versions, "python": platform.python_version()},
        "commit": _commit(),
    }


@functools.cache  # what runs is the code that was there at first, whatever is committed meanwhile
def _commit() -> str | None:
    """The checkout's commit, with `-dirty` where files differ from it; None outside one, or without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        described = subprocess.run(command, cwd=home(), capture_output=True, encoding="utf-8", timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None


def expect_result(folder: Path) -> None:
    """Mark a run that has a result as `under_way` until it has another; for good if its process is killed."""
    if (folder / RESULT).exists():
        (folder / PART).touch()


def forget_expected(folder: Path) -> None:
    """Take the earlier result for the last one again, if the run has not saved a step since."""
    if under_way(folder) and not _has_saved(folder):
        (folder / PART).unlink()


def keep_result(result: Result, folder: Path) -> bool:
    """Write result.json; returns whether it did. A failure never replaces the result of a run that completed, nor does
    a stop before anything was saved.
    """
    if under_way(folder) and result["status"] != "completed":
        complete = json.loads((folder / RESULT).read_text(encoding="utf-8"))["status"] == "completed"
        if complete and (result["status"] == "failed" or not _has_saved(folder)):
            return False
    write_result(result, folder)
    return True


def write_result(result: Result, folder: Path) -> None:
    """Write <folder>/result.json, whole or not at all. Raises: UserError where the disk refuses."""
    part = folder / PART
    with writing(folder / RESULT):
        part.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        part.replace(folder / RESULT)


def _finished_result(folder: Path) -> Result | None:
    """The result, if the run has ended with one since it was last expected."""
    file = folder / RESULT
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() and not under_way(folder) else None


def _has_saved(folder: Path) -> bool:
    """Whether the run has saved a step since its result was expected."""
    last = folder / "checkpoints" / "last.ckpt"
    return last.exists() and last.stat().st_mtime_ns > (folder / PART).stat().st_mtime_ns


def log_start(objects: RunObjects) -> None:
    """What is about to happen: device, data, net."""
    config, trainer = objects.config, objects.config.trainer
    strategy = "" if trainer.strategy == "auto" else f", {trainer.strategy}"
    log.info("device  %s, precision %s%s", objects.device, trainer.precision, strategy)
    if objects.why_precision:
        log.info("        %s", objects.why_precision)
    if trainer.precision.startswith("bf16") and trainer.accelerator == "cpu" and not bf16_units():
        log.warning("precision %s: this CPU has no units for it: it takes many times as long", trainer.precision)
    log_data(objects)
    if config.data.validate == "test":
        log.info("        looked at after each epoch: the test images (data.validate=test); nothing is chosen by them")
    log.info("run     %s", objects.folder)
    if objects.resume is not None:
        log.info("resume  %s", objects.resume)
        for override in continued_overrides(objects.folder):
            log.info("        with %s", override)
    size = config.data.image_size
    show(layers(objects.module.net, (objects.data.channels, size, size)))


def log_data(objects: RunObjects) -> None:
    """How many images there are, and how large."""
    data, px = objects.data, f"{objects.data.source_size} px -> {objects.config.data.image_size} px"
    log.info("data    %s of %d classes, %s", _images(data), len(data.classes), px)


def _images(data: ImageData) -> str:
    sizes = data.sizes
    return f"{sizes['train']:,} training, {sizes['val']:,} validation, {sizes['test']:,} test images"


def log_to_tensorboard(objects: RunObjects) -> None:
    """The run's command, data, config and net on TensorBoard, unless it is resumed."""
    if objects.resume is not None or not objects.config.get("logger"):
        return
    config, origin, size = objects.config, _origin(objects.folder), objects.config.data.image_size
    about = {
        "command": " \\\n  ".join(["python train.py", *origin["overrides"]]),
        "device": f"{objects.device}, precision {config.trainer.precision}",
        "images": f"{_images(objects.data)}, from {objects.data.origin}",
        "commit": origin["commit"],
        "versions": ", ".join(f"{name} {number}" for name, number in origin["versions"].items()),
    }
    introduce(
        objects.trainer.loggers,
        about=about,
        config=OmegaConf.to_yaml(config, resolve=True),
        net=objects.module.net,
        input_shape=(objects.data.channels, size, size),
    )


def log_results(objects: RunObjects, result: Result) -> None:
    """The closing table, and how to go on."""
    checkpoints, folder = objects.checkpoints, objects.folder
    last = checkpoints.last if checkpoints.last.exists() else None
    sizes = [path.stat().st_size for path in checkpoints.folder.glob("*.ckpt")]
    board = f"{program('tensorboard')} --logdir {shlex.quote(str(folder.parent))}"
    places = {
        "checkpoint": checkpoints.best if checkpoints.chosen else last,
        "disk": f"{sum(sizes) / 1e6:,.1f} MB in {len(sizes)} file{'s' * (len(sizes) > 1)}" if sizes else None,
        "run_dir": folder,
        "tensorboard": board if objects.config.get("logger") else None,
    }
    show(closing({**result, **places}))
    if result["status"] == "diverged" and last:
        log.info("last finite weights: %s", last)
    if result["status"] == "interrupted" and last:
        log.info("continue with: %s train.py %s", program("python"), shlex.quote(f"ckpt={folder}"))
