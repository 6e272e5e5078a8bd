"""README and docs/: links lead somewhere, every page can be reached, and what is typed there composes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

import alexnet_lit
from tests.conftest import REPOSITORY

PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
NO_CONFIG = ("-", "ckpt=", "resume_sweep=", "paths.", "hydra/", "hydra.")  # of the command line, or read from a run


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


def test_readme_leads_to_every_page() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES if page.parent.name == "docs" and f"docs/{page.name}" not in text] == []


def test_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 180


def commands() -> Iterator[tuple[str, str]]:
    """Each `python train.py ...` in a block of code, with its page."""
    for page in PAGES:
        for block in re.findall(r"(?ms)^```\n(.*?)^```", page.read_text(encoding="utf-8")):
            for line in block.splitlines():
                if found := re.search(r"^[^#]*\bpython train\.py (.*?)(?:\s+#.*)?$", line):
                    yield page.name, found[1]


# Of a file that the page tells the reader to write.
WRITTEN = ("optimizer=rmsprop",)
TYPED = {text: page for page, text in commands() if not any(name in text for name in (*WRITTEN, "..."))}


@pytest.mark.parametrize("text", TYPED, ids=[f"{page}: {text}" for text, page in TYPED.items()])
def test_commands_compose(text: str) -> None:
    typed = [argument for argument in shlex.split(text) if not argument.startswith(NO_CONFIG)]
    overrides = OverridesParser.create().parse_overrides(typed)
    sweeps = [override for override in overrides if override.is_sweep_override()]
    assert not sweeps or {"-m", "--multirun"} & set(shlex.split(text)) or "sweep=" in text
    if any("interval" in str(override.input_line) for override in overrides):
        overrides = [override for override in overrides if "interval" not in str(override.input_line)]  # Optuna's alone
    (jobs,) = BasicSweeper.split_arguments(overrides, None)
    for job in (jobs[0], jobs[-1]):
        assert alexnet_lit.compose(*job).seed is not None
