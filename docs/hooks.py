"""docs/ as a site: mkdocs calls the `on_` functions. `python docs/hooks.py` writes config.md from conf/."""

import itertools
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
# Pages outside docs/, and files that pages link to.
MORE = ("*.md", "LICENSE", "tests/test_own.py")


def on_files(files: Any, config: Any) -> Any:
    """Add what lies outside docs/, where GitHub expects it, and the notebook as a page."""
    from mkdocs.structure.files import File  # here, as config.md is written without it

    for path in (path for pattern in MORE for path in sorted(ROOT.glob(pattern))):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for path in sorted((ROOT / "docs").glob("*.ipynb")):
        files.append(File.generated(config, f"{path.stem}.md", content=notebook(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Of a link, what leads into docs/ or out of it: on the site all pages lie side by side."""
    return re.sub(r"\]\((?:docs/|\.\./)", "](", markdown).replace(".ipynb)", ".md)")


def notebook(path: Path) -> str:
    """A notebook in Markdown: text, code, printed lines and pictures."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            text = "".join(output.get("text", data.get("text/plain", ""))).rstrip()
            picture = f"![{text}](data:image/png;base64,{''.join(data.get('image/png', '')).strip()})"
            parts.append(picture if "image/png" in data else f"```text\n{text}\n```")
    return "\n\n".join(parts)


class Key(NamedTuple):
    """A key in conf/: its value as it is written there, and its comment."""

    value: str
    comment: str


class Choice(NamedTuple):
    """A file in conf/: the comment above it, its list of defaults, and its keys by their full names."""

    what: str
    defaults: list[Any]
    keys: dict[str, Key]

    def settings(self) -> dict[str, Key]:
        """The keys that hold a value or have a comment, without Hydra's own words and `_target_`."""
        own = {name: key for name, key in self.keys.items() if not re.search(r"(^|\.)(_|defaults|help\.)", name)}
        return {name: key for name, key in own.items() if any(key)}


def read(file: Path) -> Choice:
    """The file, its comments too, which YAML's own loader drops."""
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()
    head = [line.lstrip("# ") for line in itertools.takewhile(lambda line: line.startswith("#"), lines)]
    is_global = head[:1] == ["@package _global_"]
    keys: dict[str, Key] = {}

    def walk(node: yaml.MappingNode, prefix: str) -> None:
        for key, value in node.value:
            is_block = isinstance(value, yaml.CollectionNode) and not value.flow_style
            end = key.end_mark if is_block else value.end_mark
            first = last = key.start_mark.line  # with the lines of comment above the key
            while first > len(head) and lines[first - 1].lstrip().startswith("#"):
                first -= 1
            comments = [line.strip().lstrip("# ") for line in lines[first:last]]
            comments += [lines[end.line][end.column :].partition("#")[2].strip()] if end.line < len(lines) else []
            items = value.value if is_block and isinstance(value, yaml.SequenceNode) else [value]
            written = ", ".join(text[item.start_mark.index : item.end_mark.index] for item in items)
            is_node = is_block and isinstance(value, yaml.MappingNode)
            keys[f"{prefix}{key.value}"] = Key("" if is_node else written, " ".join(filter(None, comments)))
            if is_node:
                walk(value, f"{prefix}{key.value}.")

    group = ".".join(file.parent.relative_to(CONF).parts)
    if isinstance(root := yaml.compose(text), yaml.MappingNode):
        walk(root, f"{group}." if group and not is_global else "")
    return Choice(" ".join(head[is_global:]), (yaml.safe_load(text) or {}).get("defaults", []), keys)


def config_page() -> str:
    """docs/config.md."""
    root = read(CONF / "train.yaml")
    chosen = {group: choice for entry in root.defaults[1:] for group, choice in entry.items()}
    notes = dict(re.findall(r"(?m)^  - (\w+): \w+ # (.*)$", (CONF / "train.yaml").read_text(encoding="utf-8")))
    groups: dict[str, dict[str, Choice]] = {group: {} for group in chosen}
    for file in sorted(CONF.glob("*/**/*.yaml"), key=lambda file: (file.stem != chosen.get(file.parent.name), file)):
        groups.setdefault(file.parent.relative_to(CONF).as_posix(), {})[file.stem] = read(file)
    rows = [
        (f"[{group}](#{group})", code(choice or "null"), ", ".join(map(code, groups[group])), notes.get(group, ""))
        for group, choice in chosen.items()
    ]
    parts = [INTRODUCTION, table("group | default | choices | meaning", rows)]
    parts.append(table("key | default | meaning", _key_rows({"": root})))
    for group, choices in groups.items():
        if chosen.get(group, "") is None:  # a recipe, which sets keys of other groups
            sets = [(code(name), each.what, _sets(group, each)) for name, each in choices.items()]
            parts += [f"## {group}", table(f"`{group}=` | what it is | what it sets", sets)]
        else:
            what = [(code(name), each.what) for name, each in choices.items()]
            parts += [f"## {group}", table(f"`{group}=` | what it is", what)]
            parts += [table("key | default | meaning", _key_rows(choices))]
    return "\n\n".join(parts) + "\n"


def _sets(group: str, choice: Choice) -> str:
    """What a recipe sets, as one would type it."""
    others = [each if isinstance(each, dict) else {group: each} for each in choice.defaults]
    typed = [f"{name.removeprefix('override /')}={value}" for each in others for name, value in each.items()]
    typed += [f"{name}={key.value}" for name, key in choice.settings().items() if key.value and name != "hydra.mode"]
    return ", ".join(code(each.removeprefix("hydra.sweeper.params.")) for each in typed)


def _key_rows(choices: dict[str, Choice]) -> Iterable[tuple[str, str, str]]:
    """Each key of a group's files: its default and its comment, and those of other choices where they differ."""
    found = {name: choice.settings() for name, choice in choices.items() if choice.keys}
    for name, own in found.items():  # a choice has the keys of those that it is based on
        bases = [found.get(base, {}) for base in choices[name].defaults if isinstance(base, str)]
        found[name] = {key: entry for each in (*bases, own) for key, entry in each.items()}
    for key in dict.fromkeys(key for each in found.values() for key in each):
        values: dict[str, list[str]] = {}
        comments: dict[str, list[str]] = {"": []}
        for name, each in found.items():
            if key in each:
                values.setdefault(code(each[key].value), []).append(name)
                comments.setdefault(each[key].comment, []).append(name)
        in_all = all(key in each for each in found.values())
        del comments[""]
        first = next(each[key] for each in found.values() if key in each)
        yield code(key), _by_choice(values, in_all), _by_choice(comments, bool(first.comment))


def _by_choice(texts: dict[str, list[str]], first_alone: bool) -> str:
    """Texts, each behind the names of the choices that it belongs to, but for the first. A key that has keys of its own
    has no text as its value.
    """
    named = [(text, f"{', '.join(map(code, names))}: {text}") for text, names in texts.items()]
    return "; ".join(text if first_alone and not n else line for n, (text, line) in enumerate(named) if text)


def table(head: str, rows: Iterable[Iterable[str]]) -> str:
    """In Markdown. head: names of the columns, with | between them."""
    cells = [" | ".join(text.replace("|", r"\|").replace("<", "&lt;") for text in row) for row in rows]
    return "\n".join(f"| {line} |" for line in (head, " | ".join("---" for _ in head.split("|")), *cells))


def code(text: str) -> str:
    """In a cell of a table."""
    return f"`{text}`" if text else ""


INTRODUCTION = """# Config keys

Any value is set as `key=value`, any group as `group=choice`; `python train.py --cfg job` prints all keys of a run. An
argument of `lightning.Trainer` that is not listed is added with a plus: `+trainer.min_epochs=5`. `${...}` stands for
the value of another key. This page is written from the comments in `conf/` by `make docs`: change them there."""

if __name__ == "__main__":
    (ROOT / "docs" / "config.md").write_text(config_page(), encoding="utf-8")
