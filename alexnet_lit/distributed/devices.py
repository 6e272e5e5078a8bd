"""The devices of a run: their kind and number, and the machines they are on."""

import os

import torch

from alexnet_lit.distributed.environment import RankEnvironment, rank_environment
from alexnet_lit.errors import UserError, check_choice

CPU_PROCESSES = 4  # may run on fewer cores, so that several ranks can be tried on any machine


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def devices_and_nodes(environment: RankEnvironment, devices: int | str, nodes: int) -> tuple[int | str, int]:
    """Devices of this machine and number of machines: the launcher's, if there is one.

    Raises: UserError for numbers that contradict the launcher, and for several machines without one.
    """
    if nodes < 1:
        raise UserError(f"trainer.num_nodes={nodes}: use a number of machines from 1")
    launcher, local, hosts = environment.launcher, environment.local_ranks, environment.nodes
    if not launcher and nodes > 1:
        raise UserError(
            f"trainer.num_nodes={nodes}: a process can't start others on another machine: type on each of them "
            f"torchrun --nnodes={nodes} --nproc-per-node={devices} --rdzv-backend=c10d --rdzv-endpoint=HOST:29500 "
            "train.py ..., where HOST is one of them, or start with srun"
        )
    if not launcher:
        return devices, nodes
    if str(devices) not in ("1", "-1", "auto", str(local)):
        raise UserError(f"trainer.devices={devices}: {launcher} started {local} on this machine: use auto, or {local}")
    if nodes not in (1, hosts):
        raise UserError(f"trainer.num_nodes={nodes}: {launcher} started processes on {hosts} machines: use {hosts}")
    return local, hosts


def resolve_devices(accelerator: str, devices: int | str) -> tuple[str, int]:
    """The kind of device ("cuda", "mps" or "cpu") and their number, with `auto` resolved.

    Raises: UserError if the machine has no such device, or fewer of them.
    """
    kinds = {"auto": _best(), "gpu": _best(), "cuda": "cuda", "mps": "mps", "cpu": "cpu"}
    if accelerator not in kinds:
        raise UserError(f"trainer.accelerator={accelerator}: use one of {', '.join(kinds)}")
    kind, environment = kinds[accelerator], rank_environment()
    if kind == "cpu":
        most = 0 if accelerator == "gpu" else max(cores(), CPU_PROCESSES)
    else:
        most = torch.cuda.device_count() if kind == "cuda" else int(torch.backends.mps.is_available())
    if kind == "cuda" and most == 1 and environment.launcher == "srun":
        most = environment.local_ranks  # each task may see its own GPU only
    if most == 0:
        raise UserError(f"trainer.accelerator={accelerator}: this machine has none: use trainer.accelerator=cpu")
    if devices in ("auto", -1, "-1"):
        return kind, 1 if kind == "cpu" else most
    if isinstance(devices, bool) or not str(devices).isdigit() or int(devices) < 1:
        raise UserError(f"trainer.devices={devices}: use a number of devices from 1, or auto")
    if int(devices) > most:
        has = f"{cores()} CPU cores, for {most} processes" if kind == "cpu" else f"{most} {kind}"
        raise UserError(f"trainer.devices={devices}: this machine has {has} at most: use trainer.devices={most}")
    if int(devices) > 1 and os.name == "nt":
        raise UserError(f"trainer.devices={devices}: torch for Windows has no store for several: use 1, or WSL")
    return kind, int(devices)


def device_type(name: str) -> str:
    """The device type that `--device` names. Raises: UserError for another name, or a missing device."""
    check_choice("--device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device=cuda: this machine has none: use --device cpu, or auto")
    return _best() if name == "auto" else name


def _best() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def describe_devices(kind: str, count: int, nodes: int = 1) -> str:
    """The devices as text: `2 x NVIDIA H100`, or `cpu, 2 cores`."""
    machines = f" on {nodes} machines" if nodes > 1 else ""
    if kind == "cuda":
        return f"{count} x {torch.cuda.get_device_name()}{machines}" if count > 1 else torch.cuda.get_device_name()
    if kind == "cpu" and count > 1:
        return f"cpu, {count} processes{machines or f' on {cores()} cores'}"
    return f"cpu, {cores()} cores" if kind == "cpu" else kind
