"""The checkpoint that a run goes on from, as `ckpt` names it, and what stands against that."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning import Callback
from omegaconf import DictConfig

from alexnet_lit.data.folder import changed_classes
from alexnet_lit.errors import Mistake
from alexnet_lit.factory import read_checkpoint
from alexnet_lit.lit import Classifier
from alexnet_lit.mistakes import show
from alexnet_lit.optim import MovingAverage


def read_continued(ckpt: str | None) -> tuple[Path, dict[str, Any]] | tuple[None, None]:
    """The file that `ckpt` means, and what is in it. Raises: Mistake if training can't go on from there."""
    if ckpt is None:
        return None, None
    path = Path(ckpt).expanduser().absolute()
    if path.is_dir():
        path = path / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise Mistake(f"ckpt={ckpt}: there is no {path}: name a run folder, or a .ckpt file of one")
    checkpoint = read_checkpoint(path)
    if "optimizer_states" not in checkpoint:
        raise Mistake(f"ckpt={ckpt}: holds weights only, from which training can't go on: use last.ckpt of that run")
    return path, checkpoint


def keep_split(config: DictConfig, checkpoint: dict[str, Any]) -> DictConfig:
    """The same config, for a folder of pictures with what the checkpoint's run found there, so that its split stays.

    Raises: Mistake if the folder or its val/ is gone.
    """
    data, before = config.data, checkpoint["hyper_parameters"]["config"]["data"]
    same = all(data.get(key) == before.get(key) for key in ("_target_", "val_size", "folds", "fold", "split_seed"))
    if not before.get("found") or data.get("found") is not None or not same:
        return config
    if isinstance(data.get("dir"), str):
        folder = Path(data.dir).expanduser()
        if not folder.exists():
            way_out = f"add data.dir=... to ckpt={config.ckpt}, the folder that has train/<class>/<picture>"
            raise Mistake(f"data.dir={data.dir}: it is not there: {way_out}")
        if before["found"]["val"] and not (folder / "val").exists():
            way_out = "put it back, or start a new run"
            raise Mistake(f"data.dir={data.dir}: val/ is gone, and what is in train/ was trained on: {way_out}")
    config = config.copy()
    config.data.found = {**before["found"], "earlier": True}
    return config


def check_continues(checkpoint: dict[str, Any], module: Classifier, callbacks: Iterable[Callback], name: str) -> None:
    """Refuse a checkpoint that is not of such a run. Raises: Mistake that says what differs."""
    _check_same_classes(module, checkpoint, name)
    _check_same_net(module, checkpoint, name)
    _check_average(callbacks, checkpoint, name)


def _check_same_classes(module: Classifier, checkpoint: dict[str, Any], name: str) -> None:
    """Refuse a checkpoint of other classes, or of these in another order. Raises: Mistake that names them."""
    here = list(module.classes)
    there = checkpoint["hyper_parameters"].get("classes", here)  # checkpoints of before they were kept have none
    if changed := changed_classes(there, here):
        way_out = "make them what they were, or start a new run"
        raise Mistake(f"{name}: the classes have changed since, now {changed}: {way_out}")


def _check_same_net(module: Classifier, checkpoint: dict[str, Any], name: str) -> None:
    """Refuse a checkpoint of another net. Raises: Mistake that names what differs: keys of model, else weights."""
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
        raise Mistake(f"{name}: is of another net, with {', '.join(other[:4])}{more}: {way_out}")


def _check_average(callbacks: Iterable[Callback], checkpoint: dict[str, Any], name: str) -> None:
    """Refuse to train on with an average in place of the weights. Raises: Mistake if what tells them apart is gone."""
    if "moving_average" in checkpoint and not any(isinstance(each, MovingAverage) for each in callbacks):
        raise Mistake(f"{name}: was trained with callbacks.ema, which is not there now: add it, or start a new run")
