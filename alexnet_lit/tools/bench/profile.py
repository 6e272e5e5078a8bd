"""Where the time of a training step goes, operation by operation."""

import os
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from alexnet_lit.tools.bench.limits import has_bf16
from alexnet_lit.tools.bench.step import our_step
from alexnet_lit.tools.bench.timing import Report, conditions, wait

_ROWS = 14


def bench_profile(*, batch: int, repeats: int, device: str) -> Report:
    """The operations that take the most time of a step with LRN, each without what it calls.

    On a CPU in float32, and in bf16 where it has instructions for that; on cuda the kernels of a step in bf16.
    """
    precisions = [True] if device == "cuda" else [False, True] if has_bf16(device) else [False]
    rows = [row for half in precisions for row in _profiled(batch, repeats, device, half=half)]
    how = f"model.lrn=true, batch {batch}, medians of {repeats} steps"
    return Report("Where a training step goes", conditions(device, how), rows)


def _profiled(batch: int, repeats: int, device: str, *, half: bool) -> list[dict[str, str]]:
    on_gpu = device == "cuda"
    own = "self_device_time_total" if on_gpu else "self_cpu_time_total"

    def counts(event: Any) -> bool:
        """On cuda kernels alone: whoever launched one has its time too."""
        return not on_gpu or (event.device_type.name == "CUDA" and not event.is_user_annotation)

    small = torch.randint(256, (batch, 28, 28), dtype=torch.uint8, device=device)
    step = our_step(small, torch.randint(10, (batch,), device=device), device, "model.lrn=true", half=half)
    for _ in range(3 if on_gpu else 1):  # the first ones compile kernels
        step()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler tells its own story on stderr
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])
    steps: list[dict[str, float]] = []
    for _ in range(repeats):
        with profile(activities=activities, acc_events=True) as recorded:  # else some versions warn of a second one
            step()
            wait(device)
        steps.append({event.key: 1e-6 * getattr(event, own) for event in recorded.key_averages() if counts(event)})
    seconds = {name: median(each.get(name, 0.0) for each in steps) for name in steps[0]}
    total = sum(seconds.values())
    most = sorted(seconds, key=lambda name: -seconds[name])[:_ROWS]
    shown = {name: seconds[name] for name in most} | {"the rest": total - sum(seconds[name] for name in most)}
    precision = "bf16-mixed" if half else "float32"
    return [
        {"precision": precision, "operation": name, "s": f"{took:.4f}", "%": f"{100 * took / total:.1f}"}
        for name, took in shown.items()
    ]
