"""`python -m alexnet_lit bench`: alternatives timed in turn in one process, reported as medians."""

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date

import torch

from alexnet_lit.distributed.devices import device_type
from alexnet_lit.errors import check_choice
from alexnet_lit.nets.kernels.native import keep_memory
from alexnet_lit.run import origin
from alexnet_lit.tools.bench.ddp import bench_ddp
from alexnet_lit.tools.bench.epoch import bench_data, bench_epoch
from alexnet_lit.tools.bench.step import bench_lrn, bench_step
from alexnet_lit.tools.bench.timing import Table, machine
from alexnet_lit.tools.records import Record

# Each with what it measures, and the seconds that it takes by default, on two CPU cores or a GPU.
BENCHES: dict[str, tuple[Callable[..., Table], str, int]] = {
    "lrn": (bench_lrn, "local response normalisation beside torch's layer", 20),
    "step": (bench_step, "a training step beside a plain torch loop", 60),
    "data": (bench_data, "the input pipeline beside the course's loader", 30),
    "epoch": (bench_epoch, "a shortened epoch beside the course's program", 120),
    "ddp": (bench_ddp, "a step on all devices beside one on one", 50),
}

COMMAND = "python -m alexnet_lit bench {} --batch {} --repeats {}"  # as recorded


def measure(names: Sequence[str] | None, *, batch: int | None, repeats: int, device: str) -> Iterator[Record]:
    """Yield a record for each of `names`, or for all. Before each, stderr has a line: what comes, how long it takes.

    batch: images a step; None takes 64 on a CPU and 128 on a GPU.
    Raises: UserError for a name or a device that there is not.
    """
    for name in names or ():
        check_choice("bench, name", name, list(BENCHES))
    device = "cuda" if device_type(device) == "cuda" else "cpu"
    one_gpu = device == "cuda" and torch.cuda.device_count() == 1
    alone = one_gpu or "forkserver" not in multiprocessing.get_all_start_methods()  # as on Windows
    chosen = names or [name for name in BENCHES if not (alone and name == "ddp")]
    if device == "cpu":
        keep_memory()  # as in a run; for what is compared with it too
    for n, name in enumerate(chosen, start=1):
        run, what, seconds = BENCHES[name]
        print(f"{n} of {len(chosen)}  {name}: {what}; about {seconds} s by default", file=sys.stderr)
        images = batch or (128 if device == "cuda" else 64)
        table = run(batch=images, repeats=repeats, device=device)
        made = {"command": COMMAND.format(name, images, repeats), "date": str(date.today()), "machine": machine(device)}
        yield {**made, "status": "completed", **origin(), "table": table}
