"""A run is as long as its budget, and can be repeated without one."""

import re
import signal
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from alexnet_lit.callbacks import budget
from alexnet_lit.callbacks.budget import Durations, choose_steps, parse_seconds
from alexnet_lit.config import typed_overrides
from alexnet_lit.errors import UserError
from alexnet_lit.terminal import STOP_SIGNALS
from tests.conftest import Train
from tests.processes import Runs
from tests.runs import equal, weights

TINY = ("data=sample", "model=lenet", "data.image_size=28", "data.batch_size=100", "optimizer=adamw")
TOOK = Durations(batch=0.4, image=0.01, save=0.5, measured=3.0)
SIZES: dict[str, Any] = {"epoch": 25, "validation": 400, "test": 500, "save_every": 1000, "most": -1}


def test_a_time_is_read_as_people_write_it() -> None:
    times = {"90s": 90, "5m": 300, "1h30m": 5400, "1.5m": 90, "2d": 172800, "1m5s": 65}
    assert {typed: parse_seconds(typed) for typed in times} == times
    for typed in ("5", "m", "5 m", "5min", "-5m", "0s", "", 5, True):
        with pytest.raises(UserError, match=r"budget=.*: should be a time such as 90s, 5m or 1h30m"):
            parse_seconds(typed)
    line = r"budget=5s: beginning, validation \(400 images\) and test \(500\) take 1\d s alone: give it more"
    with pytest.raises(UserError, match=line):
        choose_steps("5s", 4.0, TOOK, **SIZES)


@pytest.mark.parametrize("left", [100.0, 1e5])
@pytest.mark.parametrize("changes", [{}, {"test": 5000}, {"validation": 192, "test": 192}, {"most": 50}], ids=str)
def test_all_that_a_run_does_fits_into_the_time_and_fills_it(left: float, changes: dict[str, int]) -> None:
    sizes = SIZES | changes

    steps, interval = choose_steps("5m", left, TOOK, **sizes)

    validations = steps // interval
    assert steps == validations * interval, "the last step is followed by the last validation"
    evaluating = validations * (sizes["validation"] * 0.01 + 1)  # with best.ckpt and last.ckpt
    spent = steps * 0.4 + evaluating + sizes["test"] * 0.01 + steps // 25 * 0.5 + steps // 1000 * 0.5
    assert spent < left
    assert spent > 0.9 * left or 45 < steps <= sizes["most"]
    assert evaluating < max(0.11 * left, sizes["validation"] * 0.01 + 1.1)


@pytest.mark.slow
def test_a_run_is_sized_and_repeated_exactly(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "RESERVE", 0.001)
    typed = (*TINY, "callbacks=ema", "logger=none")
    first = train(*typed, "budget=10m", "trainer.max_steps=9", logs=tmp_path / "first").ok()
    again = re.search(r"to repeat this run without budget=: (.*)", first.out)
    assert again is not None

    saved = OmegaConf.load(first.folder / ".hydra" / "config.yaml")
    assert saved.budget is None
    assert saved.trainer.max_steps == first.result["steps"] > 4
    assert "budget=10m" in typed_overrides(first.folder)
    assert not list(first.folder.glob("budget*"))

    second = train(*typed, *again[1].split())
    assert equal(weights(first.folder), weights(second.folder))
    assert first.result["test/acc"] == second.result["test/acc"]


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_while_measuring_leaves_a_result(number: int, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(_: Any, trainer: Any, *__: Any) -> None:
        signal.raise_signal(number if trainer.limit_train_batches == 2 else 0)  # whole batches alone

    monkeypatch.setattr(budget.TimeBudget, "measure", measure)
    outcome = train(*TINY, "data.train_size=250", "budget=10m")
    assert (outcome.status, outcome.result["status"]) == (130, "interrupted")


def measure_shortly() -> None:
    """For a thousandth of the budget."""
    budget.RESERVE = 0.001


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["default", "hybrid"])
def test_processes_are_measured_as_they_will_run(trainer: str, tmp_path: Path) -> None:
    """A budget needs no callbacks, loggers or limits."""
    run = Runs(tmp_path / "logs", ranks=2)
    bare = ("trainer.accelerator=cpu", "trainer.limit_val_batches=null", "~callbacks", "~logger")
    typed = (*TINY, f"trainer={trainer}", *bare, "budget=4m", "trainer.max_steps=20")
    assert run(*typed, before=measure_shortly) == [0, 0], run.text
    assert (run.result["status"], run.result["world_size"]) == ("completed", 2)
    assert run.result["steps"] == OmegaConf.load(run.folder / ".hydra" / "config.yaml").trainer.max_steps
    assert 15 < run.result["steps"] <= 20  # all validations as far apart
