"""Records of what was measured, a line of JSON each, and the tables made of them: `make results`.

A record has command, commit, date, machine, versions, status, and the scores of a run as in result.json, or a `table`.
`note`: remarks. A record of several runs has a list `seeds`, means as scores, and the standard deviation test/acc_sd.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from alexnet_lit.config import home

Record = dict[str, Any]
FOLDER = Path(home(), "docs", "results")
_PLACE = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def read(file: Path) -> list[Record]:
    """All records of a file, in order; none where there is no file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def append(record: Record, file: Path) -> None:
    """Write a record behind those that the file has."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(record, ensure_ascii=False) + "\n")


def render(page: str, folder: Path) -> str:
    """The page, with what stands between `<!-- results: FILE -->` and `<!-- end -->` made anew from folder/FILE."""
    return _PLACE.sub(lambda found: "\n".join([found[1], *tables(read(folder / found[2])), found[3]]), page)


def tables(records: Iterable[Record]) -> list[str]:
    """In Markdown, newest first: all runs, a row for those that differ in their seeds alone; then the other tables."""
    groups: dict[tuple[Any, ...], dict[int | None, Record]] = {}
    for record in sorted(records, key=lambda each: str(each["date"])):  # the newest of a seed counts
        command = re.sub(r" seed=\S+", "", record["command"] or "")
        key = (command, record.get("note"), record["machine"], str(record.get("seeds")))
        groups.setdefault(key, {})[record.get("seed")] = record
    newest = [(key[0], [*group.values()]) for key, group in groups.items()]
    newest.sort(key=lambda item: max(str(each["date"]) for each in item[1]), reverse=True)
    rows = [_row(command, group) for command, group in newest if "table" not in group[-1]]
    parts = [markdown([{name: row[name] for name in row if any(each[name] for each in rows)} for row in rows])]
    parts += [titled(group[-1]) for _, group in newest if "table" in group[-1]]
    return [f"{part}\n" for part in parts if part]


def titled(record: Record) -> str:
    """The table of a record below its title and conditions."""
    table, versions = record["table"], [f"{name} {value}" for name, value in record["versions"].items() if value]
    commit = record["commit"] and f"commit {record['commit'][:7]}"
    known = [record["command"] and f"`{record['command']}`", record["machine"], *versions, commit, record["date"]]
    where = ", ".join(filter(None, known))
    return f"**{table['title']}** ({table['how']}). {where}:\n\n{markdown(table['rows'])}"


def _row(command: str, group: Sequence[Record]) -> dict[str, str]:
    """A row for runs that differ in their seeds: means over those that completed, or over all if none has."""
    done, rest = ([each for each in group if (each["status"] == "completed") == right] for right in (True, False))
    shown, last = done or group, group[-1]
    n, of = (sum(len(record.get("seeds", [0])) for record in some) for some in (done, group))
    return {
        "command": f"`{command.removeprefix('python train.py ')}`",
        "note": last.get("note") or "; ".join(str(each.get("reason", each["status"])) for each in rest),
        "n": f"{n}" if n == of else f"{n} of {of}",
        "test accuracy": _mean(shown, "test/acc", 4),
        "best validation accuracy": _mean(shown, "val/acc_best", 4),
        "images": _mean(shown, "images", 1),
        "seconds": _mean(shown, "seconds", 1),
        "machine": last["machine"],
        "commit": ", ".join(dict.fromkeys(each["commit"][:7] for each in shown if each.get("commit"))),
        "date": max(each["date"] for each in group),
    }


def _mean(group: Sequence[Record], key: str, digits: int) -> str:
    """Like 0.8957 ± 0.0021: with the standard deviation (of n - 1) unless all are alike. Empty where none is known."""
    values = [record[key] for record in group if record.get(key) is not None]
    spread = stdev(values) if len(values) > 1 else group[0].get(f"{key}_sd")
    if spread:
        return f"{mean(values):,.{digits}f} ± {spread:,.{digits}f}"
    return f"{round(mean(values), digits):,}" if values else ""  # no more digits than were recorded


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """A table whose columns are the keys of its rows; empty without rows."""
    lines = [[*rows[0]], ["---"] * len(rows[0]), *([*row.values()] for row in rows)] if rows else []
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    for page in (FOLDER.parents[1] / "RESULTS.md", *FOLDER.glob("*.md")):
        page.write_text(render(page.read_text(encoding="utf-8"), FOLDER), encoding="utf-8")
