"""docs/alexnet.ipynb, executed on a kernel as a reader executes it, in small."""

import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import REPOSITORY

NOTEBOOK = REPOSITORY / "docs" / "alexnet.ipynb"
# A process of Python's for each device, beside a kernel which has no file that they could run again.
TWO_DEVICES = """
import psutil
result = alexnet_lit.fit(alexnet_lit.compose(
    "data=sample", "model=lenet", "data.image_size=28", "trainer.accelerator=cpu", "trainer.devices=2",
    "trainer.fast_dev_run=true", f"paths.logs={LOGS}",
))
ranks = [child for child in psutil.Process().children() if "alexnet_lit.app" in child.cmdline()]
print(result["world_size"], [result["status"]], ranks)
"""
SMALL = """
from alexnet_lit.nets.alexnet import DESIGNS
DESIGNS["course"] = DESIGNS["course"]._replace(hidden=(64, 64))
"""


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
def test_it_runs_from_top_to_bottom(tmp_path: Path) -> None:
    notebook = read()
    (parameters,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    parameters.source += SMALL + f"\nSIZE, STEPS, LOGS = 65, 3, {str(tmp_path / 'logs')!r}"
    notebook.cells.append(nbformat.v4.new_code_cell(TWO_DEVICES))  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    client.execute()
    assert len(list((tmp_path / "logs" / "runs").iterdir())) == 5
    texts = [*outputs(notebook, "text"), *outputs(notebook, "text/plain")]
    assert "completed" in "".join(texts)
    assert "2 ['completed'] []\n" in texts
    assert "\x1b[" not in "".join(texts), "colours and folded tables are for terminals"
    assert "left" not in "".join(outputs(notebook, "text/plain")), "the bar is shown in place, and gone at the end"
    assert len(outputs(notebook, "image/png")) == 4
    shutil.rmtree(tmp_path / "logs")
