"""The two tables of a run: the net at its beginning, the outcome at its end."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from rich import box
from rich.table import Table
from rich.text import Text
from torch import nn

from alexnet_lit.watch.line import clock, rate


def layers(net: nn.Module, input_shape: tuple[int, ...]) -> Table:
    """List the net layer by layer in the order of the forward pass: name, type, output shape and parameters, for one
    image of `input_shape` (channels, height, width).

    A blank image goes through a twin of the net: neither the net nor the random numbers notice.
    """
    table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    total = sum(parameter.numel() for parameter in net.parameters())
    table.add_column("layer", footer="total", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("output", no_wrap=True)
    table.add_column("parameters", footer=f"{total:,}", justify="right", no_wrap=True)
    table.add_row("input", "", _shape((1, *input_shape)), "")
    counted: set[int] = set()
    for name, layer, shape in _trace(net, input_shape):
        own = {id(parameter): parameter.numel() for parameter in layer.parameters()}
        count = sum(size for key, size in own.items() if key not in counted)  # shared weights count once
        counted |= own.keys()
        table.add_row(name, type(layer).__name__, shape, f"{count:,}" if count else "")
    return table


def closing(result: dict[str, Any]) -> Table:
    """Tell what a person wants to know when a run is over. `result` has the keys of result.json, and `checkpoint`,
    `run_dir` and `tensorboard` (the command); what is missing or None is left out.
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
    ("tensorboard", "curves", str),
)


def _trace(net: nn.Module, input_shape: tuple[int, ...]) -> list[tuple[str, nn.Module, str]]:
    """Name, layer and output shape of every call of a module that has no modules inside."""
    seen: list[tuple[str, nn.Module, str]] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda layer, _, output: seen.append((name, layer, _shape(getattr(output, "shape", ()))))

    twin = _twin(net).eval()
    for name, module in twin.named_modules():
        if not any(module.children()):
            module.register_forward_hook(note(name or "net"))
    device = next((parameter.device for parameter in net.parameters()), torch.device("cpu"))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        twin(torch.zeros(1, *input_shape, device=device))
    return seen


def _twin(net: nn.Module) -> nn.Module:
    """Copy a net, all but its weights, which both then have: deepcopy takes what is in its memo for already copied.

    The copy's mode, buffers and hooks are its own, and it is not compiled.
    """
    return copy.deepcopy(net, {id(parameter): parameter for parameter in net.parameters()})


def _shape(sizes: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in sizes)
