"""What processes cost and give: a command until its first step is done; several devices beside one."""

import ctypes
import gc
import json
import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.device_mesh import init_device_mesh
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from alexnet_lit.distributed.devices import cores
from alexnet_lit.distributed.strategy import DDP, HOOKS
from alexnet_lit.distributed.towers.parts import Group, Part
from alexnet_lit.tools.bench.step import our_step, random_batch
from alexnet_lit.tools.bench.timing import Case, Report, Seconds, alternate, conditions, ratios, rounds, spread

_PACKAGE = Path(__file__).resolve().parents[3]
_ONE_STEP = (
    *("experiment=d2l", "data=sample", "trainer.max_epochs=1", "trainer.limit_train_batches=1", "logger=none"),
    *("trainer.limit_val_batches=0", "trainer.limit_test_batches=0", "trainer.enable_checkpointing=false"),
)
# In a small process between: on Linux the peak memory of a process counts that of the one which started it.
_CLOCK = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
_PAPER = ("model=alexnet_2012", "optimizer.momentum=0.9", "optimizer.weight_decay=5e-4")
_CLEAR_PEAK = Path("/proc/self/clear_refs")  # Linux

Used = dict[str, dict[str, float]]  # by case, bytes sent in a step and bytes of memory
MakeCases = Callable[[int, int, int, str], tuple[dict[str, Case], Used]]  # rank, ranks, batch, device


def bench_start(*, batch: int, repeats: int, device: str) -> Report:
    """Seconds and peak memory of whole processes: a run of one step at 224 px, --help, --cfg job, imports alone."""
    with tempfile.TemporaryDirectory() as scratch:
        train = ["-c", "from alexnet_lit.app import main; main()", f"paths.logs={scratch}"]
        accelerator = f"trainer.accelerator={device}"
        commands = {
            f"one step of {batch} images": (*train, *_ONE_STEP, f"data.batch_size={batch}", accelerator),
            "--help": (*train, "--help"),
            "--cfg job": (*train, "--cfg", "job"),
            "imports of torch, Lightning, Hydra": ("-c", "import torch, lightning, torchmetrics, hydra"),
        }
        memory: dict[str, list[float]] = {name: [] for name in commands}
        cases = {name: partial(_process, command, memory[name]) for name, command in commands.items()}
        seconds = rounds(cases, repeats)
    rows = [
        {"command": name, "s": spread(took), "peak memory, MB": f"{median(memory[name]):.0f}"}
        for name, took in seconds.items()
    ]
    return Report("Start", conditions(device, f"medians of {repeats} processes each, with their range"), rows)


def _process(arguments: Sequence[str], memory: list[float]) -> float:
    """Seconds of a process of Python; its peak memory (MB) is added to `memory`."""
    paths = os.pathsep.join([str(_PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-S", "-c", _CLOCK, sys.executable, *arguments],
        capture_output=True,
        encoding="utf-8",
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    seconds, peak = map(float, done.stdout.split()[-2:])
    memory.append(peak / (1e6 if sys.platform == "darwin" else 1e3))  # bytes there, KiB elsewhere
    return seconds


def bench_ddp(*, batch: int, repeats: int, device: str) -> Report:
    """Images/s of steps of the course's recipe at 224 px, the batch split over all devices.

    On a CPU one process with a thread a core is compared with a process a core, of one thread each; on cuda one GPU
    with all of them. Efficiency is the share of the speed that would be ideal: that of one process on a CPU, that of
    one GPU times their number on cuda. "each for itself" exchanges no gradients: what is left to win.
    """
    ranks = torch.cuda.device_count() if device == "cuda" else max(2, cores())
    seconds, _ = _on_ranks(ranks, _ddp_cases, batch, repeats, device)
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
    return Report("Several devices", conditions(device, how), rows)


def _ddp_cases(rank: int, ranks: int, batch: int, device: str) -> tuple[dict[str, Case], Used]:
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

    def with_hook(name: str) -> None:
        nonlocal hook
        hook = HOOKS[name] or allreduce_hook
        step()

    def without_exchange() -> None:
        with net.no_sync():
            step()
        dist.barrier()

    alone = our_step(images, labels, device, wrap=lambda _: net.module) if rank == 0 else None
    return {
        "one process": partial(_alone, alone),
        "ddp": partial(with_hook, "ddp"),
        "ddp_bf16": partial(with_hook, "ddp_bf16"),
        "each for itself": without_exchange,
    }, {}


def bench_parallel(*, batch: int, repeats: int, device: str) -> Report:
    """A training step on `batch` images in all, float32: on one device, and three ways on two (processes of a CPU)."""
    seconds, used = _on_ranks(2, _parallel_cases, batch, repeats, device)
    rows = [
        {
            "step": name,
            "images/s": f"{batch / median(took):.1f}",
            "times one device": spread(ratios(seconds["one device"], took)),
            "MB sent a step and device": f"{used[name]['sent'] / 1e6:.1f}",
            "peak memory a device, MB": f"{used[name]['memory'] / 1e6:.0f}",
        }
        for name, took in seconds.items()
    ]
    how = f"model=alexnet_2012, batch {batch} in all, medians of {repeats} rounds in turn; ratios with their range"
    what = "sent by each device as rings of two would; memory beyond what the process had before the net was there"
    return Report("Two devices", conditions(device, how, what), rows)


def _parallel_cases(rank: int, ranks: int, batch: int, device: str) -> tuple[dict[str, Case], Used]:
    """Steps of this rank, a net each; the bytes that it sends in a step, and the most memory that step and net take."""
    images, labels = random_batch(batch, device)
    group = Group(ranks, rank, init_device_mesh(device, (ranks,)))
    paper = partial(our_step, device=device, overrides=_PAPER)
    makers: dict[str, Callable[[], Case]] = {
        "one device": lambda: partial(_alone, paper(images, labels) if rank == 0 else None),
        "DDP": lambda: paper(
            images[rank::ranks], labels[rank::ranks], wrap=lambda net: DistributedDataParallel(net, **DDP)
        ),
        "towers": lambda: paper(images, labels, wrap=lambda net: Part(net, group, "towers")),
        "hybrid": lambda: paper(images, labels, wrap=lambda net: Part(net, group, "hybrid")),
    }
    cases: dict[str, Case] = {}
    used: Used = {}
    for name, make in makers.items():
        gc.collect()
        before = _memory(device)
        step = cases[name] = make()
        for _ in range(2):  # gradients and momentum are made; DistributedDataParallel finds its order
            step()
        _reset_peak(device)
        with Traffic(ranks) as traffic:
            step()
        used[name] = {"sent": traffic.bytes, "memory": _memory(device, peak=True) - before}
    return cases, used


def _on_ranks(ranks: int, make_cases: MakeCases, batch: int, repeats: int, device: str) -> tuple[Seconds, Used]:
    """Time cases in as many processes, each of which makes its own; what rank 0 measured and used."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([__name__])
    with tempfile.TemporaryDirectory() as folder:
        arguments = (ranks, folder, make_cases, batch, repeats, device)
        start_processes(_rank, arguments, nprocs=ranks, start_method="forkserver")
        seconds, used = json.loads(Path(folder, "measured.json").read_text(encoding="utf-8"))
    return seconds, used


def _rank(rank: int, ranks: int, folder: str, make_cases: MakeCases, batch: int, repeats: int, device: str) -> None:
    """One of the processes."""
    if device == "cuda":
        torch.cuda.set_device(rank)
    torch.set_num_threads(max(1, cores() // ranks))
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, f"file://{folder}/store", rank=rank, world_size=ranks)
    cases, used = make_cases(rank, ranks, batch, device)
    seconds = alternate(cases, repeats, device)
    if rank == 0:
        Path(folder, "measured.json").write_text(json.dumps([seconds, used]), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


def _alone(step: Case | None) -> None:
    """Take a step with all cores on the rank that has one, while the others wait."""
    if step is not None:
        threads = torch.get_num_threads()
        torch.set_num_threads(cores())
        step()
        torch.set_num_threads(threads)
    dist.barrier()


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


def _memory(device: str, *, peak: bool = False) -> float:
    """Bytes in use, or the most since `_reset_peak`; nan where the system does not tell."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
    if not _CLEAR_PEAK.exists():
        return math.nan
    if not peak:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system
    key, lines = "VmHWM" if peak else "VmRSS", Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(key))


def _reset_peak(device: str) -> None:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif _CLEAR_PEAK.exists():
        _CLEAR_PEAK.write_text("5", encoding="utf-8")
