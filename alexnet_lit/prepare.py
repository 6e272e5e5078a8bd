"""Everything that a run needs, built and checked before any data is read or a process started."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer, seed_everything
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer

from alexnet_lit import distributed, watch
from alexnet_lit.checkpoints import AtomicFile, Checkpoints
from alexnet_lit.config import plain
from alexnet_lit.continued import check_continues, read_continued
from alexnet_lit.data import ImageData
from alexnet_lit.errors import Mistake
from alexnet_lit.factory import build, check_root, follow, make
from alexnet_lit.length import epoch_batches
from alexnet_lit.lit import Classifier
from alexnet_lit.mistakes import show
from alexnet_lit.native import keep_memory
from alexnet_lit.watch import log


@dataclass(frozen=True)
class Parts:
    """All objects of a run, checked; nothing has been read yet."""

    config: DictConfig
    folder: Path
    module: Classifier
    data: ImageData
    trainer: Trainer
    checkpoints: Checkpoints
    speed: watch.Speed
    picture: watch.Picture
    resume: Path | None
    device: str
    ranks: int


def prepare(config: DictConfig, folder: Path) -> Parts:
    """Build and check every object of a run. Reads no data, starts no process.

    Raises: Mistake that names the key, the value and the way out.
    """
    check_root(config)
    config = config.copy()
    config.paths.run = str(folder)
    place = distributed.here()
    kind, ranks = _devices(config, place)
    if kind == "cpu":
        keep_memory()
    resume, saved = read_continued(config.ckpt)
    seed_everything(config.seed, workers=True, verbose=False)
    module, data = build(config)
    optimizer = module.optimizer([nn.Parameter(torch.zeros(1))])  # of its kind
    _check_clipping(config, optimizer)
    _check_accumulation(config, kind)
    _check_pairs(data, distributed.shares(config.trainer.strategy, ranks), ranks)
    names = [name for name in config.callbacks or {} if name != "progress" or config.trainer.enable_progress_bar]
    chosen = [make(config, f"callbacks.{name}") for name in names]
    distributed.check_split(
        module.net,
        config.trainer.strategy,
        ranks=ranks,
        precision=config.trainer.precision,
        optimizer=optimizer,
        callbacks=chosen,
    )
    config = follow(config, data)
    if saved is not None:
        check_continues(saved, module, chosen, f"ckpt={config.ckpt}")
    if data.sizes[data.validate] == 0:
        config.trainer.limit_val_batches = 0
    _check_validation(config.trainer, epoch_batches(config.trainer, data))
    speed = watch.Speed()
    picture = watch.Picture(watch.History(), path=folder / "curves.png", title=folder.name)
    checkpoints = make(
        config,
        "checkpoint",
        target=Checkpoints,
        folder=str(folder / "checkpoints"),
        objective=_objective(config, data),
        direction=config.direction,
        say=log.info,
    )
    onlookers = [watch.Finite(), speed, picture, watch.Points(config.trainer.log_every_n_steps)]
    keepers = [checkpoints] if config.trainer.enable_checkpointing and not config.trainer.fast_dev_run else []
    trainer = make(
        config,
        "trainer",
        callbacks=[*onlookers, *keepers, *chosen],
        logger=[picture.history, *([make(config, "logger")] if config.logger else [])],
        plugins=[AtomicFile(), distributed.Surroundings(place)],
        default_root_dir=str(folder),
        **distributed.arguments(place, kind=kind, strategy=config.trainer.strategy),
    )
    device = distributed.describe(kind, ranks, config.trainer.num_nodes)
    return Parts(config, folder, module, data, trainer, checkpoints, speed, picture, resume, device, ranks)


def ready(parts: Parts) -> Parts:
    """Have the data ready to be read. Where that leaves fewer images, all is built anew: the schedule is as long."""
    before = parts.data.found
    parts.data.prepare_data()
    return parts if parts.data.found == before else prepare(follow(parts.config, parts.data), parts.folder)


def message_to_ranks(config: DictConfig, folder: Path) -> dict[str, Any]:
    """What a rank is told: the config as it was composed, so that each finds out for itself what `auto` stands for."""
    told = config.copy()
    told.paths.run = str(folder)
    return {"config": plain(told), "folder": str(folder)}


def _devices(config: DictConfig, place: distributed.Place) -> tuple[str, int]:
    """Put what `auto` stands for into config.trainer; the kind of device and how many ranks there will be."""
    trainer = config.trainer
    devices, trainer.num_nodes = distributed.follow(place, trainer.devices, trainer.num_nodes)
    kind, trainer.devices = distributed.resolve(trainer.accelerator, devices)
    trainer.precision = distributed.resolve_precision(trainer.precision, kind)
    trainer.accelerator = kind
    ranks = place.ranks if place.starter else trainer.devices
    shares = distributed.shares(trainer.strategy, ranks)
    if isinstance(config.data.batch_size, int) and config.data.batch_size % shares:
        over = f"trainer.devices={ranks}" if trainer.num_nodes == 1 else f"{ranks} processes"
        raise Mistake(
            f"data.batch_size={config.data.batch_size} does not divide over {over}: use a multiple of {shares}"
        )
    return kind, ranks


def _check_pairs(data: ImageData, shares: int, ranks: int) -> None:
    """Refuse batches in which images that are to be mixed would be torn apart, or ranks left without any."""
    together = data.augment.mix.together * shares
    if data.batch_size % together:
        devices = f" over trainer.devices={ranks}" if ranks > 1 else ""
        raise Mistake(
            f"data.batch_size={data.batch_size} does not divide{devices} into pairs for data.augment.mixup and cutmix: "
            f"use a multiple of {together}"
        )


def _check_clipping(config: DictConfig, optimizer: Optimizer) -> None:
    """Refuse what Lightning would refuse at the first step: to clip what an optimizer frees of a scaler's factor."""
    trainer, late = config.trainer, getattr(optimizer, "_step_supports_amp_scaling", False)
    if trainer.precision == "16-mixed" and trainer.gradient_clip_val and late:
        raise Mistake(
            "trainer.precision=16-mixed: gradients of a fused optimizer can't be clipped there: "
            "use optimizer.fused=false, trainer.precision=bf16-mixed or trainer.gradient_clip_val=null"
        )


def _check_accumulation(config: DictConfig, kind: str) -> None:
    """Refuse gradients that are added up in a CUDA graph, whose next forward pass writes over what is there."""
    compile, steps = config.model.get("compile"), config.trainer.accumulate_grad_batches
    if kind == "cuda" and compile in ("reduce-overhead", "max-autotune") and steps != 1:
        raise Mistake(
            f"trainer.accumulate_grad_batches={show(steps)}: model.compile={compile} can't add gradients up on a GPU: "
            "use model.compile=true, or a larger data.batch_size"
        )


def _check_validation(trainer: DictConfig, batches: int) -> None:
    """Refuse what Lightning would refuse once data is read: to validate after more batches than an epoch has."""
    interval = trainer.val_check_interval
    whole = isinstance(interval, int) and trainer.check_val_every_n_epoch is not None
    if whole and interval > batches and trainer.limit_val_batches != 0 and not trainer.fast_dev_run:
        raise Mistake(
            f"trainer.val_check_interval={interval}: an epoch has {batches} batches: "
            f"use at most {batches}, or 1.0 for once an epoch"
        )


def _objective(config: DictConfig, data: ImageData) -> str | None:
    """What best.ckpt is chosen by. Raises: Mistake if the run does not measure it on validation images."""
    objective: str | None = config.objective
    if objective is None:
        return None
    if objective not in ("val/acc", "val/loss"):
        raise Mistake(f"objective={objective}: should be val/acc, val/loss, or null to keep the last net")
    better = "minimize" if objective == "val/loss" else "maximize"
    if config.direction in ("minimize", "maximize") and config.direction != better:
        raise Mistake(f"direction={config.direction}: would keep the worst net by {objective}: use direction={better}")
    if data.validate != "val" or data.sizes["val"] == 0:
        key = "data.val_size=0" if data.sizes["val"] == 0 else f"data.validate={data.validate}"
        raise Mistake(
            f"objective={objective}: {key} leaves no validation images to choose by: "
            f"use data.val_size={max(1, data.train_total // 12)}, or objective=null to keep the last net"
        )
    return objective
