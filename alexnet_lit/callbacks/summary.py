"""The tables of a run: the net layer by layer at its beginning, the outcome at its end."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from rich import box
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from alexnet_lit.callbacks.progress import clock, rate


def layers(net: nn.Module, input_shape: tuple[int, ...], *, costs: bool = False) -> Table:
    """List the net in the order of the forward pass: name, type, output shape and parameters of each layer, for one
    image of `input_shape` (channels, height, width).

    With `costs` also multiply-adds, memory of activations, and the share of each layer in the totals, in percent.
    Multiply-adds are those of convolutions and linear layers; by the field's convention biases, activations,
    normalisation and pooling count none. One is two floating-point operations. Memory is the sum of what layers put
    out, in MB (10**6 bytes) of float32, not the peak; an output that shares memory with its input takes none: in-place
    activations, flattening, and dropout in evaluation.
    """
    calls = trace(net, input_shape)
    columns = [("parameters", "parameters", "{:,}")]
    if costs:
        columns += [("multiply-adds", "multiply_adds", "{:,}"), ("activations, MB", "megabytes", "{:.3f}")]
    totals = {name: sum(getattr(call, name) for call in calls) for _, name, _ in columns}
    totals["parameters"] = sum(each.numel() for each in net.parameters())
    table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    table.add_column("layer", footer="total", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("output", no_wrap=True)
    for title, name, text in columns:
        table.add_column(title, footer=text.format(totals[name]), justify="right", no_wrap=True)
        if costs:
            table.add_column("%", justify="right", no_wrap=True)
    table.add_row("input", "", _shape((1, *input_shape)))
    for call in calls:
        cells = []
        for _, name, text in columns:
            value = getattr(call, name)
            cell = [text.format(value), f"{100 * value / totals[name]:.1f}"] if value else ["", ""]
            cells += cell if costs else cell[:1]
        table.add_row(call.name, type(call.layer).__name__, _shape(call.shape), *cells)
    return table


def closing(result: dict[str, Any]) -> Table:
    """The outcome of a run. `result` has the keys of result.json, and `checkpoint`, `disk` (what all checkpoints take),
    `run_dir` and `tensorboard` (the command); what is missing or None is left out.
    """
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, label, text in _CLOSING:
        if (value := result.get(key)) is not None:
            table.add_row(label, Text(text(value)))
    return table


_CLOSING: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("status", "status", str),
    ("test/acc", "test accuracy", "{:.4f}".format),
    ("test/loss", "test loss", "{:.4f}".format),
    ("val/acc_best", "best validation accuracy", "{:.4f}".format),
    ("seconds", "training time", clock),
    ("images_per_second", "speed", rate),
    ("run_dir", "run folder", str),
    ("checkpoint", "checkpoint", str),
    ("disk", "checkpoints in all", str),
    ("tensorboard", "curves", str),
)


class Call(NamedTuple):
    """One call of a module that has no modules inside, for one image."""

    name: str
    layer: nn.Module
    shape: tuple[int, ...]
    parameters: int  # that no earlier call has
    multiply_adds: int = 0
    megabytes: float = 0.0  # of the output


def trace(net: nn.Module, input_shape: tuple[int, ...]) -> list[Call]:
    """Every call of a module that has no modules inside, in order. Changes neither the net nor the random numbers."""
    calls: list[Call] = []
    counted: set[nn.Parameter] = set()

    def add(name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        new = set(layer.parameters()) - counted
        counted.update(new)
        calls.append(_call(name, layer, sum(each.numel() for each in new), inputs, output))

    copied = shared_copy(net)
    for name, module in copied.named_modules():
        if not any(module.children()):
            module.register_forward_hook(partial(add, name or "net"))
    device = next((parameter.device for parameter in net.parameters()), torch.device("cpu"))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        copied(torch.zeros(1, *input_shape, device=device))
    return calls


def shared_copy(net: nn.Module) -> nn.Module:
    """The net in eval mode, with the same weights, but with buffers and hooks of its own, and not compiled."""
    return copy.deepcopy(net, {id(parameter): parameter for parameter in net.parameters()}).eval()


def _call(name: str, layer: nn.Module, parameters: int, inputs: tuple[Any, ...], output: Any) -> Call:
    if not isinstance(output, Tensor):
        return Call(name, layer, (), parameters)
    multiply_adds = 0
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
        multiply_adds = output.numel() * layer.weight[0].numel()  # a group's weights see its own inputs alone
    memory = {each.untyped_storage().data_ptr() for each in inputs if isinstance(each, Tensor)}
    megabytes = 0.0 if output.untyped_storage().data_ptr() in memory else output.numel() * 4 / 1e6
    return Call(name, layer, tuple(output.shape), parameters, multiply_adds, megabytes)


def _shape(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))
