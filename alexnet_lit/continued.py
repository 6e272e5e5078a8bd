"""The checkpoint that a run goes on from, as `ckpt` names it, what stands against that, and how it is restored."""

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig

from alexnet_lit.callbacks.ema import MovingAverage
from alexnet_lit.data import changed_classes
from alexnet_lit.config import show
from alexnet_lit.data.folder import changed_classes
from alexnet_lit.errors import UserError
from alexnet_lit.factory import read_checkpoint
from alexnet_lit.lit import Classifier


def read_continued(ckpt: str | None) -> tuple[Path, dict[str, Any]] | tuple[None, None]:
    """The file that `ckpt` means, and what is in it. Raises: UserError if training can't go on from there."""
    if ckpt is None:
        return None, None
    path = Path(ckpt).expanduser().absolute()
    if path.is_dir():
        path = path / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise UserError(f"ckpt={ckpt}: there is no {path}: name a run folder, or a .ckpt file of one")
    checkpoint = read_checkpoint(path)
    if "optimizer_states" not in checkpoint:
        raise UserError(f"ckpt={ckpt}: holds weights only, from which training can't go on: use last.ckpt of that run")
    return path, checkpoint


def keep_split(config: DictConfig, checkpoint: dict[str, Any]) -> DictConfig:
    """The same config, for a folder of pictures with what the checkpoint's run found there, so that its split stays.

    Raises: UserError if the folder or its val/ is gone.
    """
    data, before = config.data, checkpoint["hyper_parameters"]["config"]["data"]
    same = all(data.get(key) == before.get(key) for key in ("_target_", "val_size", "folds", "fold", "split_seed"))
    if not before.get("found") or data.get("found") is not None or not same:
        return config
    if isinstance(data.get("dir"), str):
        folder = Path(data.dir).expanduser()
        if not folder.exists():
            way_out = f"add data.dir=... to ckpt={config.ckpt}, the folder that has train/<class>/<picture>"
            raise UserError(f"data.dir={data.dir}: it is not there: {way_out}")
        if before["found"]["val"] and not (folder / "val").exists():
            way_out = "put it back, or start a new run"
            raise UserError(f"data.dir={data.dir}: val/ is gone, and what is in train/ was trained on: {way_out}")
    config = config.copy()
    config.data.found = {**before["found"], "earlier": True}
    return config


def keep_precision(config: DictConfig, checkpoint: dict[str, Any]) -> DictConfig:
    """Let `auto` stand for the precision that the run began with, on any machine."""
    if config.trainer.precision == "auto":
        config = config.copy()
        config.trainer.precision = checkpoint["hyper_parameters"]["config"]["trainer"]["precision"]
    return config


def check_continues(checkpoint: dict[str, Any], module: Classifier, callbacks: Iterable[Callback], name: str) -> None:
    """Refuse a checkpoint that is not of such a run. Raises: UserError that says what differs."""
    _check_same_classes(module, checkpoint, name)
    _check_same_net(module, checkpoint, name)
    _check_average(callbacks, checkpoint, name)
    _check_length(module, checkpoint, name)


def _check_same_classes(module: Classifier, checkpoint: dict[str, Any], name: str) -> None:
    """Refuse a checkpoint of other classes, or of these in another order. Raises: UserError that names them."""
    here = list(module.classes)
    there = checkpoint["hyper_parameters"].get("classes", here)  # checkpoints of before they were kept have none
    if changed := changed_classes(there, here):
        way_out = "make them what they were, or start a new run"
        raise UserError(f"{name}: the classes have changed since, now {changed}: {way_out}")


def _check_same_net(module: Classifier, checkpoint: dict[str, Any], name: str) -> None:
    """Refuse a checkpoint of another net. Raises: UserError that names what differs: keys of model, else weights."""
    there, here = (values["config"]["model"] for values in (checkpoint["hyper_parameters"], module.hparams))
    # How weights were drawn and whether the net is compiled is no part of it.
    keys = sorted({*there, *here} - {"weights", "init", "compile"})
    other = [f"model.{key}={show(there.get(key))}" for key in keys if there.get(key) != here.get(key)]
    way_out = "set these, or start a new run"
    if not other:
        mine, theirs = (
            {key: tuple(value.shape) for key, value in state.items()}
            for state in (module.state_dict(), checkpoint["state_dict"])
        )
        other = [
            f"{key} {theirs.get(key, 'missing')}" for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)
        ]
        way_out = "use a checkpoint of this net"
    if other:
        more = f" and {len(other) - 4} more" if len(other) > 4 else ""
        raise UserError(f"{name}: is of another net, with {', '.join(other[:4])}{more}: {way_out}")


def _check_average(callbacks: Iterable[Callback], checkpoint: dict[str, Any], name: str) -> None:
    """Refuse to train on with an average in place of the weights. Raises: UserError where callbacks.ema is gone."""
    if "moving_average" in checkpoint and not any(isinstance(each, MovingAverage) for each in callbacks):
        raise UserError(f"{name}: was trained with callbacks.ema, which is not there now: add it, or start a new run")


def _check_length(module: Classifier, checkpoint: dict[str, Any], name: str) -> None:
    """Refuse an end that lies behind the run. Raises: UserError that says how far it has come."""
    trainer, progress = module.hparams["config"]["trainer"], checkpoint["loops"]["fit_loop"]["epoch_progress"]
    whole, begun = (progress["current"][count] for count in ("processed", "started"))
    done = f"begun epoch {begun}" if begun > whole else f"done {whole} epochs"
    steps = checkpoint["global_step"]
    for key, reached, least, text in (
        ("max_epochs", begun, max(begun, whole + 1), done),
        ("max_steps", steps, steps + 1, f"done {steps} steps"),
    ):
        most = trainer.get(key)
        if isinstance(most, int) and 0 <= most < reached:
            raise UserError(f"trainer.{key}={most}: {name} has already {text}: use trainer.{key}={least} or more")


class Restored(Callback):
    """Mends what Lightning restores of a run: it was to stop, its epoch was whole, its callbacks have other arguments.

    A value that a callback is given now counts, whatever it has saved of an earlier one: EarlyStopping's patience, and
    any other argument of a constructor that the callback keeps under the same name in its state and its attributes.
    """

    def __init__(self) -> None:
        self._given: list[tuple[Callback, dict[str, Any]]] = []

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep that a callback has ended the run: killed before its test, it has no epoch to go."""
        checkpoint["should_stop"] = trainer.should_stop

    def on_load_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Stop if the run had come to that, unless it has other limits now. Note what callbacks were given."""
        saved, here = checkpoint["hyper_parameters"]["config"], module.hparams["config"]
        trainer.should_stop = checkpoint.get("should_stop", False) and _limits(saved) == _limits(here)
        states = checkpoint["callbacks"]
        for callback in trainer.callbacks:  # type: ignore[attr-defined] # set by Lightning's callback connector
            names = inspect.signature(type(callback)).parameters.keys() & states.get(callback.state_key, {}).keys()
            self._given.append((callback, {name: value for name, value in vars(callback).items() if name in names}))

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Give callbacks their values back, and begin a new epoch where the saved one was whole."""
        for callback, values in self._given:
            vars(callback).update(values)
        loop, epochs = trainer.fit_loop, _epochs(trainer)
        if epochs[0].ready == epochs[0].processed:
            # Lightning sees to that itself, but not where `max_steps` is set: it would take the next epoch for the rest
            # of the last.
            for progress in epochs:
                progress.completed = progress.processed
            loop.reset_restart_stage()
            loop.epoch_loop.restarting = False

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Count the epoch in which a run has ended. One that had done so when it was saved has not come to that."""
        progress, _ = _epochs(trainer)
        progress.completed = max(progress.completed, progress.started)


def _epochs(trainer: Trainer) -> tuple[Any, Any]:
    """Lightning's counts of epochs, of this fit and in all. Typed by a base class that lacks half of them."""
    return trainer.fit_loop.epoch_progress.current, trainer.fit_loop.epoch_progress.total


def _limits(config: dict[str, Any]) -> dict[str, Any]:
    """What decides when a run ends."""
    keys = ("max_epochs", "max_steps", "max_time", "min_epochs", "min_steps")
    return {"callbacks": config["callbacks"], **{key: config["trainer"].get(key) for key in keys}}
