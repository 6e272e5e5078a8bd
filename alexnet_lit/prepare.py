"""All objects of a run, lightning.Trainer among them, built and checked before data is read or a process started."""

import inspect
import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import torch
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ProgressBar, Timer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from omegaconf import DictConfig, OmegaConf, open_dict
from pydantic import Field
from torch.optim import Optimizer

from alexnet_lit import factory
from alexnet_lit.callbacks.checkpointing import AtomicFile, Checkpoints
from alexnet_lit.callbacks.loggers import History
from alexnet_lit.callbacks.metrics import TerminateOnNaN, Throughput, TrainingCurve
from alexnet_lit.checkpoint import Resume, check_resumes, keep_precision_and_split, read_checkpoint, read_resumed
from alexnet_lit.config import as_override, checkpoint_file, default_config, to_plain
from alexnet_lit.data.datamodule import ImageData, changed_classes
from alexnet_lit.distributed.devices import describe_devices, devices_and_nodes, resolve_devices
from alexnet_lit.distributed.environment import RankEnvironment, rank_environment
from alexnet_lit.distributed.strategy import MODEL_PARALLEL, RankClusterEnvironment, arguments, check_strategy
from alexnet_lit.errors import UserError, check_choice
from alexnet_lit.factory import check_arguments, epoch_batches, instantiate
from alexnet_lit.lit import Classifier, Stage
from alexnet_lit.nets.cost import cpu_precision
from alexnet_lit.nets.kernels.native import keep_memory

_COUNT = Annotated[int, Field(ge=1)]
_LIMIT = Annotated[float, Field(ge=0, le=1)] | _COUNT | None  # a share of the batches, or so many
_TIME = dict[Literal["weeks", "days", "hours", "minutes", "seconds", "milliseconds", "microseconds"], int]
# Types of lightning.Trainer's arguments. Its annotations allow values with which a run trains nothing, or fails later.
_TYPES: dict[str, Any] = {
    **get_type_hints(Trainer.__init__),
    "precision": Literal[
        *("auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"),
        *("transformer-engine", "transformer-engine-float16"),
    ],
    "max_epochs": _COUNT | Literal[-1] | None,
    "max_steps": _COUNT | Literal[-1],
    "fast_dev_run": bool | Annotated[int, Field(ge=0)],
    "limit_train_batches": Annotated[float, Field(gt=0, le=1)] | _COUNT | None,
    **dict.fromkeys(("limit_val_batches", "limit_test_batches", "limit_predict_batches"), _LIMIT),
    "overfit_batches": Annotated[float, Field(ge=0, le=1)] | _COUNT,
    "val_check_interval": Annotated[float, Field(gt=0, le=1)] | _COUNT | str | _TIME | None,
    "max_time": str | _TIME | None,
    "check_val_every_n_epoch": _COUNT | None,
    "log_every_n_steps": Annotated[int, Field(ge=0)] | None,
    "accumulate_grad_batches": _COUNT,
    "gradient_clip_val": Annotated[float, Field(ge=0)] | None,
    "num_sanity_val_steps": Annotated[int, Field(ge=-1)] | None,
    **dict.fromkeys(("enable_checkpointing", "enable_progress_bar"), bool),
    "devices": Any,  # checked by `resolve_devices`
}
# Other names that Lightning takes for a precision.
_PRECISIONS = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true", "None": "32-true"}
_PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}
_SET_BY_RUN = ("callbacks", "logger", "barebones", "plugins", "default_root_dir")
_SET_BY_STRATEGY = ("devices", "num_nodes", "strategy")


@dataclass(frozen=True)
class RunObjects:
    """All objects of a run, checked; nothing has been read yet. seconds: what building them took."""

    config: DictConfig
    folder: Path
    module: Classifier
    data: ImageData
    trainer: Trainer
    checkpoints: Checkpoints
    throughput: Throughput
    history: History
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
    if config.get("budget") is not None:
        from alexnet_lit.callbacks.budget import check_budget

        check_budget(config)
    resume, saved = (None, None) if config.ckpt is None else read_resumed(config)
    if saved is not None:
        config = keep_precision_and_split(config, saved)
    environment = rank_environment()
    kind, ranks = resolve_trainer(config, environment)
    if kind == "cpu":
        keep_memory()
    seed_everything(config.seed, workers=True, verbose=False)
    config, data = factory.build_data(config)
    net = factory.build_net(config if saved is None else factory.without_weights(config))
    why_precision = ""
    if config.trainer.precision == "auto":
        input_shape = (data.channels, config.data.image_size, config.data.image_size)
        config.trainer.precision, why_precision = cpu_precision(net, input_shape)
    if (monitor := config.scheduler.get("monitor")) is not None:
        factory.check_monitor(monitor, "scheduler.monitor", config, data)
    module = factory.build_module(config, net, data)
    optimizer = module.optimizer(net.parameters())  # the configured optimizer, on the small net
    check_clipping(config, optimizer)
    callbacks, precision = _callbacks(config, data, module), config.trainer.precision
    check_strategy(
        config.trainer.strategy, ranks=ranks, net=net, precision=precision, optimizer=optimizer, callbacks=callbacks
    )
    if saved is not None:
        check_resumes(saved, module, callbacks, f"ckpt={config.ckpt}")
    check_batches(config, data, ranks)
    throughput, history = Throughput(), History()
    kept = {"folder": str(folder / "checkpoints"), "objective": _objective(config, data), "direction": config.direction}
    checkpoints = instantiate(config, "checkpoint", target=Checkpoints, **kept)
    own: list[Callback] = [Resume(), TerminateOnNaN(), throughput, history]
    own.append(TrainingCurve(config.trainer.log_every_n_steps))
    if config.trainer.enable_checkpointing and not config.trainer.fast_dev_run:
        own.append(checkpoints)
    loggers = [*_group(config, "logger", Logger).values(), history]  # trainer.logger is the first
    trainer = build_trainer(config, environment, callbacks=[*own, *callbacks], logger=loggers, folder=folder)
    for timer in trainer.callbacks:  # type: ignore[attr-defined] # set by Lightning's callback connector
        if isinstance(timer, Timer) and (timer.time_remaining() or 0) <= 0:
            most = config.trainer.max_time
            raise UserError(f"trainer.max_time={most}: leaves no time to train: use 00:01:00:00 for an hour")
    device = describe_devices(kind, ranks, config.trainer.num_nodes)
    objects = (config, folder, module, data, trainer, checkpoints, throughput, history, resume, device, ranks)
    return RunObjects(*objects, why_precision, seconds=time.monotonic() - began)


def load(path: str | Path, map_location: Any = None) -> Classifier:
    """The module of a checkpoint in eval mode, from that file alone: weights and config are in it.

    path: a .ckpt file, or a run folder (then best.ckpt, else last.ckpt). map_location: as torch.load takes it; None for
    the CPU. Raises: UserError if it is no checkpoint of a run.
    """
    checkpoint = read_checkpoint(checkpoint_file(path), "cpu" if map_location is None else map_location)
    module, _ = restore(checkpoint, {})
    return module.to(next(iter(checkpoint["state_dict"].values())).device)


def restore(checkpoint: Mapping[str, Any], changes: Mapping[str, Any]) -> tuple[Classifier, ImageData]:
    """The module of a checkpoint's content, in eval mode on the CPU, and its data, of which nothing is read yet.

    changes: other values for keys of its config, as {"data.tta": "mirror"}. The net is not compiled: a machine that
    trains nothing may have no compiler. Raises: UserError if the data has other classes than the net.
    """
    config = OmegaConf.create(checkpoint["hyper_parameters"]["config"])
    for key, value in changes.items():
        OmegaConf.update(config, key, value)
    if "compile" in config.model:
        config.model.compile = False
    with torch.random.fork_rng(devices=[]):  # the weights that are drawn here are replaced below
        filled, data = factory.build_data(config)
        module = factory.build_module(filled, factory.build_net(factory.without_weights(filled)), data)
    names = checkpoint["hyper_parameters"].get("classes", module.classes)  # older checkpoints lack them
    if changed := changed_classes([*map(str, names)], module.classes):
        hint = "name a folder with the same"
        raise UserError(f"data.dir={config.data.dir}: it has other classes than the net, {changed}: {hint}")
    module.load_state_dict(checkpoint["state_dict"])
    return module.eval(), data


def _group(config: DictConfig, group: str, kind: type) -> dict[str, Any]:
    """The callbacks or loggers of the group by name, null switches one off; or the one that your own file is."""
    nodes = config.get(group) or {}
    paths = [f"{group}.{name}" for name, node in nodes.items() if node is not None]
    return {path: instantiate(config, path, kind) for path in ([group] if "_target_" in nodes else paths)}


def _callbacks(config: DictConfig, data: ImageData, module: Classifier) -> list[Callback]:
    """Those of the group. Raises: UserError if one monitors what the run does not measure."""
    callbacks = _group(config, "callbacks", Callback)
    ours = {type(it).__module__.split(".")[0] for it in (module, *callbacks.values())} <= {"alexnet_lit", "lightning"}
    for path, callback in callbacks.items():  # the user's own may measure more
        if (monitor := getattr(callback, "monitor", None)) not in (None, "val/acc_best") and ours:
            factory.check_monitor(monitor, f"{path}.monitor", config, data)
    bar = config.trainer.enable_progress_bar
    return [callback for callback in callbacks.values() if bar or not isinstance(callback, ProgressBar)]


def _objective(config: DictConfig, data: ImageData) -> str | None:
    """The score that chooses best.ckpt. Raises: UserError if the run does not measure it on validation images."""
    objective: str | None = config.objective
    if objective is None:
        return None
    better = {"val/acc": "maximize", "val/loss": "minimize"}.get(objective)
    if better is None:
        raise UserError(f"objective={objective}: should be val/acc, val/loss, or null to keep the last net")
    if config.direction in ("minimize", "maximize") and config.direction != better:
        hint = f"use direction={better}"
        raise UserError(f"direction={config.direction}: would keep the worst net by {objective}: {hint}")
    if data.validate != "val" or data.sizes["val"] == 0:
        key, hint = f"data.validate={data.validate}", "data.validate=val"
        if data.sizes["val"] == 0:
            key, hint = "data.val_size=0", f"data.val_size={max(1, data.train_total // 12)}"
        line = f"{key} leaves no validation images to choose by: use {hint}, or objective=null to keep the last net"
        raise UserError(f"objective={objective}: {line}")
    if config.trainer.limit_val_batches == 0:
        line = f"leaves objective={objective} no validation images to choose by"
        raise UserError(f"trainer.limit_val_batches=0: {line}: use objective=null to keep the last net")
    return objective


def resolve_trainer(config: DictConfig, environment: RankEnvironment) -> tuple[str, int]:
    """Replace `auto`, null and short names in config.trainer by what they stand for; returns device kind and ranks.

    precision=auto is left to `cpu_precision` on a CPU, as that needs the net.
    Raises: UserError for values that Lightning refuses or quietly replaces, and for a run that would train nothing.
    """
    trainer = config.trainer
    with open_dict(trainer):
        for key in default_config().trainer.keys() - {*trainer, "_target_"}:  # after ~trainer.max_time
            trainer[key] = inspect.signature(Trainer).parameters[key].default
    trainer.precision = _PRECISIONS.get(str(trainer.precision), trainer.precision)
    check_arguments(Trainer, to_plain(_without(trainer, "_target_", *_SET_BY_RUN)), "trainer", _TYPES)
    for unit in ("epochs", "steps"):
        least, most = trainer.get(f"min_{unit}"), trainer[f"max_{unit}"]
        if isinstance(least, int) and isinstance(most, int) and 0 <= most < least:
            hint = f"use trainer.max_{unit}={least} or more"
            raise UserError(f"trainer.min_{unit}={least}: the run ends with trainer.max_{unit}={most}: {hint}")
    devices, trainer.num_nodes = devices_and_nodes(environment, trainer.devices, trainer.num_nodes)
    kind, trainer.devices = resolve_devices(trainer.accelerator, devices)
    trainer.accelerator = kind
    if trainer.precision == "auto" and kind != "cpu":
        bf16 = kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        trainer.precision = "bf16-mixed" if bf16 else "32-true"
    _check_compiler(config, kind)
    if kind == "cpu" and trainer.precision == "16-mixed":
        line = "on a CPU Lightning takes bf16-mixed instead: use trainer.precision=auto"
        raise UserError(f"trainer.precision=16-mixed: {line}")
    if trainer.log_every_n_steps is None:  # as Lightning decides, and below when it begins to fit
        trainer.log_every_n_steps = 50
    if trainer.max_epochs is None:
        trainer.max_epochs = 1000 if trainer.max_steps == -1 and trainer.max_time is None else -1
    return kind, environment.ranks if environment.launcher else trainer.devices


def build_trainer(
    config: DictConfig, environment: RankEnvironment, *, callbacks: list[Callback], logger: list[Logger], folder: Path
) -> Trainer:
    """The run's trainer. It has a progress bar if one is among the callbacks; a profiler writes into the folder.

    Raises: UserError that names the key whose value Lightning refuses.
    """
    settings, profiler = _without(config.trainer, *_SET_BY_STRATEGY), {}
    settings.enable_progress_bar = any(isinstance(each, ProgressBar) for each in callbacks)
    if isinstance(settings.profiler, str):
        check_choice("trainer.profiler", settings.profiler, list(_PROFILERS))
        file = "profile" if environment.rank == 0 else f"profile-rank-{environment.rank}"
        profiler = {"profiler": _PROFILERS[settings.pop("profiler")](dirpath=folder, filename=file)}
    try:
        trainer: Trainer = instantiate(
            OmegaConf.create({"trainer": settings}),
            "trainer",
            types=_TYPES,
            callbacks=callbacks,
            logger=logger,
            barebones=False,
            plugins=[AtomicFile(), RankClusterEnvironment(environment)],
            default_root_dir=str(folder),
            **profiler,
            **arguments(environment, kind=config.trainer.accelerator, strategy=config.trainer.strategy),
        )
    except UserError as error:
        path, _, reason = str(error).partition(": ")
        named = reason.replace("Timer(duration", "max_time")
        keys = [str(key) for key in config.trainer if str(key) in named]
        if path != "trainer" or not keys:
            raise
        key = max(keys, key=len)
        raise UserError(f"trainer.{key}={as_override(config.trainer[key])}: {reason}") from error
    # The run's own handlers take SIGTERM; Lightning's would have each step of several GPUs wait for the device.
    loop, signals = trainer.fit_loop.epoch_loop, trainer._signal_connector
    loop._broadcast_sigterm_tensor = signals._sigterm_notifier_fn = lambda *_: None  # type: ignore[method-assign, assignment] # of this trainer alone
    return trainer


def check_batches(config: DictConfig, data: ImageData, ranks: int) -> None:
    """Refuse batches that can't be split over the ranks, limits that leave none, and validations that never come.

    Lightning would refuse them once data is read, or not at all.
    """
    trainer = config.trainer
    pairs, shares = data.augment.mix.together, 1 if trainer.strategy in MODEL_PARALLEL else ranks
    if data.batch_size % (pairs * shares):
        devices = f"trainer.devices={ranks}" if trainer.num_nodes == 1 else f"{ranks} processes"
        over = f" over {devices}" if ranks > 1 else ""
        into = " into pairs for data.augment.mixup and cutmix" if pairs > 1 else ""
        hint = f"use a multiple of {pairs * shares}"
        raise UserError(f"data.batch_size={data.batch_size} does not divide{over}{into}: {hint}")
    if data.sizes[data.validate] == 0:
        trainer.limit_val_batches = 0
    if trainer.fast_dev_run:
        return
    splits: dict[str, Stage] = {"train": "train", "val": data.validate, "test": "test"}
    for stage, split in splits.items():
        key = "overfit_batches" if trainer.overfit_batches and stage != "test" else f"limit_{stage}_batches"
        batches = data.batches(split)
        if batches and trainer[key] and not data.batches(split, trainer[key]):
            hint = f"use a larger share, or a number of batches such as {key}=1"
            raise UserError(f"trainer.{key}={trainer[key]}: leaves none of {batches} {stage} batches: {hint}")
    sized = [f"scheduler.{key}={it}" for key, it in config.scheduler.items() if it in ("run_steps", "run_epochs")]
    if sized and trainer.max_epochs == trainer.max_steps == -1 and config.get("budget") is None:
        hint = "use scheduler=constant, or set trainer.max_steps or budget"
        raise UserError(f"trainer.max_epochs=-1: a run without an end has no length for {sized[0]}: {hint}")
    batches, interval = epoch_batches(trainer, data), trainer.val_check_interval
    if ranks > 1 and not isinstance(interval, int | float):
        hint = "use a number of batches, or a share of an epoch"
        raise UserError(f"trainer.val_check_interval={as_override(interval)}: each rank has its own clock: {hint}")
    whole = isinstance(interval, int) and trainer.check_val_every_n_epoch is not None
    if whole and interval > batches and trainer.limit_val_batches != 0:
        hint = f"use at most {batches}, or 1.0 for once an epoch"
        raise UserError(f"trainer.val_check_interval={interval}: an epoch has {batches} batches: {hint}")


def check_clipping(config: DictConfig, optimizer: Optimizer) -> None:
    """Refuse to clip gradients that a fused optimizer unscales itself, as Lightning would at the first step."""
    trainer, fused = config.trainer, getattr(optimizer, "_step_supports_amp_scaling", False)
    if trainer.precision == "16-mixed" and trainer.gradient_clip_val and fused:
        hint = "use optimizer.fused=false, trainer.precision=bf16-mixed or trainer.gradient_clip_val=null"
        raise UserError(f"trainer.precision=16-mixed: gradients of a fused optimizer can't be clipped there: {hint}")


def _without(trainer: DictConfig, *keys: str) -> DictConfig:
    return OmegaConf.masked_copy(trainer, [str(key) for key in trainer if key not in keys])


def _check_compiler(config: DictConfig, kind: str) -> None:
    """Refuse model.compile without a compiler, and with gradients accumulated in CUDA graphs, which overwrite them."""
    compile, steps = config.model.get("compile"), config.trainer.accumulate_grad_batches
    if not compile:
        return
    # As torch's inductor and Triton look for one.
    cpu = ("C++", "CXX", {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++"))
    language, variable, usual = ("C", "CC", "gcc clang") if kind == "cuda" else cpu
    names = os.environ.get(variable, "").split()[:1] or usual.split()
    if not any(map(shutil.which, names)):
        need = f"needs a {language} compiler, and there is no {' or '.join(names)} on this machine"
        hint = f"install one, name another in {variable}, or use model.compile=false"
        raise UserError(f"model.compile={as_override(compile)}: {need}: {hint}")
    if kind == "cuda" and compile in ("reduce-overhead", "max-autotune") and steps != 1:
        hint = "use model.compile=true, or a larger data.batch_size"
        reason = f"model.compile={compile} can't add gradients up on a GPU"
        raise UserError(f"trainer.accumulate_grad_batches={as_override(steps)}: {reason}: {hint}")
