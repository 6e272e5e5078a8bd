"""Where the time of a training step goes, operation by operation."""

import os
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile

from alexnet_lit.bench.step import our_step
from alexnet_lit.bench.timing import Report, conditions

_ROWS = 14


def bench_profile(*, batch: int, repeats: int, device: str) -> Report:
    """The operations that take the most time of a step with LRN, of themselves, without what they call."""
    small = torch.randint(256, (batch, 28, 28), dtype=torch.uint8, device=device)
    step = our_step(small, torch.randint(10, (batch,), device=device), device, "model.lrn=true")
    step()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler tells its own story on stderr
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    steps: list[dict[str, float]] = []
    for _ in range(repeats):
        with profile(activities=activities) as recorded:
            step()
        own = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
        steps.append({event.key: getattr(event, own) / 1e6 for event in recorded.key_averages()})
    seconds = {name: median(each.get(name, 0.0) for each in steps) for name in steps[0]}
    total = sum(seconds.values())
    most = sorted(seconds, key=lambda name: -seconds[name])[:_ROWS]
    rows = [_row(name, seconds[name], total) for name in most]
    rows.append(_row("the rest", total - sum(seconds[name] for name in most), total))
    how = f"model.lrn=true, batch {batch}, float32, medians of {repeats} steps"
    return Report("Where a training step goes", conditions(device, how), rows)


def _row(name: str, seconds: float, total: float) -> dict[str, str]:
    return {"operation": name, "s": f"{seconds:.4f}", "%": f"{100 * seconds / total:.1f}"}
