"""A run as a person sees it: TensorBoard in a real browser."""

import io
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
from matplotlib.image import imread
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.conftest import SMALL, Train

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# No sandbox, as in a container the tests run as root; nothing that would call home.
SWITCHES = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
RECIPE = (*SMALL, "optimizer=adamw", "optimizer.lr=1e-4", "scheduler=constant", "trainer.log_every_n_steps=1")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine"),
]


@contextmanager
def tensorboard(logs: Path, scratch: Path) -> Iterator[str]:
    """TensorBoard's address while it serves `logs`, at a port that it finds itself. It and its helpers end with us."""
    output = scratch / "tensorboard.log"
    arguments = [sys.executable, "-m", "tensorboard.main", f"--logdir={logs}", "--host=127.0.0.1", "--port=0"]
    with output.open("w") as file:
        process = subprocess.Popen(
            arguments, stdout=file, stderr=file, env={**os.environ, "TMPDIR": str(scratch)}, start_new_session=True
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
        if found := re.search(r"http://127\.0\.0\.1:\d+/", output.read_text()):
            return found[0]
        time.sleep(0.1)
    raise RuntimeError(f"TensorBoard does not answer: {output.read_text()}")


@contextmanager
def browser() -> Iterator[Page]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        page = chromium.new_page(viewport={"width": 1200, "height": 1060})
        page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        yield page
        chromium.close()


def shows_a_curve(card: Locator) -> bool:
    """Is there a line, darker than the grid, over half of the chart's width or more? It may take a moment."""
    for _ in range(100):
        picture = imread(io.BytesIO(card.locator("canvas").screenshot()))[..., :3]  # (height, width, 3), 0..1
        if (picture.mean(axis=2) < 0.45).any(axis=0).mean() > 0.5:
            return True
        card.page.wait_for_timeout(100)
    return False


def test_a_person_sees_the_curves_of_a_run(command: Train, tmp_path: Path) -> None:
    outcome = command(*RECIPE, "trainer.max_epochs=2", "trainer.limit_test_batches=1", "name=board")
    assert outcome.status == 0, outcome.err
    run, result = outcome.folder.name, outcome.result

    with tensorboard(outcome.logs / "runs", tmp_path) as address, browser() as page:
        page.goto(address)

        runs = page.locator("runs-data-table tb-data-table-content-row")
        expect(runs).to_have_count(1)
        expect(runs).to_have_text(run)
        assert run.endswith("_board")

        # Grouped by what stands before the slash; TensorBoard unfolds the first two groups.
        headings = page.locator("metrics-card-groups .group-title")
        expect(headings).to_have_text(["images_per_second", "lr", "seconds", "test", "train", "val"])

        # Losses and accuracies at once: what the filter finds is shown unfolded.
        page.get_by_role("checkbox", name="Ignore outliers").uncheck()  # whole curves
        page.get_by_role("button", name="Close side pane").click()
        search = page.get_by_role("combobox", name="Filter tags")
        search.fill("^(train|val)/(loss|acc)$")
        search.press("Escape")  # its list of proposals lies over the cards
        cards = page.locator("metrics-filtered-view scalar-card")
        expect(cards).to_have_count(4)
        for tag in ("train/loss", "val/loss", "train/acc", "val/acc"):
            card = cards.filter(has=page.get_by_title(tag, exact=True))
            expect(card.locator("tb-data-table-content-row")).to_have_count(1)
            name, _, value, step, _ = card.locator("tb-data-table-content-cell").all_inner_texts()[1:]
            assert (name.strip(), int(step)) == (run, result["steps"])
            if tag.startswith("val"):
                assert float(value) == pytest.approx(result[tag], rel=1e-3)
            assert shows_a_curve(card), tag

        page.screenshot(path=tmp_path / "board.png")
