"""What `trainer.precision=auto` stands for: bf16 autocast where the device computes faster in it, else float32."""

import copy
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

LEAST_SPEEDUP = 1.5  # of bf16 on a CPU: below it, full precision is worth more than the time
_IMAGES = 4
_ROUNDS = 3


def cpu_precision(units: str, speedup: Callable[[], float]) -> tuple[str, str]:
    """The precision for a CPU with these bf16 units, and why in a line ("" where there was nothing to choose).

    speedup: measures how many times as fast as float32 bf16 is; called only where there are units.
    """
    if not units:
        return "32-true", ""
    times = speedup()
    if times < LEAST_SPEEDUP:
        return "32-true", f"bf16-mixed would be {times:.1f} times as fast as float32 on this CPU ({units})"
    way_back = "trainer.precision=32-true gives the same weights on CPUs of other kinds too"
    return "bf16-mixed", f"{times:.1f} times as fast as float32 on this CPU ({units}); {way_back}"


def bf16_speedup(net: nn.Module, input_shape: tuple[int, ...]) -> float:
    """How many times as fast as float32 this CPU trains the net's most expensive layer in bf16 autocast.

    net: on the meta device, where a forward pass computes shapes alone. input_shape: (C, H, W) of an image. Takes a few
    tenths of a second for AlexNet at 224 px; 1.0 for a net without convolutions and linear layers.
    """
    costs: dict[tuple[nn.Module, torch.Size], int] = {}

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = layer.get_parameter("weight")
        costs[layer, inputs[0].shape[1:]] = output.numel() * weight[0].numel()  # multiply-adds

    hooks = [
        layer.register_forward_hook(count)
        for layer in net.modules()
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)
    ]
    with torch.no_grad():
        net(torch.zeros(1, *input_shape, device="meta"))
    for hook in hooks:
        hook.remove()
    if not costs:
        return 1.0
    layer, shape = max(costs, key=lambda key: costs[key])
    return _speedup(layer, shape)


_measured: dict[str, float] = {}  # runs of a sweep in one process all compute alike


def _speedup(layer: nn.Module, shape: torch.Size) -> float:
    key = f"{layer} of {tuple(shape)} by {torch.get_num_threads()} threads"
    if key not in _measured:
        with torch.random.fork_rng(devices=[]):
            layer = copy.deepcopy(layer).to_empty(device="cpu")
            for parameter in layer.parameters():
                nn.init.normal_(parameter, std=0.01)
            images = torch.randn(_IMAGES, *shape, requires_grad=True)
        if images.ndim == 4:
            images = images.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for n in range(_ROUNDS + 1):
            for bf16, rounds in seconds.items():
                took = _train(layer, images, bf16=bf16)
                rounds += [took] if n else []  # the first round warms up
        _measured[key] = min(seconds[False]) / min(seconds[True])
    return _measured[key]


def _train(layer: nn.Module, images: Tensor, *, bf16: bool) -> float:
    """Seconds of a forward and a backward pass."""
    began = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        outputs = layer(images)
    torch.autograd.grad(outputs, [images, *layer.parameters()], torch.ones_like(outputs))
    return time.perf_counter() - began
