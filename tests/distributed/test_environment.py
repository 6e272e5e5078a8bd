"""Where a process stands, by what torchrun, srun and others tell it, and the devices that it trains on."""

import os

import pytest
import torch

from alexnet_lit.distributed.devices import devices_and_nodes, resolve_devices
from alexnet_lit.distributed.environment import RankEnvironment, rank_environment
from alexnet_lit.distributed.strategy import arguments
from alexnet_lit.errors import UserError
from tests.conftest import SMALL, Train


def variables(text: str) -> dict[str, str]:
    """NAME=value NAME=value ..."""
    return {name: value for name, _, value in (each.partition("=") for each in text.split())}


TORCHRUN = variables(
    "RANK=5 WORLD_SIZE=8 LOCAL_RANK=1 LOCAL_WORLD_SIZE=4 GROUP_WORLD_SIZE=2 MASTER_ADDR=node1 MASTER_PORT=29500"
)
# As Slurm 22.05 sets it; a script of sbatch has no variable of a step.
SRUN = variables(
    "SLURM_JOB_ID=4711 SLURM_STEP_ID=2 SLURM_NTASKS=7 SLURM_STEP_NUM_TASKS=7 SLURM_STEP_NUM_NODES=3 "
    "SLURM_STEP_TASKS_PER_NODE=3(x2),1 SLURM_STEP_NODELIST=gpu[07-08,11] "
    "SLURM_PROCID=4 SLURM_LOCALID=1 SLURM_NODEID=1"
)
BATCH_SCRIPT = variables("SLURM_JOB_ID=4711 SLURM_NTASKS=7 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0")


def test_torchrun() -> None:
    place = RankEnvironment.of(TORCHRUN)
    assert (place.rank, place.ranks, place.local_rank, place.local_ranks, place.nodes) == (5, 8, 1, 4, 2)
    assert (place.launcher, place.address, place.port, place.is_child) == ("torchrun", "node1", 29500, False)
    assert RankEnvironment.of({**SRUN, **TORCHRUN}) == place
    assert RankEnvironment.of({**TORCHRUN, "ALEXNET_LIT_CHILD": "1"}).is_child
    place = RankEnvironment.of({key: TORCHRUN[key] for key in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")})
    assert (place.rank, place.ranks, place.local_rank, place.local_ranks, place.nodes) == (5, 8, 0, 1, 8)


def test_srun() -> None:
    place = RankEnvironment.of(SRUN)
    assert (place.rank, place.ranks, place.local_rank, place.local_ranks, place.nodes) == (4, 7, 1, 3, 3)
    assert (place.launcher, place.address) == ("srun", "gpu07")
    last = RankEnvironment.of({**SRUN, "SLURM_PROCID": "6", "SLURM_LOCALID": "0", "SLURM_NODEID": "2"})
    assert (last.rank, last.local_ranks, last.port) == (6, 1, place.port)
    assert RankEnvironment.of({**SRUN, "SLURM_STEP_ID": "3"}).port != place.port
    assert RankEnvironment.of({**SRUN, "MASTER_PORT": "5", "MASTER_ADDR": "here"}).port == 5
    firsts = {"node3": "node3", "a,b[1-2]": "a", "r1n[005,7-9]": "r1n005", "n[2-3]-ib": "n2-ib"}
    for nodes, first in firsts.items():
        assert RankEnvironment.of({**SRUN, "SLURM_STEP_NODELIST": nodes}).address == first


def test_an_ordinary_run_within_a_job_of_slurm() -> None:
    for env in (BATCH_SCRIPT, {**SRUN, "SLURM_STEP_NUM_TASKS": "1"}, {}):
        assert RankEnvironment.of(env) == RankEnvironment()


TWICE_FOUR = RankEnvironment(rank=5, ranks=8, local_rank=1, local_ranks=4, nodes=2, launcher="torchrun")


def test_auto_is_one_device_of_the_best_kind_there_is() -> None:
    kind, count = resolve_devices("auto", 1)
    assert kind == ("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
    assert count == 1
    assert resolve_devices("cpu", "auto") == ("cpu", 1)
    assert resolve_devices("cpu", "2") == ("cpu", 2)


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
    monkeypatch.setattr(os, "isatty", lambda stream: stream == 1)  # as `srun -u` has it

    assert resolve_devices("gpu", 2) == ("cuda", 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "isatty", lambda _: True)
        assert rank_environment().ranks == 1, "an interactive shell of srun is no rank"
    assert arguments(RankEnvironment.of({}), **own)["devices"] == [0]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert arguments(RankEnvironment(rank=1, ranks=2, local_rank=1, local_ranks=2), **own)["devices"] == [1]


@pytest.mark.gpu
def test_a_gpu_trains_in_bf16_where_it_can(train: Train) -> None:
    outcome = train(*SMALL, "trainer.max_epochs=1").ok()
    assert outcome.result["precision"] == ("bf16-mixed" if torch.cuda.is_bf16_supported(False) else "32-true")
    assert outcome.result["device"] == torch.cuda.get_device_name()
