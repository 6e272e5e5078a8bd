"""The page in a real browser."""

from pathlib import Path

from playwright.sync_api import expect

from tests.browser import MARKS, browser
from tests.conftest import Train
from tests.tools.report.made import run

pytestmark = MARKS

HEADINGS = ["Experiments", "Learning curves", "The paper's ideas", "Runs"]


def test_a_person_reads_a_report(tmp_path: Path, verb: Train) -> None:
    for n, (idea, score) in enumerate([("base", 0.80), ("base", 0.82), ("lrn", 0.85), ("lrn", 0.87), ("tanh", 0.7)]):
        folder = tmp_path / "中文" / f"{n}_idea-{idea}_seed-{n % 2}"
        run(folder, f"idea={idea}", f"seed={n % 2}", seed=n % 2, test=score, best=score, curve=(0.5, 0.6, score))
    assert verb("report", str(tmp_path / "中文"), "--out", str(tmp_path)).status == 0
    with browser() as page:
        asked: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: errors.append(message.text))
        page.goto((tmp_path / "report.html").as_uri())
        expect(page).to_have_title("Report: 中文")
        expect(page.locator("h2")).to_have_text(HEADINGS)
        row = page.locator("table").first.locator("tbody tr").nth(1)
        expect(row.locator("td").nth(2)).to_have_text("0.8600 ± 0.0141")
        picture = page.locator("figure svg")
        box = picture.bounding_box()
        assert box is not None
        assert box["width"] > 800
        expect(picture.get_by_text("Validation accuracy")).to_be_visible()

        page.set_viewport_size({"width": 400, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == 400, (
            "on a phone only tables and the picture scroll sideways"
        )
        assert not errors
        assert all(url.startswith("file:") for url in asked), "it asks no other machine for anything"
