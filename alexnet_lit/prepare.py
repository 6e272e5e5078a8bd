"""Everything that a run needs, built and checked before any data is read or a process started."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ProgressBar
from omegaconf import DictConfig
from torch import nn

from alexnet_lit.callbacks.checkpointing import Checkpoints
from alexnet_lit.callbacks.loggers import History
from alexnet_lit.callbacks.metrics import CurvesPlot, TerminateOnNaN, Throughput, TrainingCurve
from alexnet_lit.config import plain
from alexnet_lit.console import log
from alexnet_lit.callbacks.finite import TerminateOnNaN
from alexnet_lit.callbacks.history import History
from alexnet_lit.callbacks.picture import Picture
from alexnet_lit.callbacks.points import Points
from alexnet_lit.callbacks.speed import Speed
from alexnet_lit.config import plain, show
from alexnet_lit.continued import Restored, check_continues, keep_precision, keep_split, read_continued
from alexnet_lit.data import ImageData
from alexnet_lit.distributed.devices import describe
from alexnet_lit.distributed.environment import rank_environment
from alexnet_lit.distributed.strategy import check_strategy, replicas
from alexnet_lit.errors import UserError
from alexnet_lit.factory import build, check_measured, check_root, infer_model_dims, instantiate
from alexnet_lit.length import check_limits
from alexnet_lit.lit import Classifier
from alexnet_lit.nets.kernels.native import keep_memory
from alexnet_lit.terminal import log
from alexnet_lit.trainer import build_trainer, check_batches, check_clipping, settle_trainer


@dataclass(frozen=True)
class RunObjects:
    """All objects of a run, checked; nothing has been read yet."""

    config: DictConfig
    folder: Path
    module: Classifier
    data: ImageData
    trainer: Trainer
    checkpoints: Checkpoints
    speed: Throughput
    picture: CurvesPlot
    resume: Path | None
    device: str
    ranks: int
    why_precision: str


def prepare(config: DictConfig, folder: Path) -> RunObjects:
    """Build and check every object of a run. Reads no data, starts no process.

    Raises: UserError that names the key, the value and the way out.
    """
    check_root(config)
    config = config.copy()
    config.paths.run = str(folder)
    place = rank_environment()
    if config.ckpt is not None and config.trainer.fast_dev_run:
        raise UserError(
            f"trainer.fast_dev_run={show(config.trainer.fast_dev_run)}: tries out a new run, and ckpt={config.ckpt} "
            "continues one: leave one of them out"
        )
    resume, saved = read_continued(config.ckpt)
    if saved is not None:
        config = keep_precision(config, saved)
    kind, ranks, why = settle_trainer(config, place)
    check_limits(config.trainer)
    if kind == "cpu":
        keep_memory()
    if saved is not None:
        config = keep_split(config, saved)
    seed_everything(config.seed, workers=True, verbose=False)
    module, data = build(config)
    optimizer = module.optimizer([nn.Parameter(torch.zeros(1))])  # of its kind
    check_clipping(config, optimizer)
    _check_pairs(data, replicas(config.trainer.strategy, ranks), ranks)
    chosen = _callbacks(config, data)
    check_strategy(
        config.trainer.strategy,
        ranks=ranks,
        net=module.net,
        precision=config.trainer.precision,
        optimizer=optimizer,
        callbacks=chosen,
    )
    config = infer_model_dims(config, data)
    if saved is not None:
        check_continues(saved, module, chosen, f"ckpt={config.ckpt}")
    if data.sizes[data.validate] == 0:
        config.trainer.limit_val_batches = 0
    check_batches(config, data)
    speed = Throughput()
    picture = CurvesPlot(History(), path=folder / "curves.png", title=folder.name)
    checkpoints = instantiate(
        config,
        "checkpoint",
        target=Checkpoints,
        folder=str(folder / "checkpoints"),
        objective=_objective(config, data),
        direction=config.direction,
        say=log.info,
    )
    onlookers = [Restored(), TerminateOnNaN(), speed, picture, TrainingCurve(config.trainer.log_every_n_steps)]
    keepers = [checkpoints] if config.trainer.enable_checkpointing and not config.trainer.fast_dev_run else []
    trainer = build_trainer(
        config,
        place,
        callbacks=[*onlookers, *keepers, *chosen],
        logger=[picture.history, *([instantiate(config, "logger")] if config.get("logger") else [])],
        folder=folder,
    )
    device = describe(kind, ranks, config.trainer.num_nodes)
    return RunObjects(config, folder, module, data, trainer, checkpoints, speed, picture, resume, device, ranks, why)


def prepare_data(parts: RunObjects) -> RunObjects:
    """Have the data ready to be read. Where that leaves fewer images, all is built anew: the schedule is as long."""
    before = parts.data.found
    parts.data.prepare_data()
    return parts if parts.data.found == before else prepare(infer_model_dims(parts.config, parts.data), parts.folder)


def message_to_ranks(config: DictConfig, folder: Path) -> dict[str, Any]:
    """What a rank is told: the config as it was composed, so that each finds out for itself what `auto` stands for."""
    told = config.copy()
    told.paths.run = str(folder)
    return {"config": plain(told), "folder": str(folder)}


def _check_pairs(data: ImageData, shares: int, ranks: int) -> None:
    """Refuse batches in which images that are to be mixed would be torn apart, or ranks left without any."""
    together = data.augment.mix.together * shares
    if data.batch_size % together:
        devices = f" over trainer.devices={ranks}" if ranks > 1 else ""
        raise UserError(
            f"data.batch_size={data.batch_size} does not divide{devices} into pairs for data.augment.mixup and cutmix: "
            f"use a multiple of {together}"
        )


def _callbacks(config: DictConfig, data: ImageData) -> list[Callback]:
    """Those of the group; null switches one off. Raises: UserError if one looks at what the run does not measure."""
    nodes = config.get("callbacks") or {}
    made = {name: instantiate(config, f"callbacks.{name}") for name, node in nodes.items() if node is not None}
    for name, callback in made.items():
        if (monitor := getattr(callback, "monitor", None)) not in (None, "val/acc_best"):
            check_measured(monitor, f"callbacks.{name}.monitor", config, data)
    bar = config.trainer.enable_progress_bar
    return [callback for callback in made.values() if bar or not isinstance(callback, ProgressBar)]


def _objective(config: DictConfig, data: ImageData) -> str | None:
    """What best.ckpt is chosen by. Raises: UserError if the run does not measure it on validation images."""
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
