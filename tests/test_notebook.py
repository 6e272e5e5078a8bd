"""docs/alexnet.ipynb, executed on a kernel as a reader executes it, in small."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import REPOSITORY

NOTEBOOK = REPOSITORY / "docs" / "alexnet.ipynb"


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call] # nbformat types nothing


def outputs(notebook: Any, kind: str) -> list[str]:
    """What the cells printed ("text"), or their pictures ("image/png")."""
    found = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    values = [output.get("text") if kind == "text" else output.get("data", {}).get(kind) for output in found]
    return [value for value in values if value]


def test_what_is_shown_is_small_and_complete() -> None:
    notebook = read()
    assert NOTEBOOK.stat().st_size < 400_000
    ran = [cell for cell in notebook.cells if cell.cell_type == "code" and "skip-execution" not in cell.metadata.tags]
    assert [cell.execution_count for cell in ran] == list(range(1, 1 + len(ran)))
    assert len(outputs(notebook, "image/png")) == 4
    assert "46,764,746 parameters" in "".join(outputs(notebook, "text"))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the client; the kernel is a process of its own
def test_it_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    notebook = read()
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    small = [
        *("from functools import partial", "from tests.conftest import shrink", "shrink()"),
        'alexnet_lit.compose = partial(alexnet_lit.compose, "~callbacks.board")',
        f"SIZE, STEPS, LOGS = 65, 3, {str(tmp_path / 'logs')!r}",
    ]
    parameters.source = "\n".join([parameters.source, *small])
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    client.execute()
    assert len(list((tmp_path / "logs" / "runs").iterdir())) == 4
    texts = [*outputs(notebook, "text"), *outputs(notebook, "text/plain")]
    assert "completed" in "".join(texts)
    assert "\x1b[" not in "".join(texts), "colours and folded tables are for terminals"
    assert "left" not in "".join(outputs(notebook, "text/plain")), "the bar is shown in place, and gone at the end"
    assert len(outputs(notebook, "image/png")) == 4
