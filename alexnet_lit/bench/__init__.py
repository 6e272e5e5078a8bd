"""What is measured: one thing beside another in one run, in turn, medians quoted."""

from collections.abc import Callable, Iterator, Sequence

import torch

from alexnet_lit.bench.data import bench_data
from alexnet_lit.bench.ddp import bench_ddp
from alexnet_lit.bench.epoch import bench_epoch
from alexnet_lit.bench.lrn import bench_lrn
from alexnet_lit.bench.parallel import bench_parallel
from alexnet_lit.bench.profile import bench_profile
from alexnet_lit.bench.start import bench_start
from alexnet_lit.bench.step import bench_step
from alexnet_lit.bench.timing import Report
from alexnet_lit.errors import Mistake

BENCHES: dict[str, Callable[..., Report]] = {
    "lrn": bench_lrn,
    "step": bench_step,
    "profile": bench_profile,
    "data": bench_data,
    "epoch": bench_epoch,
    "start": bench_start,
    "ddp": bench_ddp,
    "parallel": bench_parallel,
}
_SEVERAL = {"ddp", "parallel"}  # they take more than one device


def measure(names: Sequence[str] | None, *, batch: int, repeats: int, device: str) -> Iterator[Report]:
    """Yield one table after the other: those of `names`, or all.

    Raises: Mistake for a name or a device that there is not.
    """
    for name in names or ():
        if name not in BENCHES:
            raise Mistake(f"bench {name}: there is no such measurement: use {', '.join(BENCHES)}, or none for all")
    if device not in ("cpu", "cuda"):
        raise Mistake(f"--device={device}: should be cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise Mistake("--device=cuda: there is no such device here: use cpu")
    alone = device == "cuda" and torch.cuda.device_count() == 1
    for name in names or ():
        if alone and name in _SEVERAL:
            raise Mistake(f"bench {name} --device=cuda: this machine has one GPU: use --device=cpu")
    for name in names or [name for name in BENCHES if not (alone and name in _SEVERAL)]:
        yield BENCHES[name](batch=batch, repeats=repeats, device=device)
