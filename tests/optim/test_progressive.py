"""callbacks=progressive: small images first, and a net that is none the worse for it."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import alexnet_lit
from alexnet_lit.nets.design import ConvNet
from alexnet_lit.watch import progress
from alexnet_lit.watch.estimate import Estimate
from tests.conftest import Train
from tests.optim.test_average import stopped_at
from tests.test_run import equal, weights

# Two epochs of ten steps, of which the first half have images of 20 px.
LENET = (
    *("data=sample", "model=lenet", "model.activation=relu", "model.init=kaiming", "model.dropout=0.2"),
    *("data.image_size=28", "data.batch_size=32", "data.train_size=320", "data.val_size=32", "optimizer=adamw"),
    *("trainer.accelerator=cpu", "trainer.max_epochs=2", "trainer.limit_test_batches=1", "logger=none"),
    *("callbacks=progressive", "callbacks.progressive.size=20"),
)


@pytest.fixture
def maps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Of each batch that a run's net sees: px of its images, units that its linear layers take."""
    seen: list[tuple[int, int]] = []
    began = ConvNet.__init__

    def begin(net: ConvNet, *arguments: Any, **named: Any) -> None:
        began(net, *arguments, **named)
        net.features[0].register_forward_pre_hook(lambda _, given: sizes.append(given[0].shape[-1]))
        net.classifier[0].register_forward_pre_hook(look)

    def look(_: Any, given: tuple[Tensor]) -> None:
        if len(given[0]) > 1:  # one image stands for all where layers are listed
            seen.append((sizes[-1], given[0].shape[-1]))

    sizes: list[int] = []
    monkeypatch.setattr(ConvNet, "__init__", begin)
    return seen


def test_the_first_steps_have_small_images_and_validation_has_whole_ones(
    train: Train, maps: list[tuple[int, int]]
) -> None:
    outcome = train(*LENET)
    assert outcome.status == 0, outcome.err
    units = 16 * 5 * 5  # of the last map of an image of 28 px
    epoch, look = 10, [(28, units)]
    # A validation after each epoch and the test at the end are one batch each.
    assert maps == [(20, units)] * epoch + look + [(28, units)] * epoch + look + look


def test_images_and_maps_are_resized_bilinearly() -> None:
    module, _ = alexnet_lit.build(alexnet_lit.compose(*LENET))
    callback = alexnet_lit.factory.make(alexnet_lit.compose(*LENET), "callbacks.progressive")
    net: Any = module.net
    images = torch.rand(2, 1, 28, 28)
    net.eval()  # no dropout
    whole = net(images)
    callback.on_fit_start(None, module)
    callback._small = True
    torch.testing.assert_close(net(images), whole)  # in evaluation

    net.train()
    net.classifier.eval()
    small = F.interpolate(images, size=20, mode="bilinear", antialias=True, align_corners=False)
    x: Tensor = torch.nn.Sequential(*net.features)(small)
    enlarged = F.interpolate(x, size=5, mode="bilinear", align_corners=False)
    torch.testing.assert_close(net(images), net.classifier(enlarged.flatten(1)))

    callback.on_fit_end(None, module)
    torch.testing.assert_close(net(images), whole)


@pytest.mark.parametrize(("share", "small"), [(0.0, 0), (0.25, 5), (1.0, 20)])
def test_the_share_is_one_of_the_steps(share: float, small: int, train: Train, maps: list[tuple[int, int]]) -> None:
    outcome = train(*LENET, f"callbacks.progressive.share={share}", "data.val_size=0", "objective=null")
    assert outcome.status == 0, outcome.err
    assert [size for size, _ in maps[:-1]] == [20] * small + [28] * (20 - small)


@pytest.mark.parametrize("gathered", [1, 2])
def test_the_time_that_is_left_is_told_of_the_small_images(
    gathered: int, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(**arguments: Any) -> Estimate:
        told.append(arguments.get("light", (0, 0)))
        return Estimate(**arguments)

    told: list[tuple[float, float]] = []
    monkeypatch.setattr(progress, "Estimate", look)
    outcome = train(*LENET, f"trainer.accumulate_grad_batches={gathered}")
    assert outcome.status == 0, outcome.err
    assert told[0] == pytest.approx((10, (20 / 28) ** 2)), "batches"


@pytest.mark.slow
def test_stopped_among_small_images_a_run_ends_where_it_would_have_ended(train: Train, tmp_path: Path) -> None:
    straight = train(*LENET, logs=tmp_path / "straight")

    with pytest.MonkeyPatch.context() as patch:
        stopped_at(5, patch)
        stopped = train(*LENET, logs=tmp_path / "stopped")
    assert (stopped.status, stopped.result["steps"]) == (130, 5), stopped.err

    resumed = train(f"ckpt={stopped.folder}", logs=tmp_path / "stopped")

    assert resumed.status == 0, resumed.err
    assert equal(weights(resumed.folder, "last"), weights(straight.folder, "last"))
    assert resumed.result["test/loss"] == straight.result["test/loss"]


@pytest.mark.slow
def test_a_compiled_net_learns_the_same(train: Train, tmp_path: Path) -> None:
    exact = (*LENET, "model.dropout=0.0", "trainer.precision=64-true")
    plain, compiled = (train(*exact, f"model.compile={kind}", logs=tmp_path / kind) for kind in ("false", "true"))
    assert (plain.status, compiled.status) == (0, 0), compiled.err
    for name, weight in weights(plain.folder, "last").items():
        torch.testing.assert_close(weights(compiled.folder, "last")[name], weight, rtol=1e-9, atol=1e-9)


MISTAKES = {
    "callbacks.progressive.size=28": "callbacks.progressive: size=28: should be less than data.image_size=28",
    "callbacks.progressive.size=8": "callbacks.progressive.size=8: nothing is left of so small an image: use a larger",
    "callbacks.progressive.size=0": "callbacks.progressive.size=0: should be greater than or equal to 1",
    "callbacks.progressive.share=1.5": "callbacks.progressive.share=1.5: should be less than or equal to 1",
}


@pytest.mark.parametrize(("typed", "told"), MISTAKES.items(), ids=MISTAKES)
def test_a_size_that_can_not_be_is_refused(typed: str, told: str, train: Train) -> None:
    outcome = train(*LENET, typed)
    assert outcome.status == 2
    assert told in outcome.err
    assert "Traceback" not in outcome.err


def test_a_net_that_several_devices_hold_does_not_take_it(train: Train) -> None:
    outcome = train("callbacks=progressive", "data=sample", "model=alexnet_2012", "trainer=towers", "trainer.devices=2")
    assert "ProgressiveResizing has to see the whole net: use callbacks=default" in outcome.err
