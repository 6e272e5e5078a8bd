"""The demo on the command line: how it starts, and how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import Train

EXTRA = pytest.mark.skipif(find_spec("gradio") is None, reason="needs alexnet-lit[demo]")


@EXTRA
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_quietly(number: signal.Signals, lenet: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "alexnet_lit", "demo", str(lenet)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert re.fullmatch(rf"http://127\.0\.0\.1:\d+ shows {lenet}/checkpoints/best\.ckpt; Ctrl-C ends it\n", line)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (128 + number, "", "")
    assert not list(tmp_path.glob("alexnet_lit_demo_*"))
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@EXTRA
def test_a_port_that_is_taken_is_named(lenet: Path, verb: Train) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        outcome = verb("demo", str(lenet), f"--port={port}")
    assert (outcome.status, outcome.out) == (2, "")
    assert (
        outcome.err
        == f"error: --port={port}: something else listens there: name another, or leave it out for a free one\n"
    )


def test_without_gradio_the_extra_is_named(lenet: Path, verb: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alexnet_lit.tools.demo.find_spec", lambda name: None)
    outcome = verb("demo", str(lenet))
    assert (outcome.status, outcome.err) == (2, 'error: demo: needs gradio: pip install "alexnet-lit[demo]"\n')
