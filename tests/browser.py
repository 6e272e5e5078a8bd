"""What a person does with what a run leaves behind: start a server of it, and look at its pages in a real browser."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from tests.conftest import REPOSITORY

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# No sandbox, as in a container the tests run as root; nothing that would call home.
SWITCHES = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
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
def served(*command: str, scratch: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """A command, and the address that it prints into served.log. It and its helpers end with us."""
    output = scratch / "served.log"
    with output.open("w") as file:
        env = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        env["TMPDIR"] = str(scratch)
        if "ALEXNET_LIT" not in env:  # else an installed wheel is tried
            env["PYTHONPATH"] = str(REPOSITORY)
        process = subprocess.Popen(command, stdout=file, stderr=file, env=env, cwd=scratch, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"http://(127\.0\.0\.1|localhost):\d+/?", output.read_text())):
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.1)
        yield process, found[0]
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
