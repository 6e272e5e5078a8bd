"""Where a process stands, by what torchrun, srun and others tell it."""

import pytest

from alexnet_lit.distributed.environment import RankEnvironment


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
    assert (place.launcher, place.address, place.port, place.is_leader) == ("torchrun", "node1", 29500, False)
    assert RankEnvironment.of({**SRUN, **TORCHRUN, "RANK": "0"}).is_leader
    assert RankEnvironment.of({**SRUN, **TORCHRUN}) == place
    assert not RankEnvironment.of({**TORCHRUN, "RANK": "0", "ALEXNET_LIT_CHILD": "1"}).is_leader


def test_the_four_variables_of_torch_are_enough() -> None:
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


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node3", "node3"), ("a,b[1-2]", "a"), ("r1n[005,7-9]", "r1n005"), ("n[2-3]-ib", "n2-ib")],
)
def test_rank_0_is_on_the_first_machine(nodes: str, first: str) -> None:
    assert RankEnvironment.of({**SRUN, "SLURM_STEP_NODELIST": nodes}).address == first


@pytest.mark.parametrize(
    "env", [BATCH_SCRIPT, {**SRUN, "SLURM_STEP_NUM_TASKS": "1"}], ids=["script of sbatch", "srun of one task"]
)
def test_an_ordinary_run_within_a_job_of_slurm(env: dict[str, str]) -> None:
    assert RankEnvironment.of(env) == RankEnvironment.of({}) == RankEnvironment()
