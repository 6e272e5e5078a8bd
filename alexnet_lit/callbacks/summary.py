"""The tables of a run: the net layer by layer at its beginning, the outcome at its end."""

from collections.abc import Callable
from typing import Any

import torch
from rich import box
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from alexnet_lit.callbacks.progress import clock, rate
from alexnet_lit.nets.cost import Call, multiply_adds, trace


def layer_table(net: nn.Module, input_shape: tuple[int, ...], *, costs: bool = False) -> Table:
    """List the net in the order of the forward pass: name, type, output shape and parameters of each layer, for one
    image of `input_shape` (channels, height, width).

    With `costs` also multiply-adds, memory of activations, and the share of each layer in the totals, in percent.
    Multiply-adds are those of convolutions and linear layers; by the field's convention biases, activations,
    normalisation and pooling count none. One is two floating-point operations. Memory is the sum of what layers put
    out, in MB (10**6 bytes) of float32, not the peak; an output that shares memory with its input takes none: in-place
    activations, flattening, and dropout in evaluation.
    """
    columns = {"parameters": "{:,}"} | ({"multiply-adds": "{:,}", "activations, MB": "{:.3f}"} if costs else {})
    calls, seen = trace(net, torch.zeros(1, *input_shape)), set[nn.Parameter]()
    values = [_costs(call, seen) for call in calls]
    totals = [sum(column) for column in zip(*values, strict=True)]
    totals[0] = sum(each.numel() for each in net.parameters())
    table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    table.add_column("layer", footer="total", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("output", no_wrap=True)
    for (title, text), total in zip(columns.items(), totals, strict=False):
        table.add_column(title, footer=text.format(total), justify="right", no_wrap=True)
        if costs:
            table.add_column("%", justify="right", no_wrap=True)
    table.add_row("input", "", " x ".join(map(str, (1, *input_shape))))
    for call, row in zip(calls, values, strict=True):
        cells = []
        for text, value, total in zip(columns.values(), row, totals, strict=False):
            cell = [text.format(value), f"{100 * value / total:.1f}"] if value else ["", ""]
            cells += cell if costs else cell[:1]
        shape = " x ".join(map(str, getattr(call.output, "shape", ())))
        table.add_row(call.name, type(call.layer).__name__, shape, *cells)
    return table


def result_text(result: dict[str, Any]) -> Text:
    """The outcome of a run, a line a value, of which a terminal wraps the long ones: paths can be copied.

    result: the keys of result.json, and `checkpoint`, `disk` (what all checkpoints take), `run_dir` and `tensorboard`
    (the command); what is missing or None is left out.
    """
    rows = [(label, text(value)) for key, label, text in _CLOSING if (value := result.get(key)) is not None]
    width = 2 + max(len(label) for label, _ in rows)
    return Text("\n").join(Text.assemble((label.ljust(width), "bold"), value) for label, value in rows)


_CLOSING: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("status", "status", str),
    ("test/acc", "test accuracy", "{:.4f}".format),
    ("test/loss", "test loss", "{:.4f}".format),
    ("val/acc_best", "best validation accuracy", "{:.4f}".format),
    ("seconds", "training time", clock),
    ("images_per_second", "speed", rate),
    ("run_dir", "run folder", str),
    ("checkpoint", "checkpoint", str),
    ("disk", "all checkpoints", str),
    ("tensorboard", "curves", str),
)


def _costs(call: Call, seen: set[nn.Parameter]) -> tuple[int, int, float]:
    """Parameters that are not among those `seen`, to which they are added; multiply-adds; MB of the output."""
    new = set(call.layer.parameters()) - seen
    seen |= new
    parameters, output = sum(each.numel() for each in new), call.output
    if not isinstance(output, Tensor):
        return parameters, 0, 0.0
    memory = {each.untyped_storage().data_ptr() for each in call.inputs if isinstance(each, Tensor)}
    shared = output.untyped_storage().data_ptr() in memory
    return parameters, multiply_adds(call), 0.0 if shared else output.numel() * 4 / 1e6
