"""A run as a person sees it: TensorBoard in a real browser."""

import io
from pathlib import Path

import pytest
from matplotlib.image import imread
from playwright.sync_api import Locator, expect

from tests.browser import MARKS, browser, tensorboard
from tests.conftest import SMALL, Train

RECIPE = (*SMALL, "optimizer=adamw", "optimizer.lr=1e-4", "scheduler=constant", "trainer.log_every_n_steps=1")

pytestmark = MARKS


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
