"""Records of runs and tables, and the tables of RESULTS.md that are made of them."""

import re
from pathlib import Path
from typing import Any

from alexnet_lit.tools.records import FOLDER, append, render, tables
from tests.conftest import REPOSITORY


def run(command: str, acc: float | None = None, **more: Any) -> dict[str, Any]:
    """A record, of a run that has completed unless `more` says something else."""
    made = {"command": f"python train.py {command}", "commit": "0123456789", "machine": "a card", "seed": 0}
    return {**made, "date": "2026-11-27", "status": "completed", "test/acc": acc, "images": 5120, **more}


def test_a_row_has_mean_and_deviation_over_seeds_and_the_newest_comes_first() -> None:
    records = [
        run("experiment=best seed=0", 0.80, date="2026-11-26"),
        run("experiment=quick seed=0 trainer.accelerator=cpu", 0.5, date="2026-11-25"),
        run("experiment=best seed=1", 0.81, seed=1, commit="fedcba9876"),
        run("experiment=best seed=2", 0.82, seed=2),  # the newest of a seed counts
        run("experiment=best seed=2", 0.99, seed=2, date="2026-11-26"),
        run("experiment=best seed=3", seed=3, status="failed", reason="no memory", images=None),
        run("experiment=d2l", 0.88, date="2026-11-24", seeds=[0, 1, 2], **{"test/acc_sd": 0.004}),
        run("experiment=d2l seed=0", 0.87, date="2026-11-23", machine="another"),
    ]
    (table,) = tables(records)
    head, rule, *rows = table.splitlines()
    assert head == "| command | note | n | test accuracy | images | machine | commit | date |"
    assert rule == "| --- | --- | --- | --- | --- | --- | --- | --- |"
    best = "no memory | 3 of 4 | 0.8100 ± 0.0100 | 5,120 | a card | 0123456, fedcba9 | 2026-11-27"
    assert rows == [
        f"| `experiment=best` | {best} |",
        "| `experiment=quick trainer.accelerator=cpu` |  | 1 | 0.5 | 5,120 | a card | 0123456 | 2026-11-25 |",
        "| `experiment=d2l` |  | 3 | 0.8800 ± 0.0040 | 5,120 | a card | 0123456 | 2026-11-24 |",
        "| `experiment=d2l` |  | 1 | 0.87 | 5,120 | another | 0123456 | 2026-11-23 |",
    ]


def test_a_page_has_what_is_recorded_and_nothing_else(tmp_path: Path) -> None:
    page = "Prose.\n<!-- results: {} -->\n{}<!-- end -->\nMore.\n"
    append(run("seed=0", 0.5, machine="größer"), tmp_path / "one.jsonl")
    table = {"title": "Step", "how": "batch 2", "rows": [{"step": "ours", "images/s": "7"}]}
    append(run("", table=table, versions={"torch": "2.14.1", "python": None}), tmp_path / "one.jsonl")

    made = render(page.format("one.jsonl", "| an old | table |\n"), tmp_path)
    assert "an old" not in made
    assert "größer" in made
    lines = "a card, torch 2.14.1, commit 0123456, 2026-11-27:\n\n| step | images/s |\n| --- | --- |\n| ours | 7 |"
    assert lines in made
    assert made.startswith("Prose.\n<!-- results: one.jsonl -->\n")
    assert render(made, tmp_path) == made, "once more changes nothing"
    assert "|" not in render(page.format("none.jsonl", "| a figure | without a record |\n"), tmp_path)


def test_results_md_is_what_the_records_say() -> None:
    page = (REPOSITORY / "RESULTS.md").read_text(encoding="utf-8")
    pages = "".join([page, *(file.read_text(encoding="utf-8") for file in FOLDER.glob("*.md"))])
    assert pages == render(pages, FOLDER), "`make results` brings them together"
    assert "|" not in re.sub(r"(?s)<!-- results: .*?<!-- end -->", "", page), "a table is made of records"
    assert set(re.findall(r"<!-- results: (\S+) -->", pages)) == {file.name for file in FOLDER.glob("*.jsonl")}
    assert len(page.splitlines()) <= 200
