"""Where this process stands among those of a run, whoever started them. Imports no torch."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

# What torchrun tells each process that it starts; so do Kubernetes' PyTorchJob, and `launch` of this package.
_TORCH = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
# Set in what srun starts, and not in a script of sbatch or a shell of salloc.
_SRUN = {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"}
_PORTS = range(12_000, 32_000)  # below those that systems hand out to programs that ask for any


@dataclass(frozen=True)
class RankEnvironment:
    """One process of a run.

    rank: which of `ranks` processes on all machines, from 0; local_rank: which of `local_ranks` on this one.
    launcher: what started them; empty for a process that stands alone. is_child: started by this package's own
    launcher, a process that is no rank itself. address, port: of the store, on the machine of rank 0.
    """

    rank: int = 0
    ranks: int = 1
    local_rank: int = 0
    local_ranks: int = 1
    nodes: int = 1
    launcher: str = ""
    is_child: bool = False
    address: str = "127.0.0.1"
    port: int = 0

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """The place that environment variables tell of."""
        if environment.keys() >= _TORCH:
            return cls._of_torch(environment)
        if environment.keys() >= _SRUN and int(environment["SLURM_STEP_NUM_TASKS"]) > 1:
            return cls._of_srun(environment)
        return cls()

    @classmethod
    def _of_torch(cls, told: Mapping[str, str]) -> Self:
        ranks, local_ranks = int(told["WORLD_SIZE"]), int(told.get("LOCAL_WORLD_SIZE", 1))
        return cls(
            rank=int(told["RANK"]),
            ranks=ranks,
            local_rank=int(told.get("LOCAL_RANK", 0)),
            local_ranks=local_ranks,
            nodes=int(told.get("GROUP_WORLD_SIZE", ranks // local_ranks)),
            launcher="torchrun",
            is_child="ALEXNET_LIT_LED" in told,
            address=told["MASTER_ADDR"],
            port=int(told["MASTER_PORT"]),
        )

    @classmethod
    def _of_srun(cls, told: Mapping[str, str]) -> Self:
        node = int(told.get("SLURM_NODEID", 0))
        ranks = int(told["SLURM_STEP_NUM_TASKS"])
        each = _repeated(told.get("SLURM_STEP_TASKS_PER_NODE", str(ranks)))
        step = 7919 * int(told.get("SLURM_JOB_ID", 0)) + int(told.get("SLURM_STEP_ID", 0))
        return cls(
            rank=int(told["SLURM_PROCID"]),
            ranks=ranks,
            local_rank=int(told.get("SLURM_LOCALID", 0)),
            local_ranks=each[node],
            nodes=len(each),
            launcher="srun",
            address=told.get("MASTER_ADDR") or _first(told.get("SLURM_STEP_NODELIST", "127.0.0.1")),
            port=int(told.get("MASTER_PORT", _PORTS[step % len(_PORTS)])),  # the same in all tasks of this step
        )

    @property
    def is_leader(self) -> bool:
        """Whether this process composes the config and tells the others: of several, it is rank 0."""
        return self.rank == 0 and not self.is_child


def rank_environment() -> RankEnvironment:
    """This process's place. A shell of `srun --pty` is no rank: a person types there, so a run stands alone."""
    place = RankEnvironment.of(os.environ)
    return RankEnvironment() if place.launcher == "srun" and any(map(os.isatty, range(3))) else place


def _repeated(tasks: str) -> list[int]:
    """Slurm's short form as a list: 2(x3),1 is [2, 2, 2, 1]."""
    parts = [re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part) for part in tasks.split(",")]
    return [int(part[1]) for part in parts if part for _ in range(int(part[2] or 1))]


def _first(nodes: str) -> str:
    """The first machine of Slurm's short form: node07 of node[07-09,12],other."""
    return re.sub(r"\[(\w+)[^]]*]", r"\1", nodes).split(",")[0]
