"""Local response normalisation against torch's own layer, forward and backward."""

from collections.abc import Callable
from itertools import product
from statistics import median

import torch
from torch import Tensor, nn

from alexnet_lit.nets import LocalResponseNorm
from alexnet_lit.nets.kernels import lrn_plain
from alexnet_lit.nets.lrn import Normalise
from alexnet_lit.tools.bench.limits import has_bf16
from alexnet_lit.tools.bench.timing import Report, alternate, conditions, ratios, spread

SHAPES = ((96, 54, 54), (256, 26, 26))  # what follows conv1 and conv2 of the course's net at 224 px
LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
SETTINGS = (5, 1e-4, 0.75, 2.0)


def bench_lrn(*, batch: int, repeats: int, device: str) -> Report:
    """Seconds of a forward and a backward pass: this layer, with and without a compiler; torch's.

    In float32, and in bfloat16 where the device has units for it; torch's layer takes no bfloat16 on a CPU.
    """
    ours, theirs = LocalResponseNorm(*SETTINGS, reduction="mean"), nn.LocalResponseNorm(*SETTINGS)
    rows = []
    dtypes = (torch.float32, torch.bfloat16) if has_bf16(device) else (torch.float32,)
    for dtype, shape, layout in product(dtypes, SHAPES, LAYOUTS):
        x = torch.randn(batch, *shape, device=device).to(dtype).contiguous(memory_format=LAYOUTS[layout])
        x.requires_grad_()
        cases = {
            "ours": _both_ways(ours, x),
            "plain": _both_ways(_without_compiler, x),
            **({"torch": _both_ways(theirs, x)} if dtype == torch.float32 or device == "cuda" else {}),
        }
        seconds = alternate(cases, repeats=repeats, device=device)
        rows.append(
            {
                "input": str(tuple(x.shape)),
                "memory format": layout,
                "numbers": str(dtype).removeprefix("torch."),
                "ours, s": f"{median(seconds['ours']):.4f}",
                "ours in torch's operations, s": f"{median(seconds['plain']):.4f}",
                "torch, s": f"{median(seconds['torch']):.4f}" if "torch" in cases else "",
                "torch / ours": spread(ratios(seconds["torch"], seconds["ours"]), 1) if "torch" in cases else "",
            }
        )
    how = f"forward and backward, medians of {repeats} rounds; ratios round by round, with their range"
    return Report("Local response normalisation", conditions(device, how), rows)


def _without_compiler(x: Tensor) -> Tensor:
    size, alpha, beta, k = SETTINGS
    out: Tensor = Normalise.apply(x, lrn_plain, size, alpha / size, beta, k, False)
    return out


def _both_ways(layer: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], object]:
    upstream = torch.randn_like(x)
    return lambda: torch.autograd.grad(layer(x), x, upstream)
