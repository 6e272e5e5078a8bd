"""Time cases in turn; medians, the machine's limits, and the table that they make."""

import platform
import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from alexnet_lit.distributed.devices import cores
from alexnet_lit.nets.kernels.native import bf16_units

_CALLS = {"cpu": 1, "cuda": 20}  # between two looks at the clock: a GPU's next kernels are launched while it works
_SIDES = {"cpu": 4096, "cuda": 8192}  # of the matrices multiplied

Case = Callable[[], object]
Seconds = dict[str, list[float]]  # by case, a value per round
Table = dict[str, Any]  # its title, how it was measured, and rows


def rounds(cases: Mapping[str, Callable[[], float]], repeats: int) -> Seconds:
    """What each case returns: one round to warm up, then `repeats` rounds of all cases in turn."""
    turns = [{name: case() for name, case in cases.items()} for _ in range(repeats + 1)][1:]
    return {name: [turn[name] for turn in turns] for name in cases}


def alternate(cases: Mapping[str, Case], repeats: int, device: str) -> Seconds:
    """Seconds of a call of each case, in `rounds`: of one call on a CPU, on cuda of 20 that are waited for together."""

    def seconds(case: Case) -> float:
        wait(device)
        start = time.perf_counter()
        for _ in range(_CALLS[device]):
            case()
        wait(device)
        return (time.perf_counter() - start) / _CALLS[device]

    return rounds({name: partial(seconds, case) for name, case in cases.items()}, repeats)


def wait(device: str) -> None:
    """Return once the device has done what it was given."""
    torch.get_device_module(device).synchronize()


def ratios(slow: Iterable[float], fast: Iterable[float]) -> list[float]:
    """How many times as long `slow` took, round by round: what disturbs the machine disturbs both."""
    return [a / b for a, b in zip(slow, fast, strict=True)]


def spread(values: list[float], digits: int = 2) -> str:
    """Median and range: 6.12 (5.98-6.40). Of a single value, that alone."""
    middle = f"{median(values):.{digits}f}"
    return f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})" if len(values) > 1 else middle


def machine(device: str) -> str:
    """The GPU's name; of a CPU its model, the cores that this process may use, and its units for wide products."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")  # Linux
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    named = re.search(r"model name\s*: (.*)", text)
    model = named[1].strip() if named else platform.processor() or platform.machine()
    units = sorted(set(re.findall(r"\b(?:amx_bf16|avx512_bf16|avx512f|avx2)\b", text))) or [platform.machine()]
    return f"{model}, {cores()} cores ({' '.join(units)})"


def has_bf16(device: str) -> bool:
    """Whether bfloat16 is measured: a CPU without units for it takes many times as long as in float32."""
    return device == "cuda" or bool(bf16_units())


def limits(device: str) -> dict[str, Case]:
    """What the device does at its best, as cases to be timed among others: products of square matrices.

    On a CPU in float32 and, with units for it, in bfloat16; on cuda in bfloat16. Of random numbers: zeros would take
    less power, and so less time.
    """
    dtypes = {"matrix product": torch.float32, "bf16 matrix product": torch.bfloat16}
    names = [name for name in dtypes if (has_bf16(device) if "bf16" in name else device == "cpu")]
    pairs = {name: torch.randn(2, _SIDES[device], _SIDES[device], device=device).to(dtypes[name]) for name in names}
    return {name: partial(torch.matmul, *pair) for name, pair in pairs.items()}


def shares(seconds: Seconds, device: str, speed: float | None, *, half: bool) -> dict[str, str]:
    """A column for each of the `limits` that were timed: `speed` (GFLOP/s) as a percentage of it.

    Empty for None, and on a CPU where one is in bfloat16 and the other is not. half: the speed is in bfloat16.
    """
    columns = {}
    for name in [name for name in seconds if name.endswith("matrix product")]:
        product = 2e-9 * _SIDES[device] ** 3 / median(seconds[name])
        comparable = device == "cuda" or half == name.startswith("bf16")
        share = f"{100 * speed / product:.0f}" if speed is not None and comparable else ""
        columns[f"% of a {name}'s {product:,.0f} GFLOP/s"] = share
    return columns
