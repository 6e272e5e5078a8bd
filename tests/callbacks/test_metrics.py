"""Callbacks that measure: the training curve, throughput, a loss that is no number, time to an accuracy."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback

import alexnet_lit.callbacks.metrics
from alexnet_lit.callbacks.loggers import History
from alexnet_lit.callbacks.metrics import Throughput, TimeToAccuracy, TrainingCurve
from alexnet_lit.lit import Classifier
from tests.callbacks.tiny import LIGHTNING_CHATTER, Clock, Data, Module, SaveAt, make_trainer
from tests.conftest import Train
from tests.processes import Runs
from tests.runs import saved, scalars, weights
from tests.sweep.tiny import TINY
from tests.trouble import trouble

pytestmark = [pytest.mark.filterwarnings(chatter) for chatter in LIGHTNING_CHATTER]

# LeNet on real images: a step takes milliseconds. 20 steps an epoch; points of the curve come later than any of them.
LENET = (
    *("data=sample", "model=lenet", "data.image_size=28", "data.batch_size=32", "data.train_size=640"),
    *("data.val_size=64", "trainer.accelerator=cpu", "trainer.max_epochs=2", "trainer.log_every_n_steps=1000"),
    *("trainer.limit_test_batches=1", "checkpoint.every_steps=1", "scheduler=constant"),
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(alexnet_lit.callbacks.metrics, "time", clock)
    return clock


class SlowDisk(Callback):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_save_checkpoint(self, *_: Any) -> None:
        self.clock.now += 50


class WithPoints(Module):
    def take_point(self) -> dict[str, float]:
        return {"train/loss": 1.0, "lr": 0.1}


def test_throughput_is_of_training_alone_since_the_last_point(clock: Clock, tmp_path: Path) -> None:
    history, speed, costs = History(), Throughput(), iter([2, 2, 2, 2, 4, 4])
    callbacks = [speed, TrainingCurve(every=2), SlowDisk(clock), SaveAt(tmp_path / "last.ckpt", 3)]
    trainer = make_trainer(logger=[history], callbacks=callbacks, val_check_interval=2)

    def happens(stage: str) -> None:
        clock.now += next(costs) if stage == "train" else 100

    trainer.fit(WithPoints(happens), Data(train=6, val=1))
    assert history.points["images_per_second"] == [(2, 4.0), (4, 4.0), (6, 2.0)]  # 8 images in 2 s
    assert (speed.images, speed.images_per_second) == (48, 3.0)
    assert speed.seconds == 16 + 3 * 100 + 50


def test_a_resumed_run_adds_up(clock: Clock, tmp_path: Path) -> None:
    module, data = Module(clock.costs(train=2)), Data(train=4, val=0)
    make_trainer(callbacks=[Throughput(), SaveAt(tmp_path / "last.ckpt", 3)]).fit(module, data)
    clock.now += 3600
    speed = Throughput()
    make_trainer(callbacks=[speed], max_epochs=2).fit(module, data, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert (speed.images, speed.seconds, speed.images_per_second) == (8 * 8, 2 * 8, 4.0)


@pytest.mark.parametrize(("gathered", "steps"), [(1, [3, 5, 6, 9, 10]), (2, [3, 6])])
def test_points_are_of_steps_not_of_batches(gathered: int, steps: list[int]) -> None:
    history, speed = History(), Throughput()
    options = {"accumulate_grad_batches": gathered, "max_epochs": 2, "callbacks": [speed, TrainingCurve(every=3)]}
    make_trainer(logger=[history], **options).fit(WithPoints(), Data(train=5))
    assert speed.images == 2 * 5 * 8
    assert [step for step, _ in history.points["lr"]] == steps
    assert [step for step, _ in history.points["images_per_second"]] == steps


def test_time_to_an_accuracy_is_logged_once(clock: Clock) -> None:
    class Improving(Module):
        validate = "val"

        def on_validation_epoch_end(self) -> None:
            accuracy = {1: 0.5, 2: 0.85, 3: 0.7, 4: 0.9}[self.trainer.current_epoch + 1]
            self.trainer.loggers[0].log_metrics({"val/acc": accuracy}, self.trainer.global_step)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.happens("val")

    history = History()
    callbacks = [Throughput(), TimeToAccuracy(levels=[0.7, 0.8, 0.9, 0.95])]
    trainer = make_trainer(logger=[history], callbacks=callbacks, max_epochs=4)
    trainer.fit(Improving(clock.costs(train=2, val=1)), Data(train=2, val=1))
    found = {tag.partition("/")[2]: points for tag, points in history.points.items() if "seconds_to_acc/" in tag}
    assert found == {"0.7": [(4, 10.0)], "0.8": [(4, 10.0)], "0.9": [(8, 20.0)]}


@pytest.mark.slow
def test_the_norm_of_gradients_is_that_before_clipping(train: Train, tmp_path: Path) -> None:
    plain = ("scheduler=constant", "optimizer=sgd", "optimizer.lr=1.0", "optimizer.nesterov=false")
    typed = (*TINY, *plain, "optimizer.momentum=0", "optimizer.weight_decay=0", "trainer.max_steps=1")
    clippings = ("null", "1e-3 trainer.gradient_clip_algorithm=value")
    runs = [
        train(*typed, *f"trainer.gradient_clip_val={clipping}".split(), logs=tmp_path / str(number)).folder
        for number, clipping in enumerate(clippings)
    ]

    torch.manual_seed(0)
    fresh = alexnet_lit.build_net(alexnet_lit.compose(*TINY)).state_dict()
    moved = weights(runs[0])  # where nothing is clipped, the step is the gradient
    norm = torch.cat([(moved[f"net.{name}"] - value).flatten() for name, value in fresh.items()]).norm()
    for run in runs:
        ((step, value),) = scalars(run)["grad_norm"]
        assert step == 1
        assert value == pytest.approx(float(norm), rel=1e-4)


def finite_step(folder: Path) -> int:
    """The step of last.ckpt, whose weights are numbers."""
    checkpoint = saved(folder)
    trained = checkpoint.get("moving_average", {"trained": []})["trained"]
    assert all(value.isfinite().all() for value in [*checkpoint["state_dict"].values(), *trained])
    return int(checkpoint["global_step"])


def test_a_learning_rate_out_of_all_bounds(train: Train) -> None:
    outcome = train(*LENET, "optimizer.lr=1e30", "trainer.gradient_clip_val=null")
    assert outcome.status == 1
    assert outcome.result["status"] == "diverged"
    assert outcome.result["steps"] < 5, "long before the first point of the curve"
    assert f"step {outcome.result['steps']}: lower optimizer.lr" in outcome.out
    assert finite_step(outcome.folder) == outcome.result["steps"] - 1
    assert f"last finite weights: {outcome.folder / 'checkpoints' / 'last.ckpt'}" in outcome.out
    json.loads((outcome.folder / "result.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(("at", "callbacks"), [(7, "default"), (20, "ema")])
def test_gradients_that_overflow(train: Train, monkeypatch: pytest.MonkeyPatch, at: int, callbacks: str) -> None:
    """The loss of that step is finite still. At the end of an epoch a validation would follow."""

    def poison(self: Classifier) -> None:
        if self.global_step == at - 1:
            next(self.net.parameters()).grad.fill_(torch.inf)  # type: ignore[union-attr] # after backward there is one

    monkeypatch.setattr(Classifier, "on_after_backward", poison)

    outcome = train(*LENET, f"callbacks={callbacks}")
    assert (outcome.status, outcome.result["status"]) == (1, "diverged")
    assert f"weights are no longer finite after step {at}: lower optimizer.lr" in outcome.out
    assert finite_step(outcome.folder) == at - 1
    assert not (outcome.folder / "checkpoints" / "best.ckpt").exists()


@pytest.mark.slow
def test_two_ranks_stop_together_though_one_alone_has_the_loss(tmp_path: Path) -> None:
    run = Runs(tmp_path / "logs", ranks=2)
    assert run(*LENET, trouble("poison", rank=1, at=6)) == [1, 1], run.text
    assert (run.result["status"], run.result["steps"], run.result["world_size"]) == ("diverged", 7, 2)
    assert "the training loss is nan at step 7: lower optimizer.lr" in (run.folder / "train.log").read_text()
    assert finite_step(run.folder) == 6
