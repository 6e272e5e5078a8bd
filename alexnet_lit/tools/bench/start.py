"""What a command costs before and after training: from a person's Enter to its end, and the memory that it takes."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from alexnet_lit.tools.bench.timing import Report, conditions, spread

_PACKAGE = Path(__file__).resolve().parents[3]
_STEP = (
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
_IMPORTS = "import torch, lightning, torchmetrics, hydra"


def bench_start(*, batch: int, repeats: int, device: str) -> Report:
    """Seconds and peak memory of whole processes: a run of one step at 224 px, --help, --cfg job, imports alone."""
    run = (f"data.batch_size={batch}", f"trainer.accelerator={device}")
    with TemporaryDirectory() as scratch:
        train = [sys.executable, "-c", "from alexnet_lit.app import main; main()", f"paths.logs={scratch}"]
        cases = {
            f"one step of {batch} images": [*train, *_STEP, *run],
            "--help": [*train, "--help"],
            "--cfg job": [*train, "--cfg", "job"],
            "imports of torch, Lightning, Hydra": [sys.executable, "-c", _IMPORTS],
        }
        outcomes: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
        for n in range(repeats + 1):
            for name, command in cases.items():
                outcome = _process(command)
                if n:
                    outcomes[name].append(outcome)
    rows = [
        {
            "command": name,
            "s": spread([seconds for seconds, _ in outcomes[name]]),
            "peak memory, MB": f"{median(memory for _, memory in outcomes[name]):.0f}",
        }
        for name in cases
    ]
    return Report("Start", conditions(device, f"medians of {repeats} processes each, with their range"), rows)


def _process(command: Sequence[str]) -> tuple[float, float]:
    """Seconds and peak memory (MB) of a process."""
    paths = os.pathsep.join([str(_PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])])
    told = subprocess.run(
        [sys.executable, "-S", "-c", _CLOCK, *command],
        capture_output=True,
        encoding="utf-8",
        check=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    seconds, memory = map(float, told.stdout.split()[-2:])
    return seconds, memory / (1e6 if sys.platform == "darwin" else 1e3)  # bytes there, KiB elsewhere
