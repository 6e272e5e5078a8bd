"""`make board`, as a user types it; the other commands of the Makefile start what other tests look at."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")]


def any_left(group: int) -> bool:
    """Is there a process of this group?"""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_board_finds_a_port_prints_its_address_and_ends_quietly(tmp_path: Path) -> None:
    output = tmp_path / "board.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            ["make", f"--makefile={REPOSITORY / 'Makefile'}", "board", "SETUP=true", f"PY={sys.executable}", "ARGS="],
            cwd=tmp_path,  # where there are no logs/
            stdout=file,
            stderr=file,
            env={key: value for key, value in os.environ.items() if not key.startswith("MAKE")},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"http://localhost:(\d+)/ \(.*\n", output.read_text())):
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.1)
        with urlopen(f"http://localhost:{found[1]}/", timeout=30) as answer:
            assert b"TensorBoard" in answer.read()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
        process.wait(30)
        lines = output.read_text().splitlines()
        while any_left(process.pid):
            assert time.monotonic() < deadline + 60, "what make has started outlives it"
            time.sleep(0.1)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    assert lines[0] == "board: nothing is in logs/ yet; runs show up as they are made (`make quick`)"
    assert lines[-1].startswith("TensorBoard ")
    assert len(lines) == 3, "one line more says that it is for this machine alone"
