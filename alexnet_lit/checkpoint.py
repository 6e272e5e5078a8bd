"""Checkpoints: read one, check that a run can be resumed from it, and restore what Lightning leaves out."""

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig

from alexnet_lit.callbacks.ema import MovingAverage
from alexnet_lit.config import as_override, run_of
from alexnet_lit.data.datamodule import changed_classes
from alexnet_lit.errors import UserError, first_few, reason_of
from alexnet_lit.lit import Classifier


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The content of a checkpoint. Raises: UserError if it can't be read, or was not written by this package."""
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
        if "state_dict" not in checkpoint or "config" not in checkpoint.get("hyper_parameters", {}):
            raise ValueError("it has no state_dict, or no config of a run")
    except Exception as error:  # torch.load has no error class of its own: pickle, zip, OS and runtime errors come out
        reason = " ".join(str(error).rpartition("WeightsUnpickler error: ")[2].split())[:200]
        hint = "name a run folder, or a .ckpt file of one"
        raise UserError(f"{path}: not a checkpoint of a run ({reason}): {hint}") from error
    return dict(checkpoint)


def read_resumed(config: DictConfig) -> tuple[Path, dict[str, Any]]:
    """The file that config.ckpt names and its content. Raises: UserError if training can't be resumed from it."""
    ckpt, tried_out = config.ckpt, config.trainer.fast_dev_run
    if tried_out:
        hint = f"tries out a new run, and ckpt={ckpt} continues one: leave one of them out"
        raise UserError(f"trainer.fast_dev_run={as_override(tried_out)}: {hint}")
    path = Path(ckpt).expanduser().absolute()
    if path.is_dir():
        path = path / "checkpoints" / "last.ckpt"
    if not path.is_file():
        hint = "start the run anew" if run_of(path) else "name a run folder, or a .ckpt file of one"
        raise UserError(f"ckpt={ckpt}: there is no {path}: {hint}")
    checkpoint = read_checkpoint(path)
    if "optimizer_states" not in checkpoint:
        raise UserError(f"ckpt={ckpt}: holds weights only, from which training can't go on: use last.ckpt of that run")
    return path, checkpoint


def keep_precision_and_split(config: DictConfig, checkpoint: dict[str, Any]) -> DictConfig:
    """The config with what the checkpoint's run resolved: the precision for `auto`, and a picture folder's split.

    Raises: UserError if the folder or its val/ is gone.
    """
    config, saved = config.copy(), checkpoint["hyper_parameters"]["config"]
    if config.trainer.precision == "auto":
        config.trainer.precision = saved["trainer"]["precision"]
    data, before = config.data, saved["data"]
    same = all(data.get(key) == before.get(key) for key in ("_target_", "val_size", "folds", "fold", "split_seed"))
    if not before.get("found") or data.get("found") is not None or not same:
        return config
    if isinstance(data.get("dir"), str):
        folder = Path(data.dir).expanduser()
        if not folder.exists():
            hint = f"add data.dir=... to ckpt={config.ckpt}, the folder that has train/<class>/<picture>"
            raise UserError(f"data.dir={data.dir}: it is not there: {hint}")
        if before["found"]["val"] and not (folder / "val").exists():
            hint = "put it back, or start a new run"
            raise UserError(f"data.dir={data.dir}: val/ is gone, and what is in train/ was trained on: {hint}")
    config.data.found = {**before["found"], "earlier": True}
    return config


def check_resumes(checkpoint: dict[str, Any], module: Classifier, callbacks: Iterable[Callback], name: str) -> None:
    """Refuse a checkpoint of other classes, net, optimizer or data, an average without callbacks.ema, or a longer run.

    name: of the checkpoint, as typed. Loads its weights. Raises: UserError that says what differs.
    """
    classes = list(module.classes)
    if changed := changed_classes([*map(str, checkpoint["hyper_parameters"].get("classes", classes))], classes):
        hint = "make them what they were, or start a new run"
        raise UserError(f"{name}: the classes have changed since, now {changed}: {hint}")
    # How weights were drawn, whether the net is compiled, and where images are.
    free = {"weights", "init", "compile", "dir", "cache", "search", "mirrors", "found"}
    for group, kind in {"model": "net", "optimizer": "run", "scheduler": "run", "data": "run"}.items():
        saved, here = (values["config"][group] for values in (checkpoint["hyper_parameters"], module.hparams))
        keys = sorted({*saved, *here} - free)
        if other := [f"{group}.{key}={as_override(saved.get(key))}" for key in keys if saved.get(key) != here.get(key)]:
            raise UserError(f"{name}: is of another {kind}, with {first_few(other)}: set these, or start a new run")
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        raise UserError(f"{name}: is of another net: {reason_of(error)}: use a checkpoint of this net") from error
    if "moving_average" in checkpoint and not any(isinstance(each, MovingAverage) for each in callbacks):
        raise UserError(f"{name}: was trained with callbacks.ema, which is not there now: add it, or start a new run")
    for key, length in module.schedule.lengths.items():
        for state in checkpoint["lr_schedulers"]:
            if (before := state.get(key, length)) != length:  # torch puts it back; one_cycle keeps no such state
                text = f"was {before} and would be {length}, to which that schedule can't be changed"
                raise UserError(f"{name}: scheduler.{key} {text}: keep the run's length, or start a new run")
    trainer, epochs = module.hparams["config"]["trainer"], checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    whole, begun, steps = epochs["processed"], epochs["started"], checkpoint["global_step"]
    done = f"begun epoch {begun}" if begun > whole else f"done {whole} epochs"
    ends = {"max_epochs": (begun, max(begun, whole + 1), done), "max_steps": (steps, steps + 1, f"done {steps} steps")}
    for key, (reached, least, text) in ends.items():
        if isinstance(trainer.get(key), int) and 0 <= trainer[key] < reached:
            hint = f"use trainer.{key}={least} or more"
            raise UserError(f"trainer.{key}={trainer[key]}: {name} has already {text}: {hint}")


class Resume(Callback):
    """Corrects what Lightning restores: trainer.should_stop, the epoch counters, and arguments of callbacks.

    An argument that a callback is given now, such as EarlyStopping's patience, replaces the saved one.
    """

    def __init__(self) -> None:
        self._arguments: list[tuple[Callback, dict[str, Any]]] = []

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save whether a callback has ended training, so that a run killed before its test does not train on."""
        checkpoint["should_stop"] = trainer.should_stop

    def on_load_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Stop if the run had stopped, unless its limits have changed. Keep the arguments of callbacks."""
        saved, here = checkpoint["hyper_parameters"]["config"], module.hparams["config"]
        keys = ("max_epochs", "max_steps", "max_time", "min_epochs", "min_steps")
        same = all(saved["trainer"].get(key) == here["trainer"].get(key) for key in keys)
        same = same and saved["callbacks"] == here["callbacks"]
        trainer.should_stop = same and checkpoint.get("should_stop", False)
        states = checkpoint["callbacks"]
        for callback in trainer.callbacks:  # type: ignore[attr-defined] # set by Lightning's callback connector
            names = inspect.signature(type(callback)).parameters.keys() & states.get(callback.state_key, {}).keys()
            self._arguments.append((callback, {name: value for name, value in vars(callback).items() if name in names}))

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Restore the arguments of callbacks, and begin a new epoch if the saved one was complete."""
        for callback, values in self._arguments:
            vars(callback).update(values)
        loop = trainer.fit_loop
        epochs: Any = loop.epoch_progress.current, loop.epoch_progress.total  # their base class lacks half of it
        if epochs[0].ready == epochs[0].processed:
            # Lightning does so too, but not where max_steps is set: it takes the next epoch for the rest of the last.
            for progress in epochs:
                progress.completed = progress.processed
            loop.reset_restart_stage()
            loop.epoch_loop.restarting = False

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Count the epoch in which the run ended, but once: a run saved after its end has started no other."""
        progress: Any = trainer.fit_loop.epoch_progress.current
        progress.completed = max(progress.completed, progress.started)
