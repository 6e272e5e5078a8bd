"""Lightning strategy for model parallelism: the paper's two towers, and the hybrid of Krizhevsky 2014."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.nn.utils import get_total_norm
from torch.optim import Adafactor, Optimizer
from torch.optim import Muon as TorchMuon
from torchmetrics import Metric

from alexnet_lit.distributed.towers.parts import DeviceGroup, Part, Way, refusal
from alexnet_lit.errors import UserError
from alexnet_lit.optim import Muon

_WHOLE_MATRICES = (Muon, TorchMuon, Adafactor)  # optimizers that do not treat each weight by itself


class ModelParallel(DDPStrategy):
    """Replace `module.net` by a `Part` of it on each device while the trainer is at work.

    The run equals that of one device, and a checkpoint has the weights and optimizer state of one device. Outside of
    fit and test `module.net` is the whole net; after an exception it has no weights, as other parts may be gone.
    The optimizer has to treat each weight by itself, as SGD and Adam do.
    Lightning's ModelParallelStrategy wants weights that are DTensors, and torch splits no convolution by its channels.
    """

    def __init__(self, *, way: Way) -> None:
        super().__init__()
        self.way = way
        self._mesh: DeviceMesh | None = None  # of all devices
        self._net: nn.Module | None = None  # the whole net, on the meta device
        self._wholes: dict[Tensor, nn.Parameter] = {}  # its parameter for each one of the part
        self._failed = False

    @staticmethod
    def check(
        way: Any, *, ranks: int, net: nn.Module, precision: str | int, optimizer: Optimizer, callbacks: list[Callback]
    ) -> None:
        """Raises: UserError if the net can't be split over the ranks, or not with this optimizer or callback."""
        if ranks == 1 or (way == "towers" and ranks != 2):
            needed = "two devices" if way == "towers" else "two devices or more"
            instead = "use trainer.devices=2 (on a CPU, trainer.accelerator=cpu), or trainer.strategy=auto"
            raise UserError(f"trainer.devices={ranks}: trainer.strategy={way} needs {needed}: {instead}")
        if precision == "16-mixed":
            reason = f"with trainer.precision={precision} each part would leave out steps of its own"
            raise refusal(way, reason, "trainer.precision=32-true")
        if isinstance(optimizer, _WHOLE_MATRICES):
            name = type(optimizer).__name__
            raise refusal(way, f"{name} has to see whole matrices of weights", "optimizer=adamw or sgd")
        for callback in callbacks:
            if is_overridden("on_save_checkpoint", callback, Callback):  # it may write weights, and would see a part
                raise refusal(way, f"{type(callback).__name__} has to see the whole net", "callbacks=default")
        if net._compiled_call_impl is not None:
            raise refusal(way, "does not compile parts, as model.compile asks for", "model.compile=false")
        Part(net, DeviceGroup(size=ranks, part=0), way)

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        """Which share of a batch this rank takes: all of it."""
        return {"num_replicas": 1, "rank": 0}

    def setup_environment(self) -> None:
        super().setup_environment()
        self._mesh = self._mesh or init_device_mesh(self.root_device.type, (self.world_size,))

    def setup(self, trainer: Trainer) -> None:
        """Replace the net by this device's part; in a fit `configure_ddp` has done so already."""
        self._failed = False
        super().setup(trainer)
        if trainer.state.fn != TrainerFn.FITTING:
            self._install_part()

    def configure_ddp(self) -> None:
        """Replace the net before the optimizer is built. DDP is not needed: copies get the same gradients."""
        self._install_part()

    def total_norm(self, parameters: list[nn.Parameter]) -> Tensor:
        """The norm of the gradients of all parts, where `parameters` are this part's."""
        norm = get_total_norm([self._distributed(each.grad, each) for each in parameters if each.grad is not None])
        assert isinstance(norm, DTensor)
        return norm.full_tensor()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        weights = self._weights() if self._wholes else {}
        return super().lightning_module_state_dict() | {f"net.{key}": value for key, value in weights.items()}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        return _convert(super().optimizer_state(optimizer), optimizer, self._gathered)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load this part of the state of one device."""
        pairs = zip(checkpoint["optimizer_states"], self.optimizers, strict=True)
        states = [_convert(state, optimizer, self._own) for state, optimizer in pairs]
        super().load_optimizer_state_dict({"optimizer_states": states})

    def on_exception(self, exception: BaseException) -> None:
        """Use no collectives from here on: other devices may be gone."""
        self._failed = True
        super().on_exception(exception)

    def teardown(self) -> None:
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

    def _install_part(self) -> None:
        part = Part(self._module.net, DeviceGroup(self.world_size, self.global_rank, self._mesh), self.way)
        self._net = net = self._module.net.to("meta")
        self._module.net = part
        wholes = dict(net.named_parameters())
        self._wholes = {parameter: wholes[name] for name, parameter in part.named_parameters()}
        for metric in self._module.modules():
            if isinstance(metric, Metric):
                metric.distributed_available_fn = lambda: False  # each device counts all images

    def _weights(self) -> dict[str, Tensor]:
        """The whole net's weights, while there are parts."""
        return {name: self._gathered(parameter, parameter) for name, parameter in self._module.net.named_parameters()}

    def _distributed(self, value: Tensor, parameter: Tensor) -> DTensor:
        """A parameter of the part, its gradient or its momentum as a DTensor of all parts."""
        dim = self._dim(parameter)
        return DTensor.from_local(value, self._mesh, [Replicate() if dim is None else Shard(dim)])

    def _dim(self, parameter: Tensor) -> int | None:
        """The dimension in which a parameter is split; None if each device has all of it."""
        sizes = zip(parameter.shape, self._wholes[parameter].shape, strict=True)
        return next((dim for dim, (own, whole) in enumerate(sizes) if own != whole), None)

    def _gathered(self, value: Tensor, parameter: Tensor) -> Tensor:
        # In the memory format of one device: fused optimizers need the same for weights and momentum.
        whole = torch.empty_like(self._wholes[parameter], dtype=value.dtype, device=value.device)
        return whole.copy_(self._distributed(value.detach(), parameter).full_tensor())

    def _own(self, value: Tensor, parameter: Tensor) -> Tensor:
        dim = self._dim(parameter)
        return value if dim is None else value.chunk(self.world_size, dim)[self.global_rank].clone()


def _convert(state: Any, optimizer: Optimizer, convert: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Any]:
    """Convert all tensors of an optimizer's state but scalars, which count steps."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    converted = {number: dict(values) for number, values in state["state"].items()}
    for number, values in converted.items():
        for key, value in values.items():
            if isinstance(value, Tensor) and value.ndim:
                values[key] = convert(value, parameters[number])
    return {**state, "state": converted}
