"""How Lightning is told of this process's place, and how gradients cross between the ranks."""

from functools import partial
from typing import Any, get_args

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from alexnet_lit.distributed.environment import RankEnvironment
from alexnet_lit.distributed.towers.part import Way
from alexnet_lit.distributed.towers.split import Split
from alexnet_lit.errors import UserError

# What DistributedDataParallel is given. Gradients live in the buffers that are exchanged: no copy of 187 MB each step.
# static_graph stays off: it has nothing to save where every parameter is used, and torch fails with it as soon as
# gradients accumulate.
DDP: dict[str, Any] = {"gradient_as_bucket_view": True}
HOOKS: dict[str, Any] = {"auto": None, "ddp": None, "ddp_bf16": bf16_compress_hook}


class Parallel(DDPStrategy):
    """DDP whose gradients cross as the hook says, on CPUs too, where Lightning would leave the hook out unsaid."""

    def _register_ddp_hooks(self) -> None:
        if self._ddp_comm_hook is not None:
            assert isinstance(self.model, DistributedDataParallel)
            self.model.register_comm_hook(None, self._ddp_comm_hook)


class RankClusterEnvironment(ClusterEnvironment):
    """A RankEnvironment for Lightning: each process is a machine of one device; `arguments` says which device.

    So it is the same whether a process sees all GPUs of its machine or its own alone, as srun --gpus-per-task=1 has it.
    It stands in for what Lightning would read from the environment: of srun, for one, in scripts that don't use it.
    """

    def __init__(self, place: RankEnvironment) -> None:
        super().__init__()
        self.place = place
        # Lightning guesses it from variables of many launchers when it is imported.
        rank_zero_only.rank = place.rank  # type: ignore[attr-defined] # a function with an attribute

    creates_processes_externally = True

    @property
    def main_address(self) -> str:
        """Where rank 0 is."""
        return self.place.address

    @property
    def main_port(self) -> int:
        """Where it listens."""
        return self.place.port

    @staticmethod
    def detect() -> bool:
        """Never by itself: a run says where it is."""
        return False

    def world_size(self) -> int:
        """All processes."""
        return self.place.ranks

    def set_world_size(self, size: int) -> None:
        """Whoever started the processes has done that."""

    def global_rank(self) -> int:
        """This one of them."""
        return self.place.rank

    def set_global_rank(self, rank: int) -> None:
        """As `set_world_size`."""

    def local_rank(self) -> int:
        """Which of its devices a process trains on: it is told of one."""
        return 0

    def node_rank(self) -> int:
        """A machine a process."""
        return self.place.rank


def arguments(place: RankEnvironment, *, kind: str, strategy: str) -> dict[str, Any]:
    """What lightning.Trainer is told for this process, which trains on one device of the given kind.

    Raises: UserError for a strategy that there is not.
    """
    made: dict[str, Any] = {name: partial(Parallel, ddp_comm_hook=hook, **DDP) for name, hook in HOOKS.items()}
    made |= {way: partial(Split, way=way, **DDP) for way in get_args(Way)}
    if strategy not in made:
        raise UserError(f"trainer.strategy={strategy}: should be one of {', '.join(made)}")
    own = place.local_rank if torch.cuda.device_count() > 1 else 0
    return {
        "devices": [own] if kind == "cuda" else 1,
        "num_nodes": place.ranks,
        "strategy": made[strategy]() if place.ranks > 1 else "auto",
    }
