"""The runs of a sweep in TensorBoard, in a real browser."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import MARKS, browser, tensorboard
from tests.conftest import Train
from tests.sweep.tiny import TINY, jobs_of, result_of, sweep_of

RECIPE = (*TINY, "data.train_size=64", "scheduler=constant", "trainer.max_epochs=2")
ACCURACIES, LOSSES = ["test/acc", "train/acc", "val/acc"], ["test/loss", "train/loss", "val/loss"]
# Group by group, of which the first two are unfolded.
PICTURES = ["net/activations", "net/kernels", "test/classes", "test/confusion", "test/mistakes"]

pytestmark = MARKS


def test_tensorboard_shows_the_runs_of_a_sweep(train: Train, tmp_path: Path) -> None:
    sweep = sweep_of(train(*RECIPE, "-m", "optimizer=sgd,adamw"))
    results = {job.name: result_of(job) for job in jobs_of(sweep)}

    with tensorboard(sweep, tmp_path) as address, browser() as page:
        page.goto(address)
        expect(page.locator("runs-data-table tb-data-table-content-row")).to_have_text(sorted(results))
        headings = page.locator("metrics-card-groups .group-title")  # what stands before the slash
        scalars = ["grad_norm", "images_per_second", "lr", "seconds", "test", "train", "val"]
        expect(headings.filter(has_not_text="net")).to_have_text(scalars)

        # Training and validation on one chart; below it stands what it found.
        page.goto(f"{address}#custom_scalars")
        page.reload()
        for title, tags in {"accuracy": ACCURACIES, "loss": LOSSES}.items():
            chart = page.locator("tf-custom-scalar-multi-line-chart-card", has=page.get_by_text(title, exact=True))
            chart.locator(".toggle-matches-button").click()
            expect(chart.locator(".match-list-entry")).to_have_count(3 * len(results))
            found = chart.locator(".match-list-entry").all_text_contents()  # a symbol, the tag, and the run in brackets
            assert sorted({text.split()[1] for text in found}) == tags

        # Pictures, each of which is one.
        page.goto(f"{address}#images")
        page.reload()
        for tag in PICTURES:
            image = page.locator("tf-image-loader", has_text=f"tag: {tag}").locator("img").first
            expect(image).to_have_js_property("complete", True)
            assert image.evaluate("image => image.naturalWidth") > 200, tag

        # A row for each run.
        page.goto(f"{address}#hparams")
        page.reload()
        cells = page.locator("tf-hparams-table-view vaadin-grid-cell-content")
        expect(cells.filter(has_text="optimizer-adamw")).to_have_count(1)
        texts = cells.all_inner_texts()
        head = texts[: texts.index("")]
        assert head[:3] == ["Trial ID", "Show Metrics", "optimizer"]
        for name, result in results.items():
            start = texts.index(name)
            shown = texts[start : start + len(head) + 1]
            assert shown[2] == ("AdamW" if "adamw" in name else "SGD")
            expected = [result[key] for key in ("test/acc", "val/acc_best", "test/loss", "seconds")]
            assert [float(cell) for cell in shown[-5:] if cell] == pytest.approx(expected, rel=1e-3)
