"""What several devices give: images/s of a training step on all of them beside that on one."""

import multiprocessing
import os
import time
from contextlib import nullcontext
from multiprocessing.connection import Connection
from statistics import median

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from alexnet_lit.config import compose
from alexnet_lit.distributed.devices import cores
from alexnet_lit.distributed.launch import open_store
from alexnet_lit.distributed.strategy import DDP, HOOKS
from alexnet_lit.factory import build
from alexnet_lit.tools.bench.timing import Report, conditions, ratios, spread, wait

_ONE = "one process"
_ALONE = "each for itself"  # gradients cross no border: what is left to win
_CASES = (_ONE, "ddp", "ddp_bf16", _ALONE)


def bench_ddp(*, batch: int, repeats: int, device: str) -> Report:
    """Images/s of steps of the course's recipe at 224 px, the batch split over all devices.

    On a CPU one process with a thread a core is compared with a process a core, of one thread each; on cuda one GPU
    with all of them. Efficiency is the share of the speed that would be ideal: that of one process on a CPU, that of
    one GPU times their number on cuda.
    """
    ranks = torch.cuda.device_count() if device == "cuda" else max(2, cores())
    with _Workers(1, batch, device) as one, _Workers(ranks, batch, device) as all_of_them:
        for case in _CASES:  # once without counting
            (one if case == _ONE else all_of_them).step(case)
        seconds: dict[str, list[float]] = {case: [] for case in _CASES}
        for _ in range(repeats):
            for case in _CASES:
                seconds[case].append((one if case == _ONE else all_of_them).step(case))
    ideal = ranks if device == "cuda" else 1
    rows = [
        {
            "gradients": case,
            "processes": "1" if case == _ONE else str(ranks),
            "images/s": f"{batch / median(seconds[case]):.1f}",
            "times one process": spread(ratios(seconds[_ONE], seconds[case])),
            "efficiency, %": f"{100 * median(ratios(seconds[_ONE], seconds[case])) / ideal:.0f}",
        }
        for case in _CASES
    ]
    how = f"batch {batch} over all processes, float32, medians of {repeats} rounds in turn; ratios round by round"
    return Report("Several devices", conditions(device, how), rows)


class _Workers:
    """Processes that wait, without using a core, until they are told to take a step."""

    def __init__(self, ranks: int, batch: int, device: str) -> None:
        self.store = open_store()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        pipes = [context.Pipe() for _ in range(ranks)]
        self.lines: list[Connection] = [pipe[0] for pipe in pipes]
        threads = max(1, cores() // ranks)
        self.processes = [
            context.Process(
                target=_work, args=(pipe[1], rank, ranks, self.store.port, batch, device, threads), daemon=True
            )
            for rank, pipe in enumerate(pipes)
        ]

    def __enter__(self) -> "_Workers":
        for process in self.processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for line, process in zip(self.lines, self.processes, strict=True):
            line.send(None)
            process.join(10)

    def step(self, case: str) -> float:
        """Seconds of one step, until the last of the processes has done it."""
        for line in self.lines:
            line.send(case)
        seconds: list[float] = [line.recv() for line in self.lines]
        return max(seconds)


def _work(line: Connection, rank: int, ranks: int, port: int, batch: int, device: str, threads: int) -> None:
    """One of the processes."""
    torch.set_num_threads(threads)
    here = torch.device("cuda", rank) if device == "cuda" else torch.device("cpu")
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    dist.init_process_group("nccl" if device == "cuda" else "gloo", rank=rank, world_size=ranks)
    module, _ = build(compose("experiment=d2l", "data=sample"))
    module.to(here)
    mine = len(range(batch)[rank::ranks])
    images = torch.randint(256, (mine, 28, 28), dtype=torch.uint8, device=here)
    labels = torch.randint(10, (mine,), device=here)
    net = DistributedDataParallel(module.net, **DDP) if ranks > 1 else module.net
    case: str | None = None
    if isinstance(net, DistributedDataParallel):
        # One hook that is two, as a net takes but one; None is the group of all.
        net.register_comm_hook(None, lambda group, bucket: (HOOKS.get(case or "") or allreduce_hook)(group, bucket))
    optimizer = module.optimizer(module.net.parameters())
    while (case := line.recv()) is not None:
        wait(device)
        start = time.perf_counter()
        optimizer.zero_grad()
        with net.no_sync() if case == _ALONE and isinstance(net, DistributedDataParallel) else nullcontext():
            F.cross_entropy(net(module.pixels(images)), labels).backward()
        optimizer.step()
        wait(device)
        line.send(time.perf_counter() - start)
    dist.destroy_process_group()
