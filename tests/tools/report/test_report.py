"""`report`: what a person types, and what they get."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from alexnet_lit.callbacks import figures
from alexnet_lit.tools.report.tables import MINUS
from tests.conftest import Train
from tests.tools.report.made import run, table

NASTY = "<script>alert(1)</script>|`*x*`$a$"


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
    with Image.open(sweep / "report.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(10**6) or ()) > 50
    html = (sweep / "report.html").read_text()
    for title in ("Validation accuracy", "Training loss", "The paper's ideas", "idea=lrn"):
        assert re.search(rf">\s*{title}\s*</text>", html), title
    assert not re.search(r"""(src|href)=["'](?!#)|url\((?!#)|@import|<script""", html), "the page stands alone"

    page = sweep / "report.md"
    assert table(page, "To a validation accuracy of 0.8"), "half of the runs come to 0.82"
    assert "Runs: 8 (6 completed, 1 killed or still running, 1 failed). Experiments: 3." in page.read_text()
    base, lrn, tanh = table(page, "Experiments")
    assert (lrn["n"], lrn["test accuracy"], lrn["difference, points"]) == ("3 of 4", "0.8600 ± 0.0100", "+5.00")
    # Standard error 0.01 * sqrt(2/3), 4 degrees of freedom: t(0.975) = 2.776; t = 6.124, p = 0.0036.
    assert (lrn["95% interval"], lrn["p"], lrn["p, corrected"]) == ("+2.73 … +7.27", "0.004", "0.004")
    assert (base["95% interval"], tanh["n"]) == ("\N{EN DASH}", "0 of 1")
    (idea,) = table(page, "The paper's ideas")
    assert (idea["idea"], idea["section"]) == ("local response normalisation", "3.3")
    assert (idea["with \N{MINUS SIGN} without, points"], idea["n with, without"]) == ("+5.00", "3, 3")
    assert "1.4 points" in idea["in the paper"]
    rows = {row["run"]: row for row in table(page, "Runs")}
    killed, failed = rows["6_idea-lrn_seed-3"], rows["7_idea-tanh_seed-0"]
    assert (killed["steps"], killed["best validation accuracy"]) == ("20", "0.6000")
    assert (failed["status"], failed["remark"].startswith("ValueError: ")) == ("failed", True)


def test_a_named_baseline_and_accuracy(sweep: Path, verb: Train) -> None:
    assert verb("report", str(sweep), "--accuracy", "0.82", "--baseline", "lrn").status == 0
    base, lrn = table(sweep / "report.md", "To a validation accuracy of 0.82")
    assert (base["got there"], base["training images"], base["seconds"]) == ("1 of 3", "960", "30.0")
    assert (lrn["got there"], lrn["training images"]) == ("3 of 3", "960 ± 0")
    assert table(sweep / "report.md", "Experiments")[0]["difference, points"] == f"{MINUS}5.00"
    done = verb("report", str(sweep), "--baseline", "idea=x", "--out", str(sweep / "new"))
    assert (done.status, len(done.err.splitlines())) == (2, 1)
    assert "there are idea=base, idea=lrn, idea=tanh" in done.err
    assert not (sweep / "new").exists()


def test_names_are_names_whatever_is_in_them(tmp_path: Path, verb: Train) -> None:
    for seed in range(2):
        run(tmp_path / "x" / f"{seed}", f"note={NASTY}", seed=seed, test=0.5, curve=(0.25, 0.5))
        run(tmp_path / "x" / f"2{seed}", "note=_x_", seed=seed, test=0.5, curve=(0.25, 0.5))
    assert verb("report", str(tmp_path / "x")).status == 0
    page = (tmp_path / "x" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    text = (tmp_path / "x" / "report.md").read_text()
    assert "<script" not in text
    assert "note=&lt;script>alert(1)&lt;/script>\\|\\`\\*x\\*\\`$a$" in text


def test_chinese_names_are_drawn_or_told_to_be_missing(
    sweep: Path, verb: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (0, 1):
        run(sweep / f"8_图{seed}", "data=sample", "idea=图像", seed=seed, test=0.5, curve=(0.25, 0.5))
    done = verb("report", str(sweep))  # a missing character is a warning, and so an error here
    assert (done.status, done.err) == (0, "")
    assert ("install fonts-noto-cjk" in (sweep / "report.md").read_text()) is (figures.chinese() is None)
    monkeypatch.setattr(figures, "chinese", lambda: None)
    figures._characters.cache_clear()
    done = verb("report", str(sweep))
    figures._characters.cache_clear()
    assert (done.status, done.err) == (0, "")
    assert "install fonts-noto-cjk" in (sweep / "report.md").read_text()
    assert "idea=图像" in (sweep / "report.md").read_text()
    page = (sweep / "report.html").read_text()
    svg = page[page.index("<svg") : page.index("</svg>")]
    assert page.count("idea=图像") > svg.count("idea=图像") > 0, "the reader's own font draws it in the picture"


def test_one_run_alone_and_killed_ones(lenet: Path, tmp_path: Path, verb: Train) -> None:
    out = tmp_path / "new" / "out"
    out.mkdir(parents=True)
    (out / "report.png").write_text("alexnet_lit report")  # as an earlier one's
    assert verb("report", str(lenet), "--out", str(out)).status == 0
    (row,) = table(out / "report.md", "Experiments")
    assert "difference, points" not in row
    assert float(row["test accuracy"]) == json.loads((lenet / "result.json").read_text())["test/acc"]
    assert "nothing to draw" in (out / "report.html").read_text(), "it was run with logger=none"
    assert not (out / "report.png").exists()

    run(tmp_path / "killed" / "one", status=None, curve=(0.5, 0.6))
    (tmp_path / "killed" / "two" / ".hydra").mkdir(parents=True)
    assert verb("report", str(tmp_path / "killed")).status == 0
    one, two = table(tmp_path / "killed" / "report.md", "Runs")
    assert (one["status"], one["steps"]) == ("killed or still running", "20")
    assert two["remark"] == "no result.json"
    assert "Drawn against steps" in (tmp_path / "killed" / "report.md").read_text()


def test_many_experiments_are_all_told_and_ten_are_drawn(tmp_path: Path, verb: Train) -> None:
    for n in range(14):
        run(tmp_path / "a" / f"{n}", f"lr={n}", test=n / 20, curve=(0.25, n / 20))
    verb("report", str(tmp_path / "a"))
    page = (tmp_path / "a" / "report.html").read_text()
    assert len(table(tmp_path / "a" / "report.md", "Experiments")) == 14
    assert re.findall(r">\s*(lr=\d+)\s*</text>", page)[-10:] == ["lr=0", *(f"lr={n}" for n in range(5, 14))], (
        "the baseline and the best"
    )


def test_an_old_report_is_replaced_and_what_a_person_wrote_is_not(sweep: Path, verb: Train) -> None:
    for _ in range(2):
        assert verb("report", str(sweep)).status == 0
    (sweep / "report.md").write_text("my own")
    done = verb("report", str(sweep))
    assert (done.status, (sweep / "report.md").read_text()) == (2, "my own")
    reason = "is there already and is no report of ours: name another folder with --out"
    assert done.err == f"error: {sweep}/report.md: {reason}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: there is no such folder: name a sweep's or a run's folder, as logs/sweeps/<sweep>"),
        (["."], ".: no run in it: name a sweep's or a run's folder, as logs/sweeps/<sweep>"),
        ([".", "--accuracy", "80"], "--accuracy=80: should be above 0 and at most 1, as 0.8 for 80%"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str, verb: Train) -> None:
    done = verb("report", *arguments)
    assert (done.status, done.out, done.err) == (2, "", f"error: {message}\n")


def test_each_pair_of_a_grid_has_its_name(tmp_path: Path, verb: Train) -> None:
    for idea in ("lrn", "base"):
        for optimizer in ("sgd", "adamw"):
            run(tmp_path / f"{idea}_{optimizer}", f"idea={idea}", f"optimizer={optimizer}", test=0.5)
    assert verb("report", str(tmp_path)).status == 0
    names = [f"local response normalisation (optimizer={optimizer})" for optimizer in ("adamw", "sgd")]
    assert [row["idea"] for row in table(tmp_path / "report.md", "The paper's ideas")] == names
    assert re.findall(r">\s*(local [^<]*?)\s*</text>", (tmp_path / "report.html").read_text()) == names
