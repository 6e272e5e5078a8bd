"""What `bench` measures: one thing beside another in one process, in turn, told as medians."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from alexnet_lit.distributed.devices import pick
from alexnet_lit.errors import UserError
from alexnet_lit.nets.kernels.native import keep_memory
from alexnet_lit.tools.bench.data import bench_data
from alexnet_lit.tools.bench.ddp import bench_ddp
from alexnet_lit.tools.bench.epoch import bench_epoch
from alexnet_lit.tools.bench.limits import has_bf16
from alexnet_lit.tools.bench.lrn import bench_lrn
from alexnet_lit.tools.bench.parallel import bench_parallel
from alexnet_lit.tools.bench.profile import bench_profile
from alexnet_lit.tools.bench.reach import bench_reach
from alexnet_lit.tools.bench.start import bench_start
from alexnet_lit.tools.bench.step import bench_step
from alexnet_lit.tools.bench.timing import Report


class Bench(NamedTuple):
    """A measurement, and roughly how long it takes.

    A round on two CPU cores takes as long as `steps` training steps of a batch, and `seconds` more. once: steps before
    the first round. on_gpu: seconds in all, for three rounds.
    """

    run: Callable[..., Report]
    what: str
    steps: float
    seconds: float
    once: float
    on_gpu: float


BENCHES = {
    "lrn": Bench(bench_lrn, "local response normalisation beside torch's layer", 3, 0, 0, 15),
    "step": Bench(bench_step, "a training step beside a plain torch loop", 7, 0, 1, 90),
    "profile": Bench(bench_profile, "where a training step goes", 1.2, 0, 0, 10),
    "data": Bench(bench_data, "the input pipeline beside the course's loader", 2.5, 1, 1, 60),
    "epoch": Bench(bench_epoch, "an epoch in small beside the course's program", 20, 1, 0, 200),
    "start": Bench(bench_start, "what a command takes until its first step is done", 1, 22, 0, 120),
    "reach": Bench(bench_reach, "images and seconds to an accuracy, beside the course's recipe", 0, 0, 65, 180),
    "ddp": Bench(bench_ddp, "a step on all devices beside one on one", 4, 2, 5, 60),
    "parallel": Bench(bench_parallel, "a net that two devices hold together", 4, 1, 14, 60),
}
_SEVERAL = {"ddp", "parallel"}  # they take more than one device
_BATCH = {"cpu": 64, "cuda": 128}
_SPEED = 34.0  # training images/s of two cores


def measure(
    names: Sequence[str] | None, *, batch: int | None, repeats: int, device: str, say: Callable[[str], None]
) -> Iterator[Report]:
    """Yield one table after the other: those of `names`, or all. Tells before each what comes, and how long it takes.

    batch: images a step; None takes 64 on a CPU and 128 on a GPU. say: takes a line.
    Raises: UserError for a name or a device that there is not.
    """
    for name in names or ():
        if name not in BENCHES:
            raise UserError(f"bench {name}: there is no such measurement: use {', '.join(BENCHES)}, or none for all")
    device = "cuda" if pick(device) == "cuda" else "cpu"
    alone = device == "cuda" and torch.cuda.device_count() == 1
    for name in names or ():
        if alone and name in _SEVERAL:
            raise UserError(f"bench {name} --device=cuda: this machine has one GPU: use --device=cpu")
    chosen = names or [name for name in BENCHES if not (alone and name in _SEVERAL)]
    batch = batch or _BATCH[device]
    if device == "cpu":
        keep_memory()  # as in a run; for what is beside it too
    guesses = [_seconds(BENCHES[name], batch, repeats, device) for name in chosen]
    began = time.monotonic()
    for n, name in enumerate(chosen):
        # What is done tells how fast this machine is beside the guess.
        pace = (time.monotonic() - began) / sum(guesses[:n]) if n else 1.0
        say(f"{n + 1} of {len(chosen)}  {name}: {BENCHES[name].what}; {_words(pace * sum(guesses[n:]))} left")
        yield BENCHES[name].run(batch=batch, repeats=repeats, device=device)


def _seconds(bench: Bench, batch: int, repeats: int, device: str) -> float:
    """A guess. A round comes before those that count."""
    rounds = repeats + 1
    if device == "cuda":
        return bench.on_gpu * rounds / 4
    more = 1.3 if has_bf16(device) else 1.0
    return rounds * bench.seconds + more * (rounds * bench.steps + bench.once) * batch / _SPEED


def _words(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {max(10, round(seconds, -1)):.0f} s"
