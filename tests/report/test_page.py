"""The page in a real browser."""

from pathlib import Path

from playwright.sync_api import expect

from tests.browser import MARKS, browser
from tests.conftest import Train
from tests.report.made import run

pytestmark = MARKS

HEADINGS = {
    "en": ("Experiments", "Learning curves", "To a validation accuracy of 0.8", "The paper's ideas", "Runs"),
    "zh": ("各组实验", "学习曲线", "达到验证精度 0.8 所需的图像数与时间", "论文中的各项改进", "各次运行"),
}


def test_a_person_reads_a_report_in_both_languages(tmp_path: Path, verb: Train) -> None:
    for n, (idea, score) in enumerate([("base", 0.80), ("base", 0.82), ("lrn", 0.85), ("lrn", 0.87), ("tanh", 0.7)]):
        folder = tmp_path / "sweep" / f"{n}_idea-{idea}_seed-{n % 2}"
        run(folder, f"idea={idea}", f"seed={n % 2}", seed=n % 2, test=score, best=score, curve=(0.5, 0.6, score))
    with browser() as page:
        asked: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: errors.append(message.text))
        for language, headings in HEADINGS.items():
            out = tmp_path / language
            assert verb("report", str(tmp_path / "sweep"), "--lang", language, "--out", str(out)).status == 0
            page.goto((out / "report.html").as_uri())
            expect(page.locator("h2")).to_have_text(list(headings))

            lrn = page.locator("table").first.locator("tbody tr").nth(1).locator("td")
            expect(lrn.nth(0)).to_have_text("idea=lrn")
            expect(lrn.nth(2)).to_have_text("0.8600 ± 0.0141")
            expect(lrn.nth(4)).to_have_text("+5.00")
            small = page.locator("table").first.locator("tbody tr").nth(2).locator("td").nth(5)
            expect(small).to_have_text({"en": "n too small", "zh": "n 太小"}[language])

            panels = page.locator(".panels svg")
            expect(panels).to_have_count(3)
            for panel in panels.all():
                box = panel.bounding_box()
                assert box is not None
                assert box["width"] > 400
                assert box["height"] > 200
            title = {"en": "Validation accuracy", "zh": "验证精度"}[language]
            expect(panels.first.get_by_text(title)).to_be_visible()

        for scheme, light in (("light", True), ("dark", False)):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type] # one of playwright's words
            colour = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
            assert (colour > 128) is light

        page.set_viewport_size({"width": 400, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == 400, "on a phone only tables scroll sideways"
        assert not errors
        assert all(url.startswith("file:") for url in asked), "it asks no other machine for anything"
        picture = (tmp_path / "zh" / "report.png").as_uri()
        page.set_content("<p></p>")
        page.goto(picture)
        assert page.evaluate("document.images[0].naturalWidth") > 1000
