"""callbacks=ema: what is scored, kept and tested is the average; tests/test_checkpoint.py resumes such a run."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alexnet_lit.callbacks.ema import MovingAverage
from alexnet_lit.lit import Classifier
from tests.conftest import Train
from tests.runs import saved, weights

# Three epochs of ten steps, dropout on.
LENET = (
    *("data=sample", "model=lenet", "model.activation=relu", "model.init=kaiming", "model.dropout=0.2"),
    *("data.image_size=28", "data.batch_size=32", "data.train_size=320", "trainer.accelerator=cpu"),
    *("optimizer=adamw", "optimizer.lr=3e-3", "scheduler=constant", "trainer.max_epochs=3", "callbacks=ema"),
)
PLAIN: dict[str, Any] = {"decay": 0.8, "warmup": False}
WARM: dict[str, Any] = {"decay": 0.999, "warmup": True}


def typed(settings: dict[str, Any]) -> list[str]:
    return [f"callbacks.ema.{key}={str(value).lower()}" for key, value in settings.items()]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[list[Tensor]]:
    """The weights that training has after each step of the runs of a test."""
    seen: list[list[Tensor]] = []

    def look(self: Classifier, *_: Any) -> None:
        seen.append([weight.detach().double() for weight in self.net.parameters()])

    monkeypatch.setattr(Classifier, "on_train_batch_end", look)
    return seen


def average(steps: list[list[Tensor]], decay: float, warmup: bool) -> list[Tensor]:
    """By the formula, one weight after the other."""
    mean = steps[0]
    for n, new in enumerate(steps[1:], 1):
        share = min(decay, (1 + n) / (10 + n)) if warmup else decay
        mean = [share * old + (1 - share) * own for old, own in zip(mean, new, strict=True)]
    return mean


def assert_close(found: Any, wanted: list[Tensor]) -> None:
    found = list(found.values()) if isinstance(found, dict) else found
    for mine, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine.double(), other, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        (WARM, ("logger=none",)),
        (PLAIN, ("logger=none", "trainer.accumulate_grad_batches=2", "trainer.val_check_interval=3")),
    ],
    ids=["warm", "accumulated"],
)
def test_the_average_is_scored_and_kept(
    settings: dict[str, Any], more: tuple[str, ...], train: Train, verb: Train, steps: list[list[Tensor]]
) -> None:
    outcome = train(*LENET, *typed(settings), *more).ok()

    folder, result = outcome.folder, outcome.result
    taken = steps[1::2] if len(more) > 1 else steps
    assert len(taken) == result["steps"]
    best, last = saved(folder, "best"), saved(folder, "last")
    assert_close(best["state_dict"], average(taken[: best["global_step"]], **settings))
    assert_close(last["state_dict"], average(taken, **settings))
    assert_close(last["moving_average"]["trained"], taken[-1])
    assert (taken[-1][0] - average(taken, **settings)[0]).norm() > 1e-3, "they differ"
    found = json.loads(verb("evaluate", str(folder), "--json").out)
    assert (found["test/acc"], found["test/loss"]) == (result["test/acc"], result["test/loss"])
    refusal = train(f"ckpt={folder}", "trainer.max_epochs=4", "~callbacks.ema").refusal
    line = "was trained with callbacks.ema, which is not there now: add it, or start a new run"
    assert refusal == f"ckpt={folder}: {line}"


def test_in_half_precision_small_shares_are_not_lost(train: Train, steps: list[list[Tensor]]) -> None:
    settings = {**WARM, "warmup": False}
    short = ("trainer.precision=bf16-true", "trainer.max_epochs=1", "logger=none")
    outcome = train(*LENET, *typed(settings), *short).ok()
    assert_close(saved(outcome.folder, "last")["state_dict"], average(steps, **settings))
    assert {value.dtype for value in weights(outcome.folder, "best").values()} == {torch.bfloat16}, "what was scored"


def test_it_stays_on_the_device_and_waits_for_nothing() -> None:
    """A tensor on the meta device has no values: whoever asks for one, or copies it elsewhere, fails."""
    module = SimpleNamespace(net=nn.Linear(3, 2, device="meta"))
    callback = MovingAverage(**WARM)
    trainer: Any = SimpleNamespace(global_step=0, state=SimpleNamespace(fn="fit"))
    checkpoint: dict[str, Any] = {"state_dict": {}}
    for _ in range(3):
        callback.on_train_batch_start(trainer, module)
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, module)
        callback.on_validation_start(trainer, module)
    callback.on_save_checkpoint(trainer, module, checkpoint)
    callback.setup(trainer, module, "fit")
    fresh: dict[str, Any] = {"state_dict": {}}
    callback.on_save_checkpoint(trainer, module, fresh)
    assert fresh == {"state_dict": {}}, "another fit has no average yet"
    assert checkpoint["moving_average"]["times"] == 3
    assert {value.device.type for value in checkpoint["state_dict"].values()} == {"meta"}
