"""`bench recipes`: every recipe with several seeds, a process and a record of the result for each."""

import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path

from alexnet_lit.config import PLAN, home, quoted
from alexnet_lit.distributed.devices import device_type
from alexnet_lit.errors import check_choice
from alexnet_lit.run import origin
from alexnet_lit.sweep.jobs import jobs_of
from alexnet_lit.sweep.signals import process_restored
from alexnet_lit.terminal import hangup
from alexnet_lit.tools.bench import COMMAND
from alexnet_lit.tools.bench.timing import machine
from alexnet_lit.tools.records import Record, append, read

RECIPES = {name: [f"experiment={name}"] for name in ("quick", "fast", "default", "best", "d2l", "paper_2012")}
RECIPES["default"] = []
_TESTS = "python -m pytest -m gpu"
_TABLES = [COMMAND.format(*each, 3) for each in (("step", 128), ("step", 512), ("epoch", 128), ("lrn", 128))]
_MOST = {_TESTS: 60.0, **dict.fromkeys(_TABLES, 90.0)}  # seconds, so that the recipes have the rest
_SAVING = 20.0  # seconds that a run has to save and end, and that are kept for it at the end of --minutes


def bench_recipes(names: list[str], *, seeds: int, deadline: float, device: str, out: Path, logs: Path) -> int:
    """Run what `out` has no record of, as far as it comes until `deadline`, and append a record of each; exit status.

    A run is a sweep of one job below `logs`: what was stopped goes on, what failed starts anew, and none ends others.
    deadline: as time.monotonic() has it. Raises: UserError for wrong input.
    """
    status, where = 0, machine(device := device_type(device))
    steps = _steps(names, range(seeds), device, logs)
    left = _left(steps, out, where)
    with process_restored():
        for number in (signal.SIGTERM, *hangup()):  # else what runs, in a session of its own, would outlive this
            signal.signal(number, signal.default_int_handler)
        try:
            for n, command in enumerate(left, start=1):
                if (seconds := deadline - _SAVING - time.monotonic()) <= 0:
                    break
                until = f"; {seconds:,.0f} s left" if math.isfinite(seconds) else ""
                print(f"{n} of {len(left)}  {command}{until}", flush=True)
                if made := _run(command, steps[command], seconds, out):
                    append({"command": command, "date": str(date.today()), "machine": where, **made}, out)
                    status |= made["status"] in ("failed", "diverged")
        except KeyboardInterrupt:
            status = 130
    left = _left(steps, out, where)
    print(f"{len(steps) - len(left)} of {len(steps)} recorded in {out}; `make results` makes the tables")
    if left:
        print("not recorded yet (run the same command again):", *left, sep="\n  ")
    return status


def _steps(names: Sequence[str], seeds: Sequence[int], device: str, logs: Path) -> dict[str, Path | None]:
    """Commands and, of recipes, folders of their sweeps; on a GPU first what a short time is best spent on."""

    def run(name: str, seed: int) -> str:
        check_choice("bench recipes, name", name, list(RECIPES))
        there = ["trainer.accelerator=cpu"] if device == "cpu" else []
        return " ".join(["python train.py", *RECIPES[name], f"seed={seed}", *there])

    folders = {run(name, seed): logs / f"{name}_seed-{seed}" for name in names or RECIPES for seed in seeds}
    tests = [_TESTS] if Path(home(), "tests").is_dir() else []
    later = [run(name, seed) for name in ("best", "d2l") for seed in seeds[1:]]
    short = [*tests, run("best", 0), *_TABLES, run("default", 0), run("d2l", 0), *later, run("paper_2012", 0)]
    return {each: folders.get(each) for each in ([] if names or device != "cuda" else short) + [*folders]}


def _left(steps: Iterable[str], out: Path, where: str) -> list[str]:
    """What has no outcome on this machine yet."""
    ended = {(each["command"], each["machine"]) for each in read(out) if each["status"] in ("completed", "diverged")}
    return [command for command in steps if (command, where) not in ended]


def _run(command: str, folder: Path | None, seconds: float, out: Path) -> Record | None:
    """Run the command and return its result; None for a table, which records itself."""
    arguments = command.split()[1:]
    if folder is not None:
        new = [*arguments[1:], f"hydra.sweep.dir={quoted(folder)}"]
        typed = [f"resume_sweep={folder}"] if (folder / PLAN).is_file() else new
        arguments = ["-m", "alexnet_lit", "train", "-m", *typed]
    elif command == _TESTS:
        files = Path(home(), "tests").rglob("test_*.py")
        arguments += [str(file) for file in files if "mark.gpu" in file.read_text(encoding="utf-8")]
    else:
        arguments += ["--device=cuda", f"--out={out}"]
    code = _exit_status(arguments, min(seconds, _MOST.get(command, math.inf)))
    if code == 0 and command in _TABLES:
        return None
    outcome = {0: "completed", None: "interrupted"}.get(code, "failed")
    made = {"status": outcome, "reason": "out of time" if code is None else f"exit status {code}"}
    results = [job.result for job in jobs_of(folder)] if folder and folder.is_dir() else []
    return {**origin(), **(results[0] if any(results) else made)}


def _exit_status(arguments: Sequence[str], seconds: float) -> int | None:
    """Exit status of a Python command; None on timeout. Then, and on Ctrl-C, it is terminated, with time to save."""
    process = subprocess.Popen([sys.executable, *arguments], start_new_session=True)  # Ctrl-C comes here alone
    try:
        return process.wait(None if math.isinf(seconds) else seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        process.terminate()  # harmless once it has ended
        with suppress(subprocess.TimeoutExpired):
            process.wait(_SAVING)
        process.kill()
