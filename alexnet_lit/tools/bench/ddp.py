"""Training steps on several devices compared with one."""

import json
import multiprocessing
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel

from alexnet_lit.distributed.devices import cores
from alexnet_lit.distributed.strategy import DDP, HOOKS
from alexnet_lit.tools.bench.step import our_step, random_batch
from alexnet_lit.tools.bench.timing import Case, Table, alternate, ratios, spread


def bench_ddp(*, batch: int, repeats: int, device: str) -> Table:
    """Images/s of steps of the course's recipe at 224 px, the batch split over all devices.

    On a CPU one process with a thread a core is compared with a process a core, of one thread each; on cuda one GPU
    with all of them. Efficiency is the share of the speed that would be ideal: that of one process on a CPU, that of
    one GPU times their number on cuda. "each for itself" exchanges no gradients: the upper limit.
    """
    ranks = torch.cuda.device_count() if device == "cuda" else max(2, cores())
    multiprocessing.get_context("forkserver").set_forkserver_preload([__name__])
    with TemporaryDirectory() as folder:
        arguments = (ranks, Path(folder), batch, repeats, device)
        start_processes(_measure_ddp, arguments, nprocs=ranks, start_method="forkserver")
        seconds = json.loads(Path(folder, "seconds.json").read_text(encoding="utf-8"))
    ideal = ranks if device == "cuda" else 1
    rows = [
        {
            "gradients": name,
            "processes": "1" if name == "one process" else str(ranks),
            "images/s": f"{batch / median(took):.1f}",
            "times one process": spread(ratios(seconds["one process"], took)),
            "efficiency, %": f"{100 * median(ratios(seconds['one process'], took)) / ideal:.0f}",
        }
        for name, took in seconds.items()
    ]
    how = f"batch {batch} over all processes, float32, medians of {repeats} rounds in turn; ratios round by round"
    return {"title": "Several devices", "how": how, "rows": rows}


def _measure_ddp(rank: int, ranks: int, folder: Path, batch: int, repeats: int, device: str) -> None:
    """One of the processes: takes part in all cases; rank 0 writes their seconds."""
    if device == "cuda":
        torch.cuda.set_device(rank)
    torch.set_num_threads(max(1, cores() // ranks))
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, f"file://{folder}/store", rank=rank, world_size=ranks)
    seconds = alternate(_ddp_cases(rank, ranks, batch, device), repeats, device)
    if rank == 0:
        (folder / "seconds.json").write_text(json.dumps(seconds), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


def _ddp_cases(rank: int, ranks: int, batch: int, device: str) -> dict[str, Case]:
    """Steps of this rank, with one net for all cases: 187 MB each, and as much of gradients."""
    images, labels = random_batch(batch, device)
    nets: list[DistributedDataParallel] = []
    hook = allreduce_hook

    def wrap(net: nn.Module) -> nn.Module:
        nets.append(DistributedDataParallel(net, **DDP))
        # A net takes one hook. None is the group of all.
        nets[0].register_comm_hook(None, lambda group, bucket: hook(group, bucket))
        return nets[0]

    step = our_step(images[rank::ranks], labels[rank::ranks], device, wrap=wrap)
    (net,) = nets
    whole_step = our_step(images, labels, device, wrap=lambda _: net.module) if rank == 0 else None

    def one_process() -> None:
        """With all cores, while the other ranks wait."""
        if whole_step is not None:
            threads = torch.get_num_threads()
            torch.set_num_threads(cores())
            whole_step()
            torch.set_num_threads(threads)
        if device == "cpu":  # on GPUs it would keep rank 0 from queueing the next step
            dist.barrier()

    def with_hook(name: str) -> None:
        nonlocal hook
        hook = HOOKS[name] or allreduce_hook
        step()

    def without_exchange() -> None:
        with net.no_sync():
            step()
        if device == "cpu":
            dist.barrier()

    return {
        "one process": one_process,
        "ddp": partial(with_hook, "ddp"),
        "ddp_bf16": partial(with_hook, "ddp_bf16"),
        "each for itself": without_exchange,
    }
