"""What Windows lacks is left out: the package trains where POSIX's signals and functions are not there."""

import json
import os
from pathlib import Path

import pytest

from alexnet_lit import compose
from alexnet_lit.config import quoted
from alexnet_lit.data import image_folder
from tests.conftest import REPOSITORY, python
from tests.sweep.tiny import TINY

# The libraries first: on this system they need what is taken away. Lightning's handlers as there.
WITHOUT_POSIX = """
import multiprocessing, os, runpy, signal, subprocess, sys
import filelock, hydra, lightning, matplotlib.figure, tensorboard, torch, torchmetrics, torchvision
import torch.utils.tensorboard, torch.distributed
import lightning.pytorch.loggers
from lightning.pytorch.trainer.connectors import signal_connector

signal_connector._IS_WINDOWS = True
theirs = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGABRT", "SIGFPE", "SIGILL", "SIGSEGV")}
signal_connector._SignalConnector._valid_signals = staticmethod(theirs.copy)

for module, names in {
    signal: "SIGUSR1 SIGUSR2 SIGHUP SIGQUIT SIGKILL SIGALRM SIGCHLD pthread_sigmask setitimer sigwait siginterrupt",
    os: "getuid geteuid getgid getpgid setpgid setsid killpg fork sched_getaffinity statvfs mkfifo WIFSIGNALED",
}.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "readline"):
    sys.modules[name] = None
assert not [name for name in sys.modules if name.startswith("alexnet_lit")]
program, *lines = sys.argv[1:]
sys.path.insert(0, os.path.dirname(program))
for line in lines:
    sys.argv = [program, *line.split()]
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as ended:
        assert not ended.code
"""


@pytest.mark.slow
def test_a_run_a_sweep_and_a_continuation_without_posix(tmp_path: Path) -> None:
    jobs = [tmp_path / "sweep" / f"{seed}_seed-{seed}" for seed in range(2)]
    lines = [
        f"-m {' '.join(TINY)} ~callbacks.board seed=0,1 hydra.sweep.dir={jobs[0].parent}",
        f"ckpt={jobs[0]} trainer.max_epochs=2",
    ]
    # As a console there, and files that are opened without an encoding know ASCII alone.
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0", "LC_ALL": "C"}
    program = ("-c", WITHOUT_POSIX, str(REPOSITORY / "train.py"))
    done = python(*program, *lines, cwd=tmp_path, env=environment, encoding="cp1252")
    assert (done.returncode, done.stderr) == (0, "")
    results = [json.loads((job / "result.json").read_text(encoding="utf-8")) for job in jobs]
    assert [(result["status"], result["epochs"]) for result in results] == [("completed", 2), ("completed", 1)]


@pytest.mark.parametrize("path", [r"C:\Users\O'Neil\new logs\table", r"\\server\share\$x", "C:\\temp\\"])
def test_paths_with_backslashes_stay_as_they_are(path: str) -> None:
    assert compose(f"paths.logs={quoted(path)}", f"ckpt={path}").paths.logs == path
    assert compose(f"ckpt={path}").ckpt == path
    assert compose(r"data.dir=C:\Users\me\new folder").data.dir == r"C:\Users\me\new folder"


def test_pictures_have_the_same_names_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bag" / "old").mkdir(parents=True)
    (tmp_path / "bag" / "old" / "1.png").touch()
    relative = os.path.relpath
    monkeypatch.setattr(os.path, "relpath", lambda *paths: relative(*paths).replace("/", "\\"))
    monkeypatch.setattr(os, "sep", "\\")
    assert image_folder.scan(tmp_path)[1] == ["bag/old/1.png"]
