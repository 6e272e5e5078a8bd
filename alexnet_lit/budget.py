"""A run sized to a time: with `budget=5m` it is measured first, then laid out so that all of it takes five minutes."""

import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import Container, DictConfig, OmegaConf

from alexnet_lit.config import show
from alexnet_lit.data import ImageData
from alexnet_lit.distributed.environment import rank_environment
from alexnet_lit.errors import UserError
from alexnet_lit.length import epoch_batches, limited
from alexnet_lit.prepare import prepare, prepare_data
from alexnet_lit.terminal import log
from alexnet_lit.trial import Speeds, measured, trial_of

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SPARE = 0.03  # of the budget, for what is not measured
_VALIDATING = 0.1  # of the time at most, unless a single validation takes longer


def seconds(budget: Any) -> float:
    """What 90s, 5m or 1h30m come to. Raises: UserError for anything else."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", budget) if isinstance(budget, str) else []
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if not total or "".join(number + unit for number, unit in parts) != budget:
        raise UserError(f"budget={show(budget)}: should be a time such as 90s, 5m or 1h30m")
    return total


def sized(config: DictConfig, folder: Path) -> DictConfig:
    """The same config, with steps in place of its budget; the config that is saved in `folder` says the same.

    Measures a few steps of the run, on all its devices, in a folder that is gone when this returns.
    Raises: UserError for a budget that can't be kept, and all that `prepare` refuses.
    """
    if config.get("budget") is None or config.trainer.fast_dev_run:
        return config
    started = time.monotonic()
    budget = seconds(config.budget)
    _check(config)
    laid_out = config.copy()
    _put(laid_out, {"trainer.val_check_interval": 1, "trainer.check_val_every_n_epoch": None})
    prepare(laid_out, folder)  # what is wrong with the run is told before its speed is measured
    began = time.monotonic()
    with TemporaryDirectory(dir=folder, prefix=".trial_") as scratch:
        parts = prepare_data(prepare(trial_of(config), Path(scratch)))
        log.info("budget  %s, of which the first seconds go into measuring how fast this run is", config.budget)
        speeds = measured(parts, most=min(30.0, budget * _SPARE))
    overhead = time.monotonic() - began - speeds.measured  # which the run itself begins with once more
    left = (1 - _SPARE) * budget - (time.monotonic() - started) - overhead
    changes, told = lay_out(config, parts.data, speeds, left)
    log.info("        %s", told)
    again = " ".join(f"{key}={show(value)}" for key, value in changes.items())
    log.info("        the very same again, without budget=: %s", again)
    return _changed(config, folder, changes)


def _check(config: DictConfig) -> None:
    """Refuse what can't be sized."""
    text, place = f"budget={config.budget}", rank_environment()
    if config.ckpt is not None:
        raise UserError(f"{text}: is for a new run, and ckpt={config.ckpt} continues one: use trainer.max_steps=...")
    if place.launcher and not place.is_child:
        raise UserError(
            f"{text}: a run measures itself before it starts its processes, and {place.launcher} has started these: "
            "use trainer.max_steps=..."
        )
    if config.trainer.accumulate_grad_batches != 1:
        way_out = "use a larger data.batch_size, or trainer.max_steps=..."
        raise UserError(f"{text}: can't be laid out with trainer.accumulate_grad_batches: {way_out}")
    if config.scheduler.get("monitor") is not None:
        way_out = "use scheduler=one_cycle or constant, or trainer.max_epochs=..."
        raise UserError(f"{text}: scheduler.monitor={config.scheduler.monitor} looks at whole epochs: {way_out}")


def lay_out(config: DictConfig, data: ImageData, speeds: Speeds, left: float) -> tuple[dict[str, Any], str]:
    """Keys and values that make a run take `left` seconds, validation and test included; and a line about them.
    Where trainer.max_steps is set, it stays the most.

    The last validation comes after the last step, as best.ckpt is chosen by it. Raises: UserError if nothing is left.
    """
    trainer = config.trainer
    test = 0 if data.validate == "test" else limited(data.sizes["test"], trainer.limit_test_batches, data.batch_size)
    validation = limited(data.sizes[data.validate], trainer.limit_val_batches, data.batch_size)
    each = validation * speeds.image + 2 * speeds.save  # best.ckpt and last.ckpt
    epoch = epoch_batches(trainer, data)
    batch = speeds.batch + speeds.save * (1 / epoch + 1 / config.checkpoint.every_steps)
    room = left - test * data.views.count * speeds.image
    most = trainer.max_steps if trainer.max_steps > 0 else int(room / batch)
    times = min(max(4, most // epoch), int(_VALIDATING * room / each), most)
    times = max(1, times) if validation else 1
    interval = int(min((room / times - each) / batch, most / times))
    if interval < 1:
        needed = seconds(config.budget) - room + times * (each + batch)
        raise UserError(
            f"budget={config.budget}: beginning, validation ({validation:,} images) and test ({test:,}) take "
            f"{needed:.0f} s alone: give it more, or lower trainer.limit_val_batches and trainer.limit_test_batches"
        )
    steps = times * interval
    changes = {"max_steps": steps, "max_epochs": -1, "val_check_interval": interval, "check_val_every_n_epoch": None}
    looks = f", {times} validation{'s' * (times > 1)} of {validation:,}" if validation else ""
    told = f"{steps:,} steps of {data.batch_size} images at {data.batch_size / speeds.batch:,.1f} images/s{looks}"
    return {f"trainer.{key}": value for key, value in changes.items()}, f"{told}, a test of {test:,}"


def _changed(config: DictConfig, folder: Path, changes: dict[str, Any]) -> DictConfig:
    """The config with `changes` in place of the budget, here and where it is saved."""
    here = config.copy()
    _put(here, changes)
    file = folder / ".hydra" / "config.yaml"
    if file.is_file():  # not of a run that was started from Python
        saved = OmegaConf.load(file)
        _put(saved, changes)
        OmegaConf.save(saved, file)
    return here


def _put(config: Container, changes: dict[str, Any]) -> None:
    for key, value in {**changes, "budget": None}.items():
        OmegaConf.update(config, key, value)
