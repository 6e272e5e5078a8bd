"""What `trainer.precision=auto` stands for on a CPU: bf16 autocast where it is measured to pay, else float32."""

import copy
import time

import torch
from torch import Tensor, nn

from alexnet_lit.nets.kernels.native import bf16_units

LEAST_SPEEDUP = 1.5  # of bf16 on a CPU: below it, full precision is worth more than the time


def cpu_precision(net: nn.Module, input_shape: tuple[int, ...]) -> tuple[str, str]:
    """The precision for this CPU, and why in a line, "" where it has no units for bf16. input_shape: (C, H, W)."""
    units = bf16_units()
    if not units:
        return "32-true", ""
    speedup = bf16_speedup(net, input_shape)
    if speedup < LEAST_SPEEDUP:
        return "32-true", f"bf16-mixed would be {speedup:.1f} times as fast as float32 on this CPU ({units})"
    hint = "trainer.precision=32-true gives the same weights on CPUs of other kinds too"
    return "bf16-mixed", f"{speedup:.1f} times as fast as float32 on this CPU ({units}); {hint}"


def bf16_speedup(net: nn.Module, input_shape: tuple[int, ...]) -> float:
    """How many times as fast as float32 this CPU trains the net's most expensive layer in bf16 autocast.

    1.0 for a net without convolutions and linear layers.
    """
    costs: dict[tuple[nn.Module, torch.Size], int] = {}

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        costs[layer, inputs[0].shape[1:]] = output.numel() * layer.get_parameter("weight")[0].numel()  # multiply-adds

    layers = [each for each in net.modules() if isinstance(each, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    training = net.training
    with torch.no_grad():
        net.eval().forward(torch.zeros(1, *input_shape))  # not called: that would compile the net if it is to be
    net.train(training)
    for hook in hooks:
        hook.remove()
    return _layer_speedup(*max(costs, key=lambda key: costs[key])) if costs else 1.0


_speedups: dict[str, float] = {}  # so that all runs of a sweep in one process compute alike


def _layer_speedup(layer: nn.Module, shape: torch.Size) -> float:
    key = f"{layer} of {tuple(shape)} by {torch.get_num_threads()} threads"
    if key not in _speedups:
        with torch.random.fork_rng(devices=[]):
            layer = copy.deepcopy(layer)
            for parameter in layer.parameters():
                nn.init.normal_(parameter, std=0.01)
            images = torch.randn(4, *shape)
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        images.requires_grad_()
        rounds = [(_time_layer(layer, images, bf16=False), _time_layer(layer, images, bf16=True)) for _ in range(4)]
        slow, fast = (min(times) for times in zip(*rounds[1:], strict=True))  # the first round warms up
        _speedups[key] = slow / fast
    return _speedups[key]


def _time_layer(layer: nn.Module, images: Tensor, *, bf16: bool) -> float:
    """Seconds of a forward and a backward pass."""
    began = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        outputs = layer(images)
    torch.autograd.grad(outputs, [images, *layer.parameters()], torch.ones_like(outputs))
    return time.perf_counter() - began
