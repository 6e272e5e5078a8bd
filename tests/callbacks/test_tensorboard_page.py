"""A run as a person sees it: TensorBoard in a real browser."""

import io
from pathlib import Path

import pytest
from matplotlib.image import imread
from playwright.sync_api import Locator, expect

from tests.browser import MARKS, browser, tensorboard
from tests.conftest import SMALL, Train
from tests.sweep.tiny import TINY, jobs_of, result_of, sweep_of

RECIPE = (*SMALL, "optimizer=adamw", "optimizer.lr=1e-4", "scheduler=constant", "trainer.log_every_n_steps=1")
ACCURACIES, LOSSES = ["test/acc", "train/acc", "val/acc"], ["test/loss", "train/loss", "val/loss"]
# Group by group, of which the first two are unfolded.
PICTURES = ["net/activations", "net/kernels", "test/classes", "test/confusion", "test/mistakes"]

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
        scalars = ["grad_norm", "images_per_second", "lr", "seconds", "test", "train", "val"]
        expect(headings.filter(has_not_text="net")).to_have_text(scalars)

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

        # Training and validation on one chart; below it stands what it found.
        page.goto(f"{address}#custom_scalars")
        page.reload()
        for title, tags in {"accuracy": ACCURACIES, "loss": LOSSES}.items():
            chart = page.locator("tf-custom-scalar-multi-line-chart-card", has=page.get_by_text(title, exact=True))
            chart.locator(".toggle-matches-button").click()
            expect(chart.locator(".match-list-entry")).to_have_count(3)
            found = chart.locator(".match-list-entry").all_text_contents()  # a symbol, the tag, and the run in brackets
            assert sorted(text.split()[1] for text in found) == tags
        page.screenshot(path=tmp_path / "custom_scalars.png")

        # Pictures, each of which is one.
        page.goto(f"{address}#images")
        page.reload()
        for tag in PICTURES:
            image = page.locator("tf-image-loader", has_text=f"tag: {tag}").locator("img")
            expect(image).to_have_js_property("complete", True)
            assert image.evaluate("image => image.naturalWidth") > 200, tag
        page.screenshot(path=tmp_path / "images.png")

        page.goto(f"{address}#text")
        page.reload()
        expect(page.locator("tf-text-loader", has_text="run/about")).to_contain_text("python train.py")
        expect(page.locator("tf-text-loader", has_text="run/config")).to_contain_text("batch_size: 32")
        page.screenshot(path=tmp_path / "text.png")


def test_a_sweep_is_a_table(train: Train, tmp_path: Path) -> None:
    outcome = train(*TINY, "-m", "model.lrn=true,false", "optimizer=sgd,adamw")
    sweep = sweep_of(outcome)
    with tensorboard(sweep, tmp_path) as address, browser() as page:
        page.goto(f"{address}#hparams")
        cells = page.locator("tf-hparams-table-view vaadin-grid-cell-content")
        expect(cells.filter(has_text="optimizer-adamw")).to_have_count(2)  # the names of two rows
        texts = cells.all_inner_texts()
        head = texts[: texts.index("")]
        starts = [place for place, text in enumerate(texts) if text in {job.name for job in jobs_of(sweep)}]
        rows = {texts[place]: texts[place : place + len(head) + 1] for place in starts}
        page.screenshot(path=tmp_path / "hparams.png")
    assert head[:4] == ["Trial ID", "Show Metrics", "model.lrn", "optimizer"]
    assert len(rows) == 4
    for job in jobs_of(sweep):
        _, _, lrn, optimizer, *cells_of_job = rows[job.name]
        assert lrn == ("true" if "lrn-true" in job.name else "false")
        assert optimizer == ("AdamW" if "adamw" in job.name else "SGD")
        numbers = [float(cell) for cell in cells_of_job[-5:] if cell]
        expected = [result_of(job)[name] for name in ("test/acc", "val/acc_best", "test/loss", "seconds")]
        assert numbers == pytest.approx(expected, rel=1e-3)
