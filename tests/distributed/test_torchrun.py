"""torchrun itself, on one machine and as if on two: `train.py` and `-m alexnet_lit train` are its programs alike."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.distributed.test_rank_group import LONG, SHORT
from tests.processes import free_port

pytestmark = pytest.mark.slow


def torchrun(cwd: Path, *arguments: str) -> "subprocess.Popen[str]":
    cwd.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
    )


def test_two_machines_are_one_run(tmp_path: Path) -> None:
    meeting = (
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint=127.0.0.1:{free_port()}",
        "--rdzv-id=1",
        "--local-addr=127.0.0.1",
    )
    typed = [str(REPOSITORY / "train.py"), *SHORT, "trainer.num_nodes=2", f"paths.logs={tmp_path / 'logs'}"]

    agents = [torchrun(tmp_path / "else", "--nnodes=2", "--nproc-per-node=1", *meeting, *typed) for _ in range(2)]
    texts = [agent.communicate(timeout=200) for agent in agents]

    assert [agent.returncode for agent in agents] == [0, 0], texts
    assert [err for _, err in texts] == ["", ""]
    spoken, silent = sorted((out for out, _ in texts), key=len, reverse=True)
    assert silent == ""
    assert spoken.count("features.conv1") == spoken.count("test accuracy") == 1
    assert "cpu, 2 processes on 2 machines" in spoken
    (folder,) = (tmp_path / "logs" / "runs").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert (result["status"], result["world_size"]) == ("completed", 2)
    assert (result["images"], result["steps"]) == (6 * 32, 6), "a batch is split over all ranks"
    files = sorted(path.name for path in folder.iterdir())
    assert len([name for name in files if name.startswith("events.out.")]) == 1
    assert [name for name in files if name.endswith(".log")] == ["train.log"]
    assert not list((tmp_path / "else").iterdir())


def test_stopped_by_sigterm_it_saves(tmp_path: Path) -> None:
    typed = ["-m", "alexnet_lit", "train", *LONG, f"paths.logs={tmp_path / 'logs'}"]
    agent = torchrun(tmp_path / "else", "--standalone", "--nproc-per-node=2", *typed)
    assert agent.stdout is not None
    next(line for line in agent.stdout if "epoch 1/500  " in line)

    began = time.monotonic()
    agent.send_signal(signal.SIGTERM)
    out, _ = agent.communicate(timeout=60)

    assert time.monotonic() - began < 20
    assert agent.returncode != 0
    assert "SIGTERM: finishing this step, then saving" in out
    (folder,) = (tmp_path / "logs" / "runs").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert (result["status"], result["world_size"]) == ("interrupted", 2)
    assert (folder / "checkpoints" / "last.ckpt").is_file()
