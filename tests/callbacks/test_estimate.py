from typing import Any

import pytest
from lightning import Callback, LightningModule, Trainer

from alexnet_lit.callbacks.estimate import Estimate, Plan, final_test_images
from tests.callbacks.tiny import LIGHTNING_CHATTER, Data, Module, make_trainer

pytestmark = [pytest.mark.filterwarnings(chatter) for chatter in LIGHTNING_CHATTER]


class Count(Callback):
    """What is planned at the start and after the first batch, and what then happens."""

    def __init__(self) -> None:
        self.plan = Plan(None, None)
        self.batches = self.validations = 0

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.plan = Plan.of(trainer)

    def on_train_batch_end(self, *_: Any) -> None:
        self.batches += 1

    def on_validation_start(self, *_: Any) -> None:
        self.validations += 1


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 3},
        {"max_epochs": 3, "limit_train_batches": 4},
        {"max_epochs": 2, "limit_train_batches": 0.5, "limit_val_batches": 1},
        {"max_epochs": 2, "limit_val_batches": 0},
        {"max_epochs": 2, "val_check_interval": 3},
        {"max_epochs": 2, "val_check_interval": 0.25},
        {"max_epochs": 4, "check_val_every_n_epoch": 1, "val_check_interval": 5},
        {"max_epochs": -1, "max_steps": 25},
        {"max_epochs": -1, "max_steps": 25, "val_check_interval": 4},
        {"max_epochs": 2, "max_steps": 100},
        {"max_epochs": 3, "check_val_every_n_epoch": None, "val_check_interval": 7},
        {"max_epochs": 2, "accumulate_grad_batches": 4},
        {"max_epochs": -1, "max_steps": 7, "accumulate_grad_batches": 4},
        {"fast_dev_run": True},
        {"fast_dev_run": 3},
    ],
    ids=str,
)
def test_what_is_planned_happens(options: dict[str, Any]) -> None:
    count = Count()
    make_trainer(callbacks=[count], **options).fit(Module(), Data(train=10))
    assert count.plan.batches == count.batches
    assert count.plan.validations(count.batches) == count.validations


def test_validation_every_other_epoch_is_planned_once_its_loader_is_there() -> None:
    class Late(Count):
        def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
            super().on_validation_start()
            self.plan = Plan.of(trainer)

    count = Late()
    make_trainer(callbacks=[count], max_epochs=5, check_val_every_n_epoch=2).fit(Module(), Data(train=3))
    assert count.plan.validations(count.batches) == count.validations == 2


def test_a_run_without_an_end_has_no_plan() -> None:
    assert Plan.of(make_trainer(max_epochs=-1)).batches is None


def run(estimate: Estimate, *, batches: int, seconds: float, start: float = 0.0) -> float:
    for _ in range(batches):
        start += seconds
        estimate.trained(10, start)
    return start


def test_time_left_counts_evaluation_as_a_third_until_it_is_measured() -> None:
    plan = Plan(batches=100, per_epoch=50, interval=50, every_epochs=1, validation=3)
    estimate = Estimate(plan=plan, batches=0, per_validation=30, test=60)
    now = run(estimate, batches=50, seconds=2.0)
    assert estimate.seconds_left == pytest.approx(50 * 2.0 + (2 * 30 + 60) / 3 * 0.2)
    for _ in range(3):
        now += 5.0
        estimate.evaluated(10, now)
    estimate.validated()
    assert estimate.seconds_left == pytest.approx(50 * 2.0 + (30 + 60) * 0.5)


def test_the_first_step_is_left_out() -> None:
    plan = Plan(batches=10, per_epoch=10)
    estimate = Estimate(plan=plan, batches=0, per_validation=None, test=0)
    estimate.trained(10, 500.0)
    assert (estimate.seconds_left, estimate.images_per_second, estimate.measured) == (None, None, 0)
    run(estimate, batches=2, seconds=1.0, start=500.0)
    assert (estimate.seconds_left, estimate.images_per_second, estimate.measured) == (7.0, 10.0, 2)


def test_the_share_runs_from_where_a_run_is_resumed_to_one() -> None:
    plan = Plan(batches=20, per_epoch=10, interval=10, every_epochs=1, validation=3)
    estimate = Estimate(plan=plan, batches=10, per_validation=None, test=0)
    assert estimate.fraction is None  # the size of a batch is not known yet
    run(estimate, batches=1, seconds=1.0)
    assert estimate.fraction == pytest.approx((11 + 1) / (20 + 2))
    run(estimate, batches=9, seconds=1.0)
    for now in (20.0, 21.0, 22.0):
        estimate.evaluated(10, now)
    assert estimate.fraction == pytest.approx(1.0)
    assert estimate.seconds_left == 0.0
    estimate.validated()
    assert estimate.fraction == pytest.approx(1.0)


def test_a_test_alone_is_estimated_from_itself() -> None:
    estimate = Estimate(plan=Plan(batches=0, per_epoch=None), batches=0, per_validation=None, test=10)
    for now in (1.0, 3.0, 5.0, 7.0, 9.0):
        estimate.evaluated(1, now)
    assert (estimate.fraction, estimate.seconds_left) == (0.5, 10.0)


@pytest.mark.parametrize(("limit", "images"), [(1.0, 40), (0.5, 20), (3, 24), (9, 40), (0, 0)])
def test_the_test_to_come_respects_its_limit(limit: float, images: int) -> None:
    trainer = make_trainer(limit_test_batches=limit)
    assert final_test_images(trainer) == 0
    trainer.fit(Module(), Data(test=5))
    assert final_test_images(trainer) == images
