"""A net that two devices hold together, beside one that each has a copy of: bytes that cross, memory, images/s."""

import ctypes
import gc
import json
import math
import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from alexnet_lit.distributed.devices import cores
from alexnet_lit.distributed.strategy import DDP
from alexnet_lit.distributed.towers.parts import Group, Part
from alexnet_lit.tools.bench.step import our_step
from alexnet_lit.tools.bench.timing import Report, alternate, conditions, ratios, spread

Step = Callable[[], object]
# The paper's net and optimizer.
_PAPER = ("model=alexnet_2012", "optimizer.momentum=0.9", "optimizer.weight_decay=5e-4")
_RESET = Path("/proc/self/clear_refs")
_LINUX = _RESET.exists()
_ONE, _CASES = "one device", ("one device", "DDP", "towers", "hybrid")


def bench_parallel(*, batch: int, repeats: int, device: str) -> Report:
    """A training step on `batch` images in all, float32: on one device, and three ways on two (processes of a CPU)."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with tempfile.TemporaryDirectory() as folder:
        processes = [context.Process(target=_rank, args=(n, folder, batch, repeats, device)) for n in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        rows = json.loads((Path(folder) / "rows.json").read_text(encoding="utf-8"))
    how = f"model=alexnet_2012, batch {batch} in all, medians of {repeats} rounds in turn; ratios with their range"
    what = "sent by each device as rings of two would; memory beyond what the process had before the net was there"
    return Report("Two devices", conditions(device, how, what), rows)


def _rank(rank: int, folder: str, batch: int, repeats: int, device: str) -> None:
    """One of the two processes. The first writes the rows."""
    if device == "cuda":
        torch.cuda.set_device(rank)
    torch.set_num_threads(max(1, cores() // 2))
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("nccl" if device == "cuda" else "gloo", meeting, rank=rank, world_size=2)
    mesh = init_device_mesh(device, (2,))
    cases = {name: _Case(name, batch, device, mesh) for name in _CASES}
    seconds = alternate({name: case.step for name, case in cases.items()}, repeats=repeats, device=device)
    rows = [
        {
            "step": name,
            "images/s": f"{batch / median(seconds[name]):.1f}",
            "times one device": spread(ratios(seconds[_ONE], seconds[name])),
            "MB sent a step and device": f"{cases[name].sent / 1e6:.1f}",
            "peak memory a device, MB": f"{cases[name].memory / 1e6:.0f}",
        }
        for name in _CASES
    ]
    if rank == 0:
        (Path(folder) / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


def _step(name: str, batch: int, device: str, mesh: DeviceMesh) -> Step:
    """What this process does in a training step."""
    rank = mesh.get_local_rank()
    images, labels = torch.randint(256, (batch, 28, 28), dtype=torch.uint8), torch.randint(10, (batch,))
    if name == _ONE and rank > 0:
        return dist.barrier
    if name == "DDP":
        images, labels = images[rank::2], labels[rank::2]

    def wrap(net: nn.Module) -> nn.Module:
        if name == "DDP":
            own = [rank] if device == "cuda" else None
            return DistributedDataParallel(net, device_ids=own, **DDP)
        return net if name == _ONE else Part(net, Group(2, rank, mesh), "towers" if name == "towers" else "hybrid")

    step = our_step(images.to(device), labels.to(device), device, *_PAPER, wrap=wrap)
    return step if name != _ONE else lambda: _alone(step)


def _alone(step: Step) -> None:
    """Take a step with all cores while the other process waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(cores())
    step()
    torch.set_num_threads(threads)
    dist.barrier()


class _Case:
    """A training step, the bytes that this process sends in it, and the most memory that it and its net take."""

    def __init__(self, name: str, batch: int, device: str, mesh: DeviceMesh) -> None:
        gc.collect()
        before = _memory(device)
        self.step = _step(name, batch, device, mesh)
        for _ in range(2):  # gradients and momentum are made; DistributedDataParallel finds its order
            self.step()
        _forget_peak(device)
        with Traffic(mesh.size()) as traffic:
            self.step()
        self.sent, self.memory = traffic.bytes, _peak(device) - before


class Traffic(TorchDispatchMode):
    """Counts the bytes that a process sends in collectives of `size` processes that stand in a ring."""

    def __init__(self, size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch leaves it untyped
        self.bytes = 0.0
        self.times = {  # as many times its input
            "all_gather_into_tensor": size - 1,
            "reduce_scatter_tensor": (size - 1) / size,
            "all_reduce": 2 * (size - 1) / size,
            "allreduce_": 2 * (size - 1) / size,  # as DistributedDataParallel calls it
        }

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        namespace, _, name = func.name().partition("::")
        if namespace in ("c10d", "_c10d_functional") and name in self.times:
            inputs = args[0] if isinstance(args[0], list) else [args[0]]
            self.bytes += self.times[name] * sum(each.nbytes for each in inputs)
        return func(*args, **(kwargs or {}))


def _memory(device: str) -> float:
    """Bytes in use; nan where the system does not tell."""
    if device == "cuda":
        return torch.cuda.memory_allocated()
    if _LINUX:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system
    return _status("VmRSS")


def _forget_peak(device: str) -> None:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif _LINUX:
        _RESET.write_text("5", encoding="utf-8")


def _peak(device: str) -> float:
    """Most bytes in use since `_forget_peak`."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(key: str) -> float:
    lines = _RESET.with_name("status").read_text(encoding="utf-8").splitlines() if _LINUX else []
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith(key)), math.nan)
