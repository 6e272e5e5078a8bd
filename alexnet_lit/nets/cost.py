"""What a net costs: its layers' calls, their multiply-adds, and which precision is fast on a CPU."""

import copy
import time
from collections import OrderedDict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from alexnet_lit.nets.kernels.native import bf16_units

LEAST_SPEEDUP = 1.5  # of bf16 over float32 on a CPU, for precision=auto to choose it


class Call(NamedTuple):
    """One call of a module that has no modules inside."""

    name: str
    layer: nn.Module
    inputs: tuple[Any, ...]
    output: Any


def trace(net: nn.Module, images: Tensor) -> list[Call]:
    """Every call of a module that has no modules inside, in order, of the net in eval mode and not compiled.

    images: (B, C, S, S), on any device. Changes neither the net nor the random numbers.
    """
    calls: list[Call] = []
    hooks = [each for module in net.modules() for each in (module._forward_hooks, module._forward_pre_hooks)]
    memo: dict[int, Any] = {id(each): OrderedDict() for each in hooks}  # empty: a profiler's can't be copied
    memo |= {id(parameter): parameter for parameter in net.parameters()}  # shared
    copied = copy.deepcopy(net, memo).eval()
    for name, module in copied.named_modules():
        if not any(module.children()):
            module.register_forward_hook(
                lambda layer, inputs, output, name=name or "net": calls.append(Call(name, layer, inputs, output))
            )
    device = next((parameter.device for parameter in net.parameters()), images.device)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        copied(images.to(device))
    return calls


def multiply_adds(call: Call) -> int:
    """Those of a convolution or linear layer; of other layers none are counted."""
    if not isinstance(call.layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
        return 0
    return int(call.output.numel()) * call.layer.weight[0].numel()  # a group's weights see its own inputs alone


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
    most = max(trace(net, torch.zeros(1, *input_shape)), key=multiply_adds, default=None)
    return _layer_speedup(most.layer, most.inputs[0].shape[1:]) if most and multiply_adds(most) else 1.0


_speedups: dict[str, float] = {}  # cached: all runs of a sweep in one process then use one precision


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
