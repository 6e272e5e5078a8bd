"""What a person does with what a run leaves behind: start a server of it, and look at its pages in a real browser."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# No sandbox, as in a container the tests run as root; nothing that would call home.
SWITCHES = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
MARKS = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine"),
]


@contextmanager
def browser() -> Iterator[Page]:
    """A page of chromium, 1200 px wide."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        page = chromium.new_page(viewport={"width": 1200, "height": 1060})
        page.set_default_timeout(60_000)  # for a machine that is busy
        expect.set_options(timeout=60_000)
        yield page
        chromium.close()


@contextmanager
def tensorboard(logs: Path, scratch: Path) -> Iterator[str]:
    """TensorBoard's address while it serves `logs`, at a port that it finds itself."""
    command = (sys.executable, "-m", "tensorboard.main", f"--logdir={logs}", "--host=127.0.0.1", "--port=0")
    with served(*command, scratch=scratch) as address:
        yield address


@contextmanager
def served(*command: str, scratch: Path) -> Iterator[str]:
    """The address that a command prints, while it serves. It and its helpers end with us."""
    output = scratch / "served.log"
    with output.open("w") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=file,
            env={**os.environ, "TMPDIR": str(scratch)},
            start_new_session=True,
        )
    try:
        yield _address(process, output)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _address(process: "subprocess.Popen[bytes]", output: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"http://(127\.0\.0\.1|localhost):\d+/?", output.read_text()):
            return found[0]
        time.sleep(0.1)
    raise RuntimeError(f"it does not answer: {output.read_text()}")
