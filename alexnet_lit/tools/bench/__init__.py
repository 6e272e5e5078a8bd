"""`python -m alexnet_lit bench`: one thing beside another in one process, in turn, reported as medians."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from alexnet_lit.distributed.devices import pick
from alexnet_lit.errors import UserError
from alexnet_lit.nets.kernels.native import keep_memory
from alexnet_lit.tools.bench.data import bench_data
from alexnet_lit.tools.bench.fit import bench_epoch, bench_reach
from alexnet_lit.tools.bench.launch import bench_ddp, bench_parallel, bench_start
from alexnet_lit.tools.bench.step import bench_lrn, bench_profile, bench_step
from alexnet_lit.tools.bench.timing import Report


class Bench(NamedTuple):
    """A measurement, and seconds that it takes by default on two CPU cores and on a GPU. several: of devices."""

    run: Callable[..., Report]
    what: str
    on_cpu: float
    on_gpu: float
    several: bool = False


BENCHES = {
    "lrn": Bench(bench_lrn, "local response normalisation beside torch's layer", 23, 15),
    "step": Bench(bench_step, "a training step beside a plain torch loop", 55, 90),
    "profile": Bench(bench_profile, "where a training step goes", 9, 10),
    "data": Bench(bench_data, "the input pipeline beside the course's loader", 25, 60),
    "epoch": Bench(bench_epoch, "an epoch in small beside the course's program", 155, 200),
    "start": Bench(bench_start, "what a command takes until its first step is done", 95, 120),
    "reach": Bench(bench_reach, "images and seconds to an accuracy, beside the course's recipe", 122, 180),
    "ddp": Bench(bench_ddp, "a step on all devices beside one on one", 48, 60, several=True),
    "parallel": Bench(bench_parallel, "a net that two devices hold together", 60, 60, several=True),
}
_BATCH = {"cpu": 64, "cuda": 128}


def measure(
    names: Sequence[str] | None, *, batch: int | None, repeats: int, device: str, say: Callable[[str], None]
) -> Iterator[Report]:
    """Yield a table for each of `names`, or for all. Before each, `say` gets a line: what comes, and the time left.

    batch: images a step; None takes 64 on a CPU and 128 on a GPU.
    Raises: UserError for a name or a device that there is not.
    """
    for name in names or ():
        if name not in BENCHES:
            raise UserError(f"bench {name}: there is no such measurement: use {', '.join(BENCHES)}, or none for all")
    device = "cuda" if pick(device) == "cuda" else "cpu"
    alone = device == "cuda" and torch.cuda.device_count() == 1
    for name in names or ():
        if alone and BENCHES[name].several:
            raise UserError(f"bench {name} --device=cuda: this machine has one GPU: use --device=cpu")
    chosen = names or [name for name, bench in BENCHES.items() if not (alone and bench.several)]
    batch = batch or _BATCH[device]
    if device == "cpu":
        keep_memory()  # as in a run; for what is compared with it too
    scale = (repeats + 1) / 4 * (1 if device == "cuda" else batch / _BATCH["cpu"])
    estimates = [scale * (BENCHES[name].on_gpu if device == "cuda" else BENCHES[name].on_cpu) for name in chosen]
    began = time.monotonic()
    for n, name in enumerate(chosen):
        # What is done tells how fast this machine is beside the estimates.
        pace = (time.monotonic() - began) / sum(estimates[:n]) if n else 1.0
        left = pace * sum(estimates[n:])
        words = f"{left / 60:.0f} min" if left >= 90 else f"{max(10, round(left, -1)):.0f} s"
        say(f"{n + 1} of {len(chosen)}  {name}: {BENCHES[name].what}; about {words} left")
        yield BENCHES[name].run(batch=batch, repeats=repeats, device=device)
