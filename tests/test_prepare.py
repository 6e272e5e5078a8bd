"""Whatever is given to an argument of lightning.Trainer either runs or costs one line, before data is read."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf, open_dict

from alexnet_lit import compose
from alexnet_lit.callbacks.loggers import TensorBoard
from alexnet_lit.errors import UserError
from alexnet_lit.prepare import RunObjects, prepare

TINY = ("data=sample", "trainer.accelerator=cpu", "model=lenet", "data.image_size=28", "data.batch_size=8")
ODD: list[Any] = [None, 0, -1, 0.001, "odd"]


@pytest.fixture(scope="module")
def config() -> DictConfig:
    """A run that is built in milliseconds. Not to be changed."""
    return compose(*TINY, "callbacks=none", "logger=none")


def prepared(config: DictConfig, key: str, value: Any) -> RunObjects:
    """The run with another value of the trainer's, built."""
    config = config.copy()
    with open_dict(config):
        OmegaConf.update(config, f"trainer.{key}", value, merge=False)
    return prepare(config, Path("/nowhere"))


@pytest.mark.parametrize("key", inspect.signature(Trainer).parameters)
@pytest.mark.filterwarnings("ignore::Warning")  # of Lightning, on what it takes
def test_an_odd_value_is_taken_or_refused_in_a_line(key: str, config: DictConfig) -> None:
    for value in ODD:
        try:
            objects = prepared(config, key, value)
        except UserError as mistake:
            line = str(mistake)
            assert "\n" not in line
            assert line.startswith(f"trainer.{key}="), line
        else:
            trainer = objects.trainer
            assert 0 not in (trainer.max_epochs, trainer.max_steps, trainer.limit_train_batches), "trains something"
    torch.use_deterministic_algorithms(False)


def test_short_names_null_and_what_is_deleted_mean_what_they_mean_to_lightning(config: DictConfig) -> None:
    for typed, runs in ((64, "64-true"), ("bf16", "bf16-mixed"), (None, "32-true")):
        objects = prepared(config, "precision", typed)
        assert objects.config.trainer.precision == objects.trainer.precision == runs
    assert prepared(config, "max_epochs", None).config.trainer.max_epochs == 1000
    assert prepared(config, "log_every_n_steps", None).config.trainer.log_every_n_steps == 50
    assert vars(prepared(config, "profiler", "simple").trainer)["profiler"].dirpath == Path("/nowhere")
    assert prepared(config, "limit_val_batches", None).trainer.limit_val_batches == 1.0
    loop = prepared(config, "max_epochs", 2).trainer.fit_loop.epoch_loop
    assert "_broadcast_sigterm_tensor" in vars(loop).keys() & set(dir(type(loop))), "each step would wait"
    objects = prepare(compose(*TINY, "~trainer.max_steps", "~trainer.gradient_clip_val"), Path("/nowhere"))
    assert isinstance(objects.trainer.logger, TensorBoard)
    assert (objects.trainer.max_steps, objects.trainer.gradient_clip_val) == (-1, None)
