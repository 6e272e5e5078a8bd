"""callbacks=whitening: the first convolution begins with outputs that are less correlated, and as strong as before."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import alexnet_lit
from alexnet_lit.callbacks.whitening import WhitenedKernels
from alexnet_lit.errors import UserError
from alexnet_lit.prepare import RunObjects, prepare
from tests.conftest import Train
from tests.runs import equal, weights

RUN = ("data=sample", "data.train_size=256", "data.image_size=67", "callbacks=whitening", "trainer.accelerator=cpu")


def outputs(objects: RunObjects) -> Tensor:
    """What the first convolution gives at all places of the images that were looked at: (places, kernels)."""
    first = objects.module.net.get_submodule("features.conv1")
    assert isinstance(first, torch.nn.Conv2d)
    with torch.no_grad():
        seen = objects.module.pixels(objects.data.images["train"][0])
        return torch.nn.functional.conv2d(seen, first.weight, stride=first.stride).movedim(1, -1).flatten(0, 2)


def directions(values: Tensor) -> float:
    """In how many directions they vary equally: their participation ratio."""
    variances = torch.linalg.eigvalsh(values.T.double() @ values.double())
    return float(variances.sum() ** 2 / variances.square().sum())


def test_outputs_differ_and_are_as_strong_as_before(tmp_path: Path) -> None:
    objects = prepare(alexnet_lit.compose(*RUN, "model=alexnet"), tmp_path)
    objects.data.prepare_data()
    objects.data.setup("fit")
    trainer: Any = objects.trainer
    trainer.datamodule = objects.data  # as fit sets it
    (callback,) = (each for each in trainer.callbacks if isinstance(each, WhitenedKernels))
    before = outputs(objects)
    callback.setup(trainer, objects.module, "fit")
    after = outputs(objects)
    assert after.square().mean() == pytest.approx(before.square().mean().item(), rel=1e-3)
    assert directions(before) < 2 < 8 < directions(after)
    windows = objects.module.pixels(objects.data.images["train"][0][:32]).unfold(2, 11, 4).unfold(3, 11, 4)
    variances, components = torch.linalg.eigh(torch.cov(windows.reshape(-1, 121).T.double(), correction=0))
    nothing = components[:, variances < 1e-6 * variances[-1]]  # of an enlarged image, more than half of them
    kernels = objects.module.net.get_submodule("features.conv1").weight.flatten(1).double()  # type: ignore[operator]
    assert (kernels @ nothing).norm() < 0.2 * kernels.norm(), "noise is not blown up"


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_its_weights(train: Train, tmp_path: Path) -> None:
    settings = (*RUN, "model=lenet", "model.activation=relu", "scheduler=constant", "data.val_size=64", "logger=none")
    whole = train(*settings, "trainer.max_epochs=2", logs=tmp_path / "whole")
    begun = train(*settings, "trainer.max_epochs=1", logs=tmp_path / "begun")
    folder = begun.folder
    assert train(f"ckpt={folder}", "trainer.max_epochs=2", logs=tmp_path / "begun").status == 0
    assert equal(weights(whole.folder), weights(folder))


def test_a_net_without_a_convolution_is_refused(tmp_path: Path) -> None:
    objects = prepare(alexnet_lit.compose(*RUN, "model=lenet"), tmp_path)
    objects.module.net = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match="callbacks=whitening: the net has no first convolution"):
        WhitenedKernels(images=1, eps=0.1).setup(objects.trainer, objects.module, "fit")
