"""The report in Markdown, with its picture beside it."""

import re
from collections.abc import Iterable

from alexnet_lit.report.content import Content
from alexnet_lit.report.page import MARK
from alexnet_lit.report.section import Row, Table
from alexnet_lit.report.words import Words


def markdown(content: Content, picture: str | None, text: Words) -> str:
    """The page. picture: the PNG's name, None if there is nothing on it."""
    parts = [f"<!-- {MARK} -->", f"# {_plain(content.title)}", *map(_plain, content.lead)]
    if content.asked:
        parts.append(f"{text('asked')} {_code(content.asked)}")
    for section in content.sections:
        parts.append(f"## {_plain(section.title)}")
        if section.curves and picture:
            parts.append(f"![{text('curves')}]({picture})")
        if section.table:
            parts.append(_table(section.table))
        parts += map(_plain, section.notes)
    return "\n\n".join([*parts, *map(_plain, content.foot)]) + "\n"


def _table(table: Table) -> str:
    last = len(table.header) - 1
    aligned = ["---" if n < table.words or (n == last and table.remarks) else "---:" for n in range(len(table.header))]
    return "\n".join([_line(map(_plain, table.header)), _line(aligned), *(_line(_cells(row)) for row in table.rows)])


def _cells(row: Row) -> Iterable[str]:
    return (f"**{_plain(cell)}**" if n in row.strong else _plain(cell) for n, cell in enumerate(row.cells))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Without what would be a mark: a name is a name, whatever is in it."""
    text = " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
    return re.sub(r"([\\`*\[\]|~#]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _code(text: str) -> str:
    """In as many backticks as none of the text's own ends."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{text}{fence}"
