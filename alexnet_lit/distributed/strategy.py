"""trainer.strategy: how several devices share the work, and how Lightning learns of this process's rank."""

from functools import partial
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from alexnet_lit.distributed.environment import RankEnvironment
from alexnet_lit.errors import UserError

# Arguments of DistributedDataParallel. Gradients live in the buffers that are exchanged: no copy of 187 MB each step.
# static_graph stays off: every parameter is used, and torch fails with it when gradients accumulate.
DDP: dict[str, Any] = {"gradient_as_bucket_view": True}
HOOKS: dict[str, Any] = {"auto": None, "ddp": None, "ddp_bf16": bf16_compress_hook}
MODEL_PARALLEL = ("towers", "hybrid")  # strategies of distributed/towers


class HookedDDP(DDPStrategy):
    """DDP with its communication hook on CPUs too, where Lightning silently leaves it out."""

    def _register_ddp_hooks(self) -> None:
        if (hook := self._ddp_comm_hook) is not None:
            assert isinstance(self.model, DistributedDataParallel)
            # A torch without CUDA refuses bf16_compress_hook by its name, though it can run. None: the group of all.
            self.model.register_comm_hook(None, lambda group, bucket: hook(group, bucket))


class RankClusterEnvironment(LightningEnvironment):
    """A RankEnvironment for Lightning, to which each process is a machine with the one device that `arguments` selects.

    So a process may see all GPUs of its machine, or its own alone, as with srun --gpus-per-task=1.
    """

    creates_processes_externally = True

    def __init__(self, environment: RankEnvironment) -> None:
        super().__init__()
        self.set_world_size(environment.ranks)
        self.set_global_rank(environment.rank)

    def local_rank(self) -> int:
        """An index into this process's devices: it has one."""
        return 0

    def node_rank(self) -> int:
        """A machine a process."""
        return self.global_rank()

    def teardown(self) -> None:
        """Keep WORLD_SIZE, which the next run in this process needs."""


def arguments(environment: RankEnvironment, *, kind: str, strategy: str) -> dict[str, Any]:
    """lightning.Trainer's arguments for this process and its one device. Raises: UserError for an unknown strategy."""
    strategies: dict[str, Any] = {name: partial(HookedDDP, ddp_comm_hook=hook, **DDP) for name, hook in HOOKS.items()}
    strategies["ddp_find_unused_parameters_true"] = partial(HookedDDP, find_unused_parameters=True, **DDP)
    if strategy in MODEL_PARALLEL:
        strategies[strategy] = partial(_split_strategy(), way=strategy)
    if strategy not in strategies:
        raise UserError(f"trainer.strategy={strategy}: should be one of {', '.join([*strategies, *MODEL_PARALLEL])}")
    own = environment.local_rank if torch.cuda.device_count() > 1 else 0
    return {
        "devices": [own] if kind == "cuda" else 1,
        "num_nodes": environment.ranks,
        "strategy": strategies[strategy]() if environment.ranks > 1 else "auto",
    }


def check_strategy(strategy: str, **objects: Any) -> None:
    """Check that the strategy can run these objects: see ModelParallel.check. Raises: UserError if not."""
    if strategy in MODEL_PARALLEL:
        _split_strategy().check(strategy, **objects)


def _split_strategy() -> Any:
    """The class ModelParallel, imported for runs that use it alone."""
    from alexnet_lit.distributed.towers.strategy import ModelParallel

    return ModelParallel
