"""Lightning's strategy for a net that several devices hold together: the paper's two towers, and the hybrid of 2014."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

import torch
from lightning import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from torchmetrics import Metric

from alexnet_lit.distributed.towers.exchange import Group
from alexnet_lit.distributed.towers.part import Part, Way, mistake
from alexnet_lit.errors import UserError

TOWERS = 2


class Split(DDPStrategy):
    """Give each device a `Part` of the net of a LightningModule, `module.net`, while the trainer is at work.

    towers: two devices hold the net together. With more of them each two are a replica, which takes its share of the
    images, and DistributedDataParallel averages the gradients of replicas. hybrid: all devices hold it together.

    It is the experiment of one device: the same random numbers, gradients clipped by their norm over all parts, each
    image counted once. Outside of its work `module.net` is the whole net, and a checkpoint is that of one device,
    weights and optimizer's state alike: nothing else knows of parts. (After an exception nobody can be asked for the
    other parts, and the net is left on the meta device, without weights.) The optimizer has to treat each weight by
    itself, as SGD and Adam do.

    What is torch's is taken from there: DTensors carry what is exchanged, sum norms and put weights together, and DDP
    averages. Ours are the parts, as torch splits no convolution by its channels; for the same reason Lightning's
    ModelParallelStrategy, which wants weights that are DTensors, is of no use.
    """

    def __init__(self, *, way: Way, **options: Any) -> None:
        super().__init__(**options)
        self.way = way
        self._meshes: dict[str, DeviceMesh] = {}  # the other parts of this replica, and the same part of other replicas
        self._net: nn.Module | None = None  # the whole one while there are parts: on the meta device, without weights
        self._wholes: dict[Tensor, nn.Parameter] = {}  # what of it each parameter here is a part of
        self._failed = False

    @property
    def parts(self) -> int:
        """How many devices hold a net together."""
        return TOWERS if self.way == "towers" else self.world_size

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        """Which share of a batch this rank takes: the same for all parts of a replica."""
        return {"num_replicas": self.world_size // self.parts, "rank": self.global_rank // self.parts}

    def setup_environment(self) -> None:
        """Meet the other devices."""
        super().setup_environment()
        if not self._meshes:
            shape, names = (self.world_size // self.parts, self.parts), ("replica", "part")
            mesh = init_device_mesh(self.root_device.type, shape, mesh_dim_names=names)
            self._meshes = {name: mesh[name] for name in names}

    def setup(self, trainer: Trainer) -> None:
        """Take this device's part. In a fit that has to be earlier, see `configure_ddp`."""
        self._failed = False
        super().setup(trainer)
        if trainer.state.fn != TrainerFn.FITTING:
            self._take_part()

    def configure_ddp(self) -> None:
        """Take this device's part before the optimizer is made, and let gradients be averaged if there are replicas."""
        self._take_part()
        if self._meshes["replica"].size() > 1:
            self._ddp_kwargs["process_group"] = self._meshes["replica"].get_group()
            super().configure_ddp()

    def total_norm(self, parameters: list[nn.Parameter]) -> Tensor:
        """The norm of the gradients of all parts together, of which these parameters are this part's."""
        norm = get_total_norm([self._placed(each.grad, each) for each in parameters if each.grad is not None])
        assert isinstance(norm, DTensor)
        return norm.full_tensor()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The module's state as one device has it."""
        return super().lightning_module_state_dict() | {f"net.{key}": value for key, value in self._weights().items()}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The optimizer's state as one device has it. Raises: UserError if it has no number for each weight."""
        return self._convert(super().optimizer_state(optimizer), optimizer, self._whole)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this part's share of the state that one device has."""
        pairs = zip(checkpoint["optimizer_states"], self.optimizers, strict=True)
        states = [self._convert(state, optimizer, self._share) for state, optimizer in pairs]
        super().load_optimizer_state_dict({"optimizer_states": states})

    def on_exception(self, exception: BaseException) -> None:
        """Ask no other device for anything from here on: it may be gone."""
        self._failed = True
        super().on_exception(exception)

    def teardown(self) -> None:
        """Put the net together again."""
        net = self._net
        if net is not None and not self._failed:
            net.load_state_dict(self._weights(), assign=True)
            self._module.net = net
        super().teardown()
        if net is not None:
            self._module.net = net
        self._net, self._wholes = None, {}

    @property
    def _module(self) -> Any:
        return self.lightning_module

    def _take_part(self) -> None:
        mesh = self._meshes["part"]
        part = Part(self._module.net, Group(self.parts, mesh.get_local_rank(), mesh), self.way)
        self._net = net = self._module.net.to("meta")
        self._module.net = part
        wholes = dict(net.named_parameters())
        self._wholes = {parameter: wholes[name] for name, parameter in part.named_parameters()}
        for metric in self._module.modules():
            if isinstance(metric, Metric):
                metric.process_group = self._meshes["replica"].get_group()

    def _weights(self) -> dict[str, Tensor]:
        """The whole net's, if there are parts."""
        parameters = self._module.net.named_parameters() if self._wholes else ()
        return {name: self._whole(parameter, parameter) for name, parameter in parameters}

    def _placed(self, value: Tensor, parameter: Tensor) -> DTensor:
        """What belongs to a parameter (itself, its gradient, its momentum) as a tensor that all parts have together."""
        dim = self._dim(parameter)
        return DTensor.from_local(value, self._meshes["part"], [Replicate() if dim is None else Shard(dim)])

    def _dim(self, parameter: Tensor) -> int | None:
        """The dimension in which a parameter is a part of the whole one; None if each device has all of it."""
        sizes = zip(parameter.shape, self._wholes[parameter].shape, strict=True)
        return next((dim for dim, (own, whole) in enumerate(sizes) if own != whole), None)

    def _whole(self, value: Tensor, parameter: Tensor) -> Tensor:
        if value.shape != parameter.shape:
            raise mistake(self.way, f"the optimizer's state {tuple(value.shape)} has no number for each weight")
        # In the memory format of one device: fused optimizers take it to be the same for weights and momentum.
        whole = torch.empty_like(self._wholes[parameter], dtype=value.dtype, device=value.device)
        return whole.copy_(self._placed(value.detach(), parameter).full_tensor())

    def _share(self, value: Tensor, parameter: Tensor) -> Tensor:
        dim = self._dim(parameter)
        return value if dim is None else value.chunk(self.parts, dim)[self._meshes["part"].get_local_rank()].clone()

    def _convert(
        self, state: dict[str, Any], optimizer: Optimizer, convert: Callable[[Tensor, Tensor], Tensor]
    ) -> dict[str, Any]:
        """An optimizer's state with each tensor that has a number for each weight converted; others count steps."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        converted = {
            number: {
                key: convert(value, parameters[number]) if isinstance(value, Tensor) and value.ndim else value
                for key, value in values.items()
            }
            for number, values in state["state"].items()
        }
        return {**state, "state": converted}


def shares(strategy: str, ranks: int) -> int:
    """Into how many shares, of one rank or several, a batch is split."""
    return {"towers": ranks // TOWERS or 1, "hybrid": 1}.get(strategy, ranks)


def check_split(
    net: nn.Module,
    strategy: str,
    *,
    ranks: int,
    precision: str | int,
    optimizer: Optimizer,
    callbacks: Iterable[Callback],
) -> None:
    """Raises: UserError if the strategy is one that splits the net, and that can't be; or not with such an optimizer or
    callback, as they say by an attribute: `whole_matrices`, `whole_net`.
    """
    if strategy not in get_args(Way):
        return
    way: Way = "towers" if strategy == "towers" else "hybrid"
    if ranks == 1 or (way == "towers" and ranks % TOWERS):
        needed = "an even number of devices" if way == "towers" else "two devices or more"
        way_out = f"use trainer.devices={TOWERS} (on a CPU, trainer.accelerator=cpu), or trainer.strategy=auto"
        raise UserError(f"trainer.devices={ranks}: trainer.strategy={way} needs {needed}: {way_out}")
    if precision == "16-mixed":
        reason = f"with trainer.precision={precision} each part would leave out steps of its own"
        raise mistake(way, reason, "trainer.precision=32-true")
    if getattr(optimizer, "whole_matrices", False):
        raise mistake(way, f"{type(optimizer).__name__} has to see whole matrices of weights", "optimizer=adamw or sgd")
    if holders := [type(callback).__name__ for callback in callbacks if getattr(callback, "whole_net", False)]:
        raise mistake(way, f"{holders[0]} has to see the whole net", "callbacks=default")
    if net._compiled_call_impl is not None:
        raise mistake(way, "does not compile parts, as model.compile asks for", "model.compile=false")
    Part(net, Group(size=TOWERS if way == "towers" else ranks, part=0), way)
