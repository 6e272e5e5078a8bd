"""lightning.Trainer, and its judgement of each of its arguments before anything rests on them."""

import inspect
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar, Timer
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf, open_dict
from pydantic import Field
from torch.optim import Optimizer

from alexnet_lit.callbacks.checkpointing import AtomicFile
from alexnet_lit.config import known, plain, show
from alexnet_lit.data import ImageData
from alexnet_lit.distributed.devices import devices_and_nodes, resolve_devices
from alexnet_lit.distributed.environment import RankEnvironment
from alexnet_lit.distributed.strategy import RankClusterEnvironment, arguments, replicas
from alexnet_lit.errors import UserError
from alexnet_lit.factory import build_net, check_arguments, infer_model_dims, instantiate, without_weights
from alexnet_lit.length import epoch_batches, limited_batches
from alexnet_lit.nets.kernels.native import bf16_units
from alexnet_lit.precision import bf16_speedup, cpu_precision

_COUNT = Annotated[int, Field(ge=1)]
_LIMIT = Annotated[float, Field(ge=0, le=1)] | _COUNT | None  # a share of the batches, or so many
# Other names of these that Lightning takes.
_ALIASES = {16: "16-mixed", "16": "16-mixed", "bf16": "bf16-mixed", 32: "32-true", "32": "32-true", None: "32-true"}
_ALIASES |= {64: "64-true", "64": "64-true"}
# What Lightning's annotations leave out: values with which a run trains nothing, or fails when it is at work.
_TYPES: dict[str, Any] = {
    **get_type_hints(Trainer.__init__),
    "precision": Literal[
        *("auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"),
        *("transformer-engine", "transformer-engine-float16"),
    ],
    "max_epochs": _COUNT | Literal[-1] | None,
    "max_steps": _COUNT | Literal[-1],
    "limit_train_batches": Annotated[float, Field(gt=0, le=1)] | _COUNT | None,
    "limit_val_batches": _LIMIT,
    "limit_test_batches": _LIMIT,
    "limit_predict_batches": _LIMIT,
    "overfit_batches": Annotated[float, Field(ge=0, le=1)] | _COUNT,
    "val_check_interval": Annotated[float, Field(gt=0, le=1)] | _COUNT | str | dict[str, int] | None,
    "check_val_every_n_epoch": _COUNT | None,
    "log_every_n_steps": Annotated[int, Field(ge=0)] | None,
    "accumulate_grad_batches": _COUNT,
    "gradient_clip_val": Annotated[float, Field(ge=0)] | None,
    "num_sanity_val_steps": Annotated[int, Field(ge=-1)] | None,
    "enable_checkpointing": bool,
    "enable_progress_bar": bool,
    "devices": Any,  # judged with the devices that there are
}
# What `arguments` makes of them is what the trainer gets.
_PLACED = ("devices", "num_nodes", "strategy")
# Never a person's.
_RUNS = ("callbacks", "logger", "barebones", "plugins", "default_root_dir")


def settle_trainer(config: DictConfig, place: RankEnvironment) -> tuple[str, int, str]:
    """Put what `auto`, null and short names stand for into config.trainer.

    Returns the kind of device, how many ranks, and why `auto` became the precision that it did ("" if that is plain).

    Lightning judges all values here, before anything rests on them.
    Raises: UserError for what it refuses or would quietly replace, and for a run that would train nothing.
    """
    trainer = config.trainer
    with open_dict(trainer):
        for key in known().trainer.keys() - trainer.keys():  # ~trainer.max_time means what Lightning does without it
            trainer[key] = inspect.signature(Trainer).parameters[key].default
    trainer.precision = _ALIASES.get(trainer.precision, trainer.precision)
    check_arguments(Trainer, plain(_without(trainer, "_target_", *_RUNS)), "trainer", _TYPES)
    kind, ranks = _devices(config, place)
    reason = ""
    if trainer.precision == "auto":
        trainer.precision, reason = _auto_precision(config, kind)
    _check_compilation(config, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is refused below, or said again when the run is built
        judged = _judged(config, place)
    if judged.precision != trainer.precision:
        raise UserError(
            f"trainer.precision={trainer.precision}: on a {kind.upper()} Lightning takes {judged.precision} instead: "
            f"use trainer.precision={judged.precision}, or 32-true"
        )
    for timer in judged.callbacks:  # type: ignore[attr-defined] # set by Lightning's callback connector
        if isinstance(timer, Timer) and (timer.time_remaining() or 0) <= 0:
            raise UserError(f"trainer.max_time={trainer.max_time}: is no time to train in: use 00:01:00:00 for an hour")
    trainer.log_every_n_steps = judged.log_every_n_steps  # type: ignore[attr-defined] # set by its logger connector
    if trainer.max_epochs is None:  # as Lightning decides when it begins to fit
        trainer.max_epochs = 1000 if trainer.max_steps == -1 and trainer.max_time is None else -1
    return kind, ranks, reason


def build_trainer(
    config: DictConfig, place: RankEnvironment, *, callbacks: list[Callback], logger: list[Logger], folder: Path
) -> Trainer:
    """The run's trainer. Without a progress bar among the callbacks it has none."""
    settings = _without(config.trainer, *_PLACED)
    settings.enable_progress_bar = any(isinstance(each, ProgressBar) for each in callbacks)
    trainer: Trainer = instantiate(
        OmegaConf.create({"trainer": settings}),
        "trainer",
        types=_TYPES,
        callbacks=callbacks,
        logger=logger,
        barebones=False,
        plugins=[AtomicFile(), RankClusterEnvironment(place)],
        default_root_dir=str(folder),
        **arguments(place, kind=config.trainer.accelerator, strategy=config.trainer.strategy),
    )
    return trainer


def check_batches(config: DictConfig, data: ImageData) -> None:
    """Refuse what Lightning would refuse once data is read: shares of the batches that come to none, and to validate
    after more batches than an epoch has.
    """
    trainer = config.trainer
    splits: dict[str, Literal["train", "val", "test"]] = {"train": "train", "val": data.validate, "test": "test"}
    for stage, split in splits.items():
        overfit = trainer.overfit_batches and stage != "test"
        key = "overfit_batches" if overfit else f"limit_{stage}_batches"
        batches = -(-data.sizes[split] // data.batch_size)
        if batches and trainer[key] and not trainer.fast_dev_run and not limited_batches(batches, trainer[key]):
            raise UserError(
                f"trainer.{key}={trainer[key]}: of {batches} {stage} batches that is none: "
                f"use a larger share, or a number of batches such as {key}=1"
            )
    batches, interval = epoch_batches(trainer, data), trainer.val_check_interval
    whole = isinstance(interval, int) and trainer.check_val_every_n_epoch is not None
    if whole and interval > batches and trainer.limit_val_batches != 0 and not trainer.fast_dev_run:
        raise UserError(
            f"trainer.val_check_interval={interval}: an epoch has {batches} batches: "
            f"use at most {batches}, or 1.0 for once an epoch"
        )


def _without(trainer: DictConfig, *keys: str) -> DictConfig:
    return OmegaConf.masked_copy(trainer, [str(key) for key in trainer if key not in keys])


def _judged(config: DictConfig, place: RankEnvironment) -> Trainer:
    """A trainer of these settings and nothing else. Raises: UserError that names the key that Lightning refuses."""
    bare: dict[str, Any] = {"callbacks": [], "logger": [], "folder": Path()}
    try:
        return build_trainer(config, place, **bare)
    except UserError as mistake:
        refusal = mistake
    for key in ("precision", *config.trainer) if str(refusal).startswith("trainer: ") else ():
        alone = config.copy()
        alone.trainer = {
            **known().trainer,
            **{own: config.trainer[own] for own in ("accelerator", "strategy", "precision", key)},
        }
        try:
            build_trainer(alone, place, **bare)
        except UserError as mistake:
            raise UserError(
                f"trainer.{key}={show(config.trainer[key])}: {str(mistake).partition(': ')[2]}"
            ) from mistake
    raise refusal


def _devices(config: DictConfig, place: RankEnvironment) -> tuple[str, int]:
    """Put what `auto` stands for into config.trainer; the kind of device and how many ranks there will be."""
    trainer = config.trainer
    devices, trainer.num_nodes = devices_and_nodes(place, trainer.devices, trainer.num_nodes)
    kind, trainer.devices = resolve_devices(trainer.accelerator, devices)
    trainer.accelerator = kind
    ranks = place.ranks if place.launcher else trainer.devices
    parts = replicas(trainer.strategy, ranks)
    if isinstance(config.data.batch_size, int) and config.data.batch_size % parts:
        over = f"trainer.devices={ranks}" if trainer.num_nodes == 1 else f"{ranks} processes"
        raise UserError(
            f"data.batch_size={config.data.batch_size} does not divide over {over}: use a multiple of {parts}"
        )
    return kind, ranks


def _auto_precision(config: DictConfig, kind: str) -> tuple[str, str]:
    """bf16 autocast where the device has units for it and, on a CPU, they are shown to pay; else float32. And why."""
    if kind == "cuda":
        return ("bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"), ""

    def speedup() -> float:
        data: ImageData = instantiate(config, "data")
        eager = infer_model_dims(without_weights(config), data)
        if "compile" in eager.model:
            eager.model.compile = False
        try:
            with torch.device("meta"), torch.random.fork_rng(devices=[]):
                net = build_net(eager)
            return bf16_speedup(net, (data.channels, config.data.image_size, config.data.image_size))
        except (RuntimeError, ValueError):  # a net that does not fit, which is refused later, or knows no meta device
            return 1.0

    return cpu_precision(bf16_units() if kind == "cpu" else "", speedup)


def check_clipping(config: DictConfig, optimizer: Optimizer) -> None:
    """Refuse what Lightning would refuse at the first step: to clip what an optimizer frees of a scaler's factor."""
    trainer, late = config.trainer, getattr(optimizer, "_step_supports_amp_scaling", False)
    if trainer.precision == "16-mixed" and trainer.gradient_clip_val and late:
        raise UserError(
            "trainer.precision=16-mixed: gradients of a fused optimizer can't be clipped there: "
            "use optimizer.fused=false, trainer.precision=bf16-mixed or trainer.gradient_clip_val=null"
        )


def _check_compilation(config: DictConfig, kind: str) -> None:
    """Refuse to compile without a compiler, and gradients that are added up in a CUDA graph, whose next forward pass
    writes over what is there.
    """
    compile, steps = config.model.get("compile"), config.trainer.accumulate_grad_batches
    if not compile:
        return
    # As torch's inductor and Triton look for one.
    usual = "gcc clang" if kind == "cuda" else "clang++" if sys.platform == "darwin" else "g++"
    language, variable = ("C", "CC") if kind == "cuda" else ("C++", "CXX")
    names = os.environ.get(variable, "").split()[:1] or usual.split()
    if not any(map(shutil.which, names)):
        raise UserError(
            f"model.compile={show(compile)}: needs a {language} compiler, and there is no {' or '.join(names)} "
            f"on this machine: install one, name another in {variable}, or use model.compile=false"
        )
    if kind == "cuda" and compile in ("reduce-overhead", "max-autotune") and steps != 1:
        raise UserError(
            f"trainer.accumulate_grad_batches={show(steps)}: model.compile={compile} can't add gradients up on a GPU: "
            "use model.compile=true, or a larger data.batch_size"
        )
