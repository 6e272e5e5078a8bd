"""Time things in turn, and write down what came out together with the conditions."""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import median

import torch

_CALLS = {"cpu": 1, "cuda": 20}  # between two looks at the clock: a GPU's next kernels are launched while it works


@dataclass(frozen=True)
class Report:
    """A table of measurements and the conditions that they were made under."""

    title: str
    conditions: str
    rows: list[dict[str, str]]

    def markdown(self) -> str:
        """The table as RESULTS.md holds it."""
        columns = list(self.rows[0])
        lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
        lines += [" | ".join(row[column] for column in columns) for row in self.rows]
        return "\n".join([f"## {self.title}", "", self.conditions, "", *(f"| {line} |" for line in lines)])


def alternate(cases: Mapping[str, Callable[[], object]], *, repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds of a call of each case: one round to warm up, then `repeats` rounds of all cases in turn.

    A round is one call of each on a CPU. On cuda it is several of each, which are waited for together.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for n in range(repeats + 1):
        for name, case in cases.items():
            wait(device)
            start = time.perf_counter()
            for _ in range(_CALLS[device]):
                case()
            wait(device)
            if n:
                seconds[name].append((time.perf_counter() - start) / _CALLS[device])
    return seconds


def ratios(slow: list[float], fast: list[float]) -> list[float]:
    """How many times as long `slow` took, round by round: what disturbs the machine disturbs both."""
    return [a / b for a, b in zip(slow, fast, strict=True)]


def spread(values: list[float], digits: int = 2) -> str:
    """Median and range: 6.12 (5.98-6.40). Of a single value, that alone."""
    middle = f"{median(values):.{digits}f}"
    return f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})" if len(values) > 1 else middle


def conditions(device: str, *more: str) -> str:
    """The machine, versions and day in a sentence."""
    capability = torch.backends.cpu.get_cpu_capability()  # the vector units that torch uses
    where = torch.cuda.get_device_name() if device == "cuda" else f"{_processor()} ({capability})"
    threads = f"{torch.get_num_threads()} threads"
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return ", ".join([where, threads, versions, str(date.today()), *more]) + "."


def _processor() -> str:
    """The processor's name: Linux tells it in a file, other systems through Python."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
