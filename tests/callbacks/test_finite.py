"""A loss or weights that are no longer numbers: the run stops at that step, and what was saved before stays good."""

import json

import pytest
import torch

from alexnet_lit.lit import Classifier
from tests.conftest import Outcome, Train

# LeNet on real images: a step takes milliseconds. 20 steps an epoch; points of the curve come later than any of them.
LENET = (
    *("data=sample", "model=lenet", "data.image_size=28", "data.batch_size=32", "data.train_size=640"),
    *("data.val_size=64", "trainer.accelerator=cpu", "trainer.max_epochs=2", "trainer.log_every_n_steps=1000"),
    *("trainer.limit_test_batches=1", "checkpoint.every_steps=1", "scheduler=constant"),
)


def saved(outcome: Outcome) -> int:
    """The step of last.ckpt, whose weights are numbers."""
    checkpoint = torch.load(outcome.folder / "checkpoints" / "last.ckpt", weights_only=True)
    trained = checkpoint.get("moving_average", {"trained": []})["trained"]
    assert all(value.isfinite().all() for value in [*checkpoint["state_dict"].values(), *trained])
    step: int = checkpoint["global_step"]
    return step


def test_a_learning_rate_out_of_all_bounds(train: Train) -> None:
    outcome = train(*LENET, "optimizer.lr=1e30", "trainer.gradient_clip_val=null")

    assert outcome.status == 1
    assert outcome.result["status"] == "diverged"
    assert outcome.result["steps"] < 5, "long before the first point of the curve"
    assert f"step {outcome.result['steps']}: lower optimizer.lr" in outcome.out
    assert saved(outcome) == outcome.result["steps"] - 1
    assert f"last finite weights: {outcome.folder / 'checkpoints' / 'last.ckpt'}" in outcome.out
    json.loads((outcome.folder / "result.json").read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_loss_that_is_no_number_stops_its_own_step(
    train: Train, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    step = Classifier.training_step

    def poisoned(self: Classifier, batch, batch_idx):  # type: ignore[no-untyped-def] # as the method it stands for
        return step(self, batch, batch_idx) + (value if self.global_step == 6 else 0.0)

    monkeypatch.setattr(Classifier, "training_step", poisoned)

    outcome = train(*LENET)

    assert (outcome.status, outcome.result["status"], outcome.result["steps"]) == (1, "diverged", 7)
    assert f"the training loss is {value} at step 7: lower optimizer.lr" in outcome.out
    assert saved(outcome) == 6


@pytest.mark.parametrize(("at", "callbacks"), [(7, "default"), (20, "default"), (7, "ema"), (20, "ema")])
def test_gradients_that_overflow_spoil_no_checkpoint(
    train: Train, monkeypatch: pytest.MonkeyPatch, at: int, callbacks: str
) -> None:
    """The loss of that step is finite still. At the end of an epoch a validation would follow."""

    def poison(self: Classifier) -> None:
        if self.global_step == at - 1:
            next(self.net.parameters()).grad.fill_(torch.inf)  # type: ignore[union-attr] # after backward there is one

    monkeypatch.setattr(Classifier, "on_after_backward", poison)

    outcome = train(*LENET, f"callbacks={callbacks}")

    assert (outcome.status, outcome.result["status"]) == (1, "diverged")
    assert f"weights are no longer finite after step {at}: lower optimizer.lr" in outcome.out
    assert saved(outcome) == at - 1
    assert not (outcome.folder / "checkpoints" / "best.ckpt").exists()


@pytest.mark.slow
def test_two_ranks_stop_together_though_one_alone_has_the_loss(train: Train) -> None:
    outcome = train(
        *(*LENET, "trainer.devices=2"), "+callbacks.poison={_target_: tests.poison.Poison, rank: 1, steps: 6}"
    )

    assert (outcome.status, outcome.result["status"], outcome.result["steps"]) == (1, "diverged", 7)
    assert outcome.result["world_size"] == 2
    assert "the training loss is nan at step 7: lower optimizer.lr" in (outcome.folder / "train.log").read_text()
    assert saved(outcome) == 6
