from pathlib import Path
from typing import Any

import pytest
from lightning import Callback, LightningModule, Trainer

import alexnet_lit.callbacks.speed
from alexnet_lit.callbacks.history import History
from alexnet_lit.callbacks.speed import Speed
from tests.callbacks.tiny import LIGHTNING_CHATTER, Clock, Data, Module, make_trainer

pytestmark = [pytest.mark.filterwarnings(chatter) for chatter in LIGHTNING_CHATTER]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(alexnet_lit.callbacks.speed, "time", clock)
    return clock


class SaveAt(Callback):
    def __init__(self, path: Path, step: int) -> None:
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


class SlowDisk(Callback):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_save_checkpoint(self, *_: Any) -> None:
        self.clock.now += 50


def test_throughput_is_of_training_alone(clock: Clock, tmp_path: Path) -> None:
    history, speed = History(), Speed()
    callbacks = [speed, SlowDisk(clock), SaveAt(tmp_path / "last.ckpt", 3)]
    trainer = make_trainer(logger=[history], callbacks=callbacks, log_every_n_steps=2, val_check_interval=2)
    trainer.fit(Module(clock.costs(train=2, val=100)), Data(train=6, val=1))
    assert history.points["images_per_second"] == [(2, 4.0), (4, 4.0), (6, 4.0)]  # 8 images in 2 s
    assert (speed.images, speed.images_per_second) == (48, 4.0)
    assert speed.seconds == 6 * 2 + 3 * 100 + 50


def test_each_point_is_about_the_steps_since_the_last_one(clock: Clock) -> None:
    history, costs = History(), iter([1, 1, 4, 4])
    module = Module(lambda stage: clock.costs(train=next(costs))(stage))
    make_trainer(logger=[history], callbacks=[Speed()], log_every_n_steps=2, limit_val_batches=0).fit(module, Data())
    assert history.points["images_per_second"] == [(2, 8.0), (4, 2.0)]


def test_a_run_shorter_than_the_interval_has_one_point(clock: Clock) -> None:
    first, second = History(), History()
    trainer = make_trainer(logger=[first, second], callbacks=[Speed()], log_every_n_steps=50)
    trainer.fit(Module(clock.costs(train=4)), Data(train=3))
    assert first.points["images_per_second"] == second.points["images_per_second"] == [(3, 2.0)]


def test_gathered_batches_count_and_only_steps_are_logged(clock: Clock) -> None:
    history, speed = History(), Speed()
    trainer = make_trainer(logger=[history], callbacks=[speed], accumulate_grad_batches=2)
    trainer.fit(Module(clock.costs(train=1)), Data(train=4))
    assert speed.images == 32
    assert [step for step, _ in history.points["images_per_second"]] == [1, 2]


def test_a_resumed_run_adds_up(clock: Clock, tmp_path: Path) -> None:
    module, data = Module(clock.costs(train=2)), Data(train=4, val=0)
    make_trainer(callbacks=[Speed(), SaveAt(tmp_path / "last.ckpt", 3)]).fit(module, data)
    clock.now += 3600
    speed = Speed()
    make_trainer(callbacks=[speed], max_epochs=2).fit(module, data, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert (speed.images, speed.seconds, speed.images_per_second) == (8 * 8, 2 * 8, 4.0)


def test_a_test_of_the_best_checkpoint_changes_nothing(clock: Clock, tmp_path: Path) -> None:
    speed, module = Speed(), Module(clock.costs(train=2, test=9))
    trainer = make_trainer(callbacks=[speed, SaveAt(tmp_path / "best.ckpt", 1)])
    trainer.fit(module, Data(train=4))
    trainer.test(module, Data(), ckpt_path=tmp_path / "best.ckpt", weights_only=True, verbose=False)
    assert (speed.images, speed.seconds) == (32, 8.0)


def test_an_interrupted_run_knows_its_seconds(clock: Clock) -> None:
    speed = Speed()

    def stop(stage: str) -> None:
        clock.now += 2
        if clock.now >= 1006:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        make_trainer(callbacks=[speed]).fit(Module(stop), Data(train=9))
    clock.now += 3600
    assert (speed.images, speed.seconds) == (16, 6.0)


def test_before_the_first_step_nothing_is_known() -> None:
    speed = Speed()
    assert (speed.images, speed.seconds, speed.images_per_second) == (0, 0.0, 0.0)
