"""`trainer.precision=auto` on a CPU: bf16 where units for it are there and pay, float32 everywhere else."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import alexnet_lit
from alexnet_lit import precision
from alexnet_lit.factory import build_net
from alexnet_lit.lit import Classifier
from alexnet_lit.precision import bf16_speedup, cpu_precision
from tests.conftest import Train
from tests.test_run import equal, weights


@pytest.mark.parametrize(
    ("units", "speedup", "chosen", "words"),
    [
        ("AMX", 3.6, "bf16-mixed", "3.6 times as fast as float32 on this CPU (AMX); trainer.precision=32-true gives"),
        ("AMX", 1.5, "bf16-mixed", "1.5 times as fast"),
        ("AVX512-BF16", 1.4, "32-true", "bf16-mixed would be 1.4 times as fast as float32 on this CPU (AVX512-BF16)"),
        ("AVX512-BF16", 0.7, "32-true", "bf16-mixed would be 0.7 times as fast"),
    ],
)
def test_the_choice_follows_from_units_and_measured_speed(units: str, speedup: float, chosen: str, words: str) -> None:
    precision, why = cpu_precision(units, lambda: speedup)
    assert precision == chosen
    assert why.startswith(words)


def test_nothing_is_measured_where_bf16_is_emulated() -> None:
    def measure() -> float:
        raise AssertionError

    assert cpu_precision("", measure) == ("32-true", "")


def test_the_most_expensive_layer_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[nn.Module, torch.Size]] = []

    def note(layer: nn.Module, shape: torch.Size) -> float:
        measured.append((layer, shape))
        return 2.0

    monkeypatch.setattr(precision, "_speedup", note)
    with torch.device("meta"):
        net = build_net(alexnet_lit.compose("data=sample"))
    assert bf16_speedup(net, (1, 224, 224)) == 2.0
    ((layer, shape),) = measured
    assert isinstance(layer, nn.Conv2d)
    assert (layer.in_channels, layer.out_channels, tuple(shape)) == (96, 256, (96, 26, 26))  # 0.415 of 0.938 GMAC
    assert bf16_speedup(nn.Flatten(), (1, 8, 8)) == 1.0


def test_a_measurement_leaves_random_numbers_and_the_net_alone() -> None:
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 3))
    before = torch.get_rng_state()
    assert bf16_speedup(net, (1, 8, 8)) > 0
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.is_meta for parameter in net.parameters())


LENET = ("data=sample", "model=lenet", "model.activation=relu", "data.image_size=28", "data.batch_size=16")
SHORT = ("trainer.accelerator=cpu", "trainer.limit_train_batches=6", "trainer.limit_test_batches=2", "logger=none")


@pytest.fixture
def fast_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that computes three times as fast in bf16, so it says; here torch emulates it."""
    monkeypatch.setattr("alexnet_lit.trainer.bf16_units", lambda: "AMX")
    monkeypatch.setattr("alexnet_lit.trainer.bf16_speedup", lambda net, shape: 3.0)


@pytest.mark.usefixtures("fast_units")
def test_a_run_says_what_auto_stands_for_and_how_to_choose_the_other(train: Train) -> None:
    outcome = train(*LENET, *SHORT, "trainer.max_epochs=1")
    assert outcome.status == 0, outcome.err
    assert outcome.result["precision"] == "bf16-mixed"
    assert (
        "precision bf16-mixed\n        3.0 times as fast as float32 on this CPU (AMX); trainer.precision" in outcome.out
    )
    told = train(*LENET, *SHORT, "trainer.max_epochs=1", "trainer.precision=32-true", logs=outcome.logs / "other")
    assert told.result["precision"] == "32-true"
    assert "times as fast" not in told.out


def test_a_stopped_run_keeps_its_precision_on_a_machine_without_units(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it is slow there, and ends with the weights of a run that was never stopped."""
    begin = Classifier.on_train_batch_start

    def stop_once(module: Classifier, batch: Any, batch_idx: int) -> None:
        begin(module, batch, batch_idx)
        if module.global_step == 8:
            os.kill(os.getpid(), signal.SIGINT)

    run = (*LENET, *SHORT, "trainer.max_epochs=2", "model.dropout=0.5")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("alexnet_lit.trainer.bf16_units", lambda: "AMX")
        elsewhere.setattr("alexnet_lit.trainer.bf16_speedup", lambda net, shape: 3.0)
        straight = train(*run, logs=tmp_path / "straight")
        elsewhere.setattr(Classifier, "on_train_batch_start", stop_once)
        stopped = train(*run, logs=tmp_path / "stopped")
    assert (stopped.status, stopped.result["steps"]) == (130, 9), stopped.err
    monkeypatch.setattr("alexnet_lit.trainer.bf16_units", lambda: "")
    monkeypatch.setattr("alexnet_lit.announce.bf16_units", lambda: "")

    resumed = train(f"ckpt={stopped.folder}", logs=tmp_path / "stopped")

    assert (resumed.status, resumed.result["precision"]) == (0, "bf16-mixed"), resumed.err
    assert "warning: precision bf16-mixed: this CPU has no units for it: it takes many times as long" in resumed.out
    assert equal(weights(resumed.folder), weights(straight.folder))


@pytest.mark.slow
@pytest.mark.usefixtures("fast_units")
def test_two_ranks_learn_in_bf16_what_one_learns(train: Train, tmp_path: Path) -> None:
    """The ranks, which are other processes and find no such units, are told what the first one chose."""
    run = (*LENET, *SHORT, "trainer.max_epochs=1", "data.augment.mirror=false", "optimizer.lr=0.005")
    one = train(*run, logs=tmp_path / "one")
    two = train(*run, "trainer.devices=2", logs=tmp_path / "two")
    assert one.status == two.status == 0, two.err
    assert one.result["precision"] == two.result["precision"] == "bf16-mixed"
    mine, other = weights(two.folder), weights(one.folder)
    for name, value in mine.items():
        assert torch.allclose(value, other[name], rtol=0.02, atol=2e-3), name
