"""This process's rank, by the environment variables of torchrun, srun or this package's launcher. Imports no torch."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

# Set by torchrun, by Kubernetes' PyTorchJob, and by this package's `launch`.
_TORCHRUN = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
# Set in the tasks of srun, and not in a script of sbatch or a shell of salloc.
_SRUN = {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"}
_PORTS = range(12_000, 32_000)  # below the ephemeral ports


@dataclass(frozen=True)
class RankEnvironment:
    """One process of a run.

    rank: of `ranks` on all machines. local_rank: of `local_ranks` on this one. launcher: torchrun, srun, or "" for one
    process alone. is_child: started by this package's launcher. address, port: of the store, on rank 0's machine.
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
    def of(cls, env: Mapping[str, str]) -> Self:
        """The rank that environment variables describe."""
        if env.keys() >= _TORCHRUN:
            ranks, local_ranks = int(env["WORLD_SIZE"]), int(env.get("LOCAL_WORLD_SIZE", 1))
            return cls(
                rank=int(env["RANK"]),
                ranks=ranks,
                local_rank=int(env.get("LOCAL_RANK", 0)),
                local_ranks=local_ranks,
                nodes=int(env.get("GROUP_WORLD_SIZE", ranks // local_ranks)),
                launcher="torchrun",
                is_child="ALEXNET_LIT_CHILD" in env,
                address=env["MASTER_ADDR"],
                port=int(env["MASTER_PORT"]),
            )
        if env.keys() >= _SRUN and int(env["SLURM_STEP_NUM_TASKS"]) > 1:
            ranks = int(env["SLURM_STEP_NUM_TASKS"])
            counts = re.findall(r"(\d+)(?:\(x(\d+)\))?", env.get("SLURM_STEP_TASKS_PER_NODE", str(ranks)))  # of 2(x3),1
            tasks = [int(count) for count, nodes in counts for _ in range(int(nodes or 1))]  # [2, 2, 2, 1]
            first = re.sub(r"\[(\w+)[^]]*]", r"\1", env.get("SLURM_STEP_NODELIST", "127.0.0.1"))  # node07[-09,12]
            step = 7919 * int(env.get("SLURM_JOB_ID", 0)) + int(env.get("SLURM_STEP_ID", 0))
            return cls(
                rank=int(env["SLURM_PROCID"]),
                ranks=ranks,
                local_rank=int(env.get("SLURM_LOCALID", 0)),
                local_ranks=tasks[int(env.get("SLURM_NODEID", 0))],
                nodes=len(tasks),
                launcher="srun",
                address=env.get("MASTER_ADDR") or first.split(",")[0],
                port=int(env.get("MASTER_PORT", _PORTS[step % len(_PORTS)])),  # the same in all tasks of a step
            )
        return cls()


def rank_environment() -> RankEnvironment:
    """This process's rank. A shell of `srun --pty` is none: its stdin and stderr are terminals (`srun -u`: stdout)."""
    environment = RankEnvironment.of(os.environ)
    return RankEnvironment() if environment.launcher == "srun" and any(map(os.isatty, (0, 2))) else environment
