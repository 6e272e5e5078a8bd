"""`report`: what a person types, and what they get."""

import json
import re
from itertools import product
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import CHROMIUM, browser
from tests.conftest import Train
from tests.tools.report.made import run, table

NASTY = "<script>alert(1)</script>&$a$"
NONE, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Three seeds with local response normalisation and three without; a killed one, a failed one."""
    sweep = tmp_path / "sweep"
    for n, (idea, test) in enumerate((idea, test) for idea, test in (("base", 0.80), ("lrn", 0.85)) for _ in range(3)):
        seed, folder = n % 3, sweep / f"{n}_idea-{idea}_seed-{n % 3}"
        score = test + 0.01 * seed
        curve = (0.5, 0.7, score)
        run(folder, "data=sample", f"idea={idea}", f"seed={seed}", seed=seed, test=score, best=score, curve=curve)
    run(sweep / "6_idea-lrn_seed-3", "data=sample", "idea=lrn", "seed=3", status=None, curve=(0.5, 0.6))
    run(sweep / "7_idea-tanh_seed-0", "data=sample", "idea=tanh", status="failed", reason=f"ValueError: {NASTY}")
    return sweep


def test_a_sweep(sweep: Path, verb: Train) -> None:
    assert verb("report", str(sweep)).status == 0
    page = sweep / "report.html"
    text = page.read_text()
    for title in ("Validation accuracy", "Training loss", "The paper's ideas", "idea=lrn", "training images"):
        assert re.search(rf">\s*{title}\s*</text>", text), title
    assert not re.search(r"""(src|href)=["'](?!#)|url\((?!#)|@import|<script""", text), "the page stands alone"
    assert "Runs: 8 (6 completed, 1 unfinished, 1 failed). Experiments: 3." in text

    base, lrn, tanh = table(page, "Experiments")
    assert (lrn["n"], lrn["test accuracy"], lrn["difference, points"]) == ("3 of 4", "0.8600 ± 0.0100", "+5.00")
    # Standard error 0.01 * sqrt(2/3), 4 degrees of freedom: t(0.975) = 2.776; t = 6.124, p = 0.0036.
    assert (lrn["95% interval"], lrn["p"], lrn["p, corrected"]) == ("+2.73 … +7.27", "0.004", "0.004 *")
    assert (base["95% interval"], tanh["n"]) == (NONE, "0 of 1")
    (idea,) = table(page, "The paper's ideas")
    assert (idea["idea"], idea["section"]) == ("local response normalisation", "3.3")
    assert (idea[f"with {MINUS} without, points"], idea["n with, without"]) == ("+5.00", "3, 3")
    assert "1.4 points" in idea["in the paper"]
    rows = {row["run"]: row for row in table(page, "Runs")}
    killed, failed = rows["6_idea-lrn_seed-3"], rows["7_idea-tanh_seed-0"]
    assert (killed["steps"], killed["best validation accuracy"]) == ("20", "0.6000")
    assert (failed["status"], failed["remark"]) == ("failed", f"ValueError: {NASTY}")


def test_a_named_baseline(sweep: Path, verb: Train) -> None:
    assert verb("report", str(sweep), "--baseline", "lrn", "--out", str(sweep / "a" / "b")).status == 0
    base, lrn, _ = table(sweep / "a" / "b" / "report.html", "Experiments")
    assert (base["difference, points"], lrn["difference, points"]) == (f"{MINUS}5.00", "baseline")
    done = verb("report", str(sweep), "--baseline", "idea=x", "--out", str(sweep / "new"))
    assert "there are idea=base, idea=lrn, idea=tanh" in done.refusal
    assert not (sweep / "new").exists()

    page = sweep / "a" / "b" / "report.html"  # an old report is replaced, and what a person wrote is not
    assert verb("report", str(sweep), "--out", str(page.parent)).status == 0
    page.write_text("my own")
    reason = "is there already and is no report of ours: name another folder with --out"
    refusal = verb("report", str(sweep), "--out", str(page.parent)).refusal
    assert (refusal, page.read_text()) == (f"{page}: {reason}", "my own")


def test_names_are_names_whatever_is_in_them(tmp_path: Path, verb: Train) -> None:
    names = [NASTY, "图像", "x" * 70]
    for n, name in enumerate(names):
        run(tmp_path / "x" / f"{n}", f"note={name}", test=0.5, curve=(0.25, 0.5))
    verb("report", str(tmp_path / "x")).ok()  # a missing character is a warning, and so an error here
    page = (tmp_path / "x" / "report.html").read_text()
    rows = table(tmp_path / "x" / "report.html", "Experiments")
    assert [row["experiment"] for row in rows] == [f"note={name}" for name in names]
    svg = page[page.index("<svg") : page.index("</svg>")]
    assert "note=图像" in svg, "the reader's own font draws it in the picture"
    assert "note=&lt;script&gt;alert(1)&lt;/script&gt;&amp;$a$" in svg


def test_one_run_alone_and_killed_ones(lenet: Path, tmp_path: Path, verb: Train) -> None:
    assert verb("report", str(lenet), "--out", str(tmp_path / "out")).status == 0
    page = tmp_path / "out" / "report.html"
    (row,) = table(page, "Experiments")
    assert "difference, points" not in row
    test = json.loads((lenet / "result.json").read_text())["test/acc"]
    assert float(row["test accuracy"]) == pytest.approx(test, abs=5e-5)
    assert "nothing to draw" in page.read_text(), "it was run with logger=none"

    run(tmp_path / "killed" / "one", status=None, curve=(0.5, 0.6))
    (tmp_path / "killed" / "two" / ".hydra").mkdir(parents=True)
    assert verb("report", str(tmp_path / "killed")).status == 0
    page = tmp_path / "killed" / "report.html"
    one, two = table(page, "Runs")
    assert (one["status"], one["steps"]) == ("unfinished", "20")
    assert two["remark"] == "no result.json: at work still, or killed"
    assert "Drawn against steps" in page.read_text()


def test_many_experiments_are_all_told_and_the_best_are_drawn(tmp_path: Path, verb: Train) -> None:
    for n in range(30):
        run(tmp_path / f"{n}", f"lr={n}", test=n / 30 if n < 29 else None, curve=(0.25, n / 30))
    verb("report", str(tmp_path))
    rows, page = table(tmp_path / "report.html", "Experiments"), (tmp_path / "report.html").read_text()
    assert [row["n"] for row in rows] == ["1"] * 29 + ["0 of 1"]
    assert re.findall(r">\s*(lr=\d+)\s*</text>", page)[23:] == ["lr=24", "lr=0", *(f"lr={n}" for n in range(20, 29))]
    assert "Drawn are the first 24 of 28 differences" in page


def test_each_pair_of_a_grid_has_its_name(tmp_path: Path, verb: Train) -> None:
    for idea, other in product(("lrn", "base"), ("optimizer=sgd", "sweep=ideas")):  # which sets an optimizer too
        run(tmp_path / f"{idea}_{other}", f"idea={idea}", other, test=0.5)
    assert verb("report", str(tmp_path)).status == 0
    names = [f"local response normalisation ({other})" for other in ("optimizer=sgd", "sweep=ideas")]
    page = tmp_path / "report.html"
    assert [row["idea"] for row in table(page, "The paper's ideas")] == names
    assert re.findall(r">\s*(local [^<]*?)\s*</text>", page.read_text()) == names


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
def test_a_person_reads_it_in_a_browser(sweep: Path, verb: Train) -> None:
    assert verb("report", str(sweep)).status == 0
    with browser() as page:
        asked: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: errors.append(message.text))
        page.goto((sweep / "report.html").as_uri())
        expect(page.locator("h2")).to_have_text(["Experiments", "Learning curves", "The paper's ideas", "Runs"])
        picture = page.locator("figure svg")
        box = picture.bounding_box()
        assert box is not None
        assert box["width"] > 800
        expect(picture.get_by_text("Validation accuracy")).to_be_visible()

        page.set_viewport_size({"width": 400, "height": 900})
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width == 400, "on a phone only tables and the picture scroll sideways"
        assert not errors
        assert all(url.startswith("file:") for url in asked), "it asks no other machine for anything"
