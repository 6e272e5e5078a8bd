"""Which devices a run trains on, and what follows whoever started the processes."""

import os

import pytest
import torch

from alexnet_lit.distributed.devices import cores, describe, devices_and_nodes, resolve_devices
from alexnet_lit.distributed.environment import RankEnvironment, rank_environment
from alexnet_lit.distributed.strategy import arguments
from alexnet_lit.errors import UserError
from tests.conftest import SMALL, Train

TWICE_FOUR = RankEnvironment(rank=5, ranks=8, local_rank=1, local_ranks=4, nodes=2, launcher="torchrun")


def test_auto_is_one_device_of_the_best_kind_there_is() -> None:
    kind, count = resolve_devices("auto", 1)
    assert kind == ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    assert count == 1
    assert resolve_devices("cpu", "auto") == ("cpu", 1)
    assert resolve_devices("cpu", "2") == ("cpu", 2)


@pytest.mark.parametrize("devices", [0, "two", 1.5, True])
def test_refuses_what_is_no_number_of_devices(devices: int) -> None:
    with pytest.raises(UserError, match=r"trainer\.devices=.*: use a number of devices from 1, or auto"):
        resolve_devices("cpu", devices)


@pytest.mark.parametrize("asked", [(1, 1), ("auto", 2), (-1, 2), (4, 2), ("4", 1)])
def test_a_run_follows_what_started_it(asked: tuple[int | str, int]) -> None:
    assert devices_and_nodes(TWICE_FOUR, *asked) == (4, 2)
    assert devices_and_nodes(RankEnvironment(), "auto", 1) == ("auto", 1), "without a launcher, what was asked for"


@pytest.mark.parametrize(
    ("place", "devices", "nodes", "line"),
    [
        (TWICE_FOUR, 2, 2, "trainer.devices=2: torchrun started 4 on this machine: use auto, or 4"),
        (TWICE_FOUR, 4, 3, "trainer.num_nodes=3: torchrun started processes on 2 machines: use 2"),
        (RankEnvironment(), 2, 0, "trainer.num_nodes=0: use a number of machines from 1"),
        (RankEnvironment(), 2, 3, "on each of them torchrun --nnodes=3 --nproc-per-node=2 --rdzv-backend=c10d"),
    ],
)
def test_refuses_other_numbers(place: RankEnvironment, devices: int, nodes: int, line: str) -> None:
    with pytest.raises(UserError) as refused:
        devices_and_nodes(place, devices, nodes)
    assert line in str(refused.value)


def test_a_task_of_srun_may_see_its_own_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    own = {"kind": "cuda", "strategy": "ddp"}
    with pytest.raises(UserError, match="this machine has 1 cuda at most"):
        resolve_devices("gpu", 2)
    for key, value in {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(os, "isatty", lambda _: False)

    assert resolve_devices("gpu", 2) == ("cuda", 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "isatty", lambda _: True)
        assert rank_environment().ranks == 1, "an interactive shell of srun is no rank"
    assert arguments(RankEnvironment.of({}), **own)["devices"] == [0]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert arguments(RankEnvironment(rank=1, ranks=2, local_rank=1, local_ranks=2), **own)["devices"] == [1]


def test_devices_in_words() -> None:
    assert describe("cpu", 1) == f"cpu, {cores()} cores"
    assert describe("cpu", 2) == f"cpu, 2 processes on {cores()} cores"
    assert describe("cpu", 8, 2) == "cpu, 8 processes on 2 machines"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_gpu_trains_in_bf16_where_it_can(train: Train) -> None:
    outcome = train(*SMALL, "trainer.max_epochs=1")
    assert outcome.status == 0, outcome.err
    assert outcome.result["precision"] == ("bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true")
    assert outcome.result["device"] == torch.cuda.get_device_name()
