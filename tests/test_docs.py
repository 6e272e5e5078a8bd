"""README and docs/: links lead somewhere, every page can be reached, and what is typed there composes."""

import re
import runpy
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

import alexnet_lit
from alexnet_lit.__main__ import app
from tests.conftest import REPOSITORY, python

PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
NO_CONFIG = ("-", "ckpt=", "resume_sweep=", "paths.", "hydra/", "hydra.")  # of the command line, or read from a run


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """On GitHub; where they lead within a page, the site's test says."""
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


def test_site_builds_without_warnings(tmp_path: Path) -> None:
    """Links and anchors of every page, the README's too; all pages in the navigation."""
    pytest.importorskip("mkdocs", reason="needs alexnet-lit[docs]")
    done = python("-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path), cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").is_file()
    assert "data:image/png;base64" in (tmp_path / "alexnet.html").read_text(encoding="utf-8")


def test_page_of_keys_is_what_the_comments_say() -> None:
    written = runpy.run_path(str(REPOSITORY / "docs" / "hooks.py"))["config_page"]()
    assert (REPOSITORY / "docs" / "config.md").read_text(encoding="utf-8") == written, "`make docs` writes it anew"


def test_readme_leads_to_every_page() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES if page.parent.name == "docs" and f"docs/{page.name}" not in text] == []


def test_messages_are_what_the_program_says() -> None:
    """Those in the left column of the page, apart from `...`, which stands for names and values."""
    files = [REPOSITORY / "train.py", *REPOSITORY.glob("alexnet_lit/**/*.py")]
    source = re.sub(r'"\s*\n\s*f?"', "", "".join(file.read_text(encoding="utf-8") for file in files))  # joined texts
    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"`([^`]+)`", " ".join(re.findall(r"(?m)^\| (`.*?) \| ", page)))
    parts = [part.strip(" :") for text in quoted if "CUDA" not in text for part in text.split("...")]
    assert len(parts) > 30
    assert [part for part in parts if part not in source] == []


def test_the_version_is_one() -> None:
    texts = {name: (REPOSITORY / name).read_text(encoding="utf-8") for name in ("CHANGELOG.md", "CITATION.cff")}
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert alexnet_lit.__version__ == version
    assert re.findall(r"(?m)^version: (.*)", texts["CITATION.cff"]) == [version]
    assert re.findall(r"(?m)^## (\d\S+)", texts["CHANGELOG.md"])[0] == version


def commands(pattern: str, *, inline: bool = False) -> dict[str, str]:
    """What is typed behind a pattern in blocks of code, or within lines of text too, and the page that says so."""
    found = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = [code for language, code in re.findall(r"(?ms)^```(\w*)\n(.*?)^```", text) if not language]
        lines = [line for block in blocks for line in block.splitlines()]
        dated = page.name in ("RESULTS.md", "CHANGELOG.md") or page.parent.name == "results"  # as was typed in its time
        if inline and not dated:
            lines += re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```", "", text))
        for line in lines:
            typed = re.search(rf"{pattern}(.*)", re.split(r"(?:^|\s+)[#>]\s", line)[0])
            if typed and "..." not in line:
                found[typed[1]] = page.name
    return found


def named(found: dict[str, str]) -> list[str]:
    return [f"{page}: {text}" for text, page in found.items()]


TYPED = commands(r"\bpython train\.py ")


@pytest.mark.parametrize("text", TYPED, ids=named(TYPED))
def test_commands_compose(text: str) -> None:
    arguments = shlex.split(re.sub(r"--cfg \w+", "", text))
    typed = [argument for argument in arguments if not argument.startswith(NO_CONFIG)]
    overrides = OverridesParser.create().parse_overrides(typed)
    sweeps = [override for override in overrides if override.is_sweep_override()]
    assert not sweeps or {"-m", "--multirun"} & set(arguments) or "sweep=" in text
    if any("interval" in str(override.input_line) for override in overrides):
        overrides = [override for override in overrides if "interval" not in str(override.input_line)]  # Optuna's alone
    (jobs,) = BasicSweeper.split_arguments(overrides, None)
    for job in jobs[:1] + jobs[1:][-1:]:
        assert alexnet_lit.compose(*job).seed is not None


# `make bench ARGS="step"` is `alexnet-lit bench step`; those of `train` are tested by test_own.py.
VERBS = commands(r"\balexnet[-_]lit (?!train|\[)(?=[a-z])", inline=True)
VERBS |= {f"bench {text}": page for text, page in commands(r'^make bench ARGS="(?=.*")').items()}


@pytest.mark.parametrize("text", VERBS, ids=named(VERBS))
def test_verbs_take_what_is_typed(text: str) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    verb, *arguments = shlex.split(text.rstrip('"'))
    command = group.commands[verb]
    values, left, _ = command.make_parser(typer.Context(command)).parse_args(arguments)
    assert left == []
    for parameter in command.params:
        value = values.get(str(parameter.name))
        assert value or not parameter.required or not arguments, f"{parameter.name} is missing"
        choices = re.findall(r"[a-z_0-9]+", str(getattr(parameter, "metavar", None) or ""))
        typed = value if isinstance(value, list | tuple) else [value] * (value is not None)
        assert set(typed) <= set(choices) or not choices, parameter.name


def test_make_has_what_is_typed() -> None:
    targets = re.findall(r"(?m)^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"))
    typed = {text.split()[0]: page for text, page in commands(r"^make ", inline=True).items()}
    assert len(typed) > 10
    assert {target: page for target, page in typed.items() if target not in targets} == {}
