"""The tables of a run: the net at its beginning, with what each layer costs where asked; the outcome at its end."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from rich import box
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from alexnet_lit.callbacks.line import clock, rate
from alexnet_lit.callbacks.twin import twin


def layers(net: nn.Module, input_shape: tuple[int, ...], *, costs: bool = False) -> Table:
    """List the net layer by layer in the order of the forward pass: name, type, output shape and parameters, for one
    image of `input_shape` (channels, height, width).

    With `costs` also multiply-adds, memory of activations, and the share of each layer in the totals, in percent.
    Multiply-adds are those of convolutions and linear layers; by the field's convention biases, activations,
    normalisation and pooling count none. One is two floating-point operations.
    Memory is what the forward pass writes, in MB (10**6 bytes) of float32: the sum, not the peak, of what layers put
    out, without what they need on the way, what is computed between layers, and what training keeps beside it
    (gradients, dropout's masks, the places of maxima). An output that shares memory with its input takes none: in-place
    activations, flattening, and dropout, which passes its input on, as in evaluation.

    A blank image goes through a twin of the net: neither the net nor the random numbers notice.
    """
    calls = trace(net, input_shape)
    columns = [_Column("parameters", _own_parameters(calls), sum(each.numel() for each in net.parameters()), _count)]
    if costs:
        multiply_adds, written = [call.multiply_adds for call in calls], [call.written for call in calls]
        columns.append(_Column("multiply-adds", multiply_adds, sum(multiply_adds), _count))
        columns.append(_Column("activations, MB", written, sum(written), _megabytes))
    table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    table.add_column("layer", footer="total", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("output", no_wrap=True)
    for column in columns:
        table.add_column(column.title, footer=column.text(column.total), justify="right", no_wrap=True)
        if costs:
            table.add_column("%", justify="right", no_wrap=True)
    table.add_row("input", "", _shape((1, *input_shape)))
    for n, call in enumerate(calls):
        cells = [cell for column in columns for cell in column.cells(n, share=costs)]
        table.add_row(call.name, type(call.layer).__name__, _shape(call.shape), *cells)
    return table


def closing(result: dict[str, Any]) -> Table:
    """Tell what a person wants to know when a run is over. `result` has the keys of result.json, and `checkpoint`,
    `disk` (what all checkpoints take), `run_dir` and `tensorboard` (the command); what is missing or None is left out.
    """
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, label, text in _CLOSING:
        if (value := result.get(key)) is not None:
            table.add_row(label, Text(text(value)))
    return table


def _fixed(value: float) -> str:
    return f"{value:.4f}"


_CLOSING: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("status", "status", str),
    ("test/acc", "test accuracy", _fixed),
    ("test/loss", "test loss", _fixed),
    ("val/acc_best", "best validation accuracy", _fixed),
    ("seconds", "training time", clock),
    ("images_per_second", "speed", rate),
    ("run_dir", "run folder", str),
    ("checkpoint", "checkpoint", str),
    ("disk", "checkpoints in all", str),
    ("tensorboard", "curves", str),
)


class Call(NamedTuple):
    """One call of a module that has no modules inside, for one image: what came out of it, and what that took."""

    name: str
    layer: nn.Module
    shape: tuple[int, ...]
    multiply_adds: int
    written: int  # bytes


class _Column(NamedTuple):
    """One quantity: a value for each call, the net's total, and how it is written. Zero leaves its place empty."""

    title: str
    values: list[int]
    total: int
    text: Callable[[int], str]

    def cells(self, n: int, *, share: bool) -> list[str]:
        value = self.values[n]
        cells = [self.text(value), f"{100 * value / self.total:.1f}"] if value else ["", ""]
        return cells if share else cells[:1]


def trace(net: nn.Module, input_shape: tuple[int, ...]) -> list[Call]:
    """Every call of a module that has no modules inside, in order."""
    seen: list[Call] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda layer, inputs, output: seen.append(_call(name, layer, inputs, output))

    copy = twin(net).eval()
    for name, module in copy.named_modules():
        if not any(module.children()):
            module.register_forward_hook(note(name or "net"))
    device = next((parameter.device for parameter in net.parameters()), torch.device("cpu"))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        copy(torch.zeros(1, *input_shape, device=device))
    return seen


def _call(name: str, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> Call:
    if not isinstance(output, Tensor):
        return Call(name, layer, (), 0, 0)
    multiply_adds = 0
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
        multiply_adds = output.numel() * layer.weight[0].numel()  # a group's weights see its own inputs alone
    memory = {each.untyped_storage().data_ptr() for each in inputs if isinstance(each, Tensor)}
    written = 0 if output.untyped_storage().data_ptr() in memory else output.numel() * torch.float32.itemsize
    return Call(name, layer, tuple(output.shape), multiply_adds, written)


def _own_parameters(calls: list[Call]) -> list[int]:
    """How many parameters each call brings in; shared ones, and those of a layer that is called again, count once."""
    counts: list[int] = []
    counted: set[int] = set()
    for call in calls:
        own = {id(parameter): parameter.numel() for parameter in call.layer.parameters()}
        counts.append(sum(size for key, size in own.items() if key not in counted))
        counted |= own.keys()
    return counts


def _shape(sizes: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in sizes)


def _count(value: int) -> str:
    return f"{value:,}"


def _megabytes(value: int) -> str:
    return f"{value / 1e6:.3f}"
