"""The wheel holds what a run needs from any folder, and nothing else; and `make board`, as a user types it."""

import os
import shutil
import signal
import sys
import zipfile
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from build import ProjectBuilder

from tests.browser import served
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

SAMPLE = [f"{split}-{what}-ubyte.gz" for split in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]


def files(folder: str, pattern: str, inside: str = "") -> set[str]:
    return {f"{inside}{path.relative_to(REPOSITORY)}" for path in (REPOSITORY / folder).rglob(pattern)}


def test_the_wheel_has_the_package_its_config_and_the_sample_with_its_licence(tmp_path: Path) -> None:
    """As `python -m build --wheel` builds it, with this environment's hatchling."""
    with zipfile.ZipFile(ProjectBuilder(REPOSITORY).build("wheel", tmp_path)) as archive:
        names = archive.namelist()
    assert files("alexnet_lit", "*.py") == {name for name in names if name.endswith(".py")}
    assert files("conf", "*.yaml", inside="alexnet_lit/") == {name for name in names if name.endswith(".yaml")}
    folder = "alexnet_lit/data/sample"
    assert {"alexnet_lit/conf/train.yaml", "alexnet_lit/py.typed", f"{folder}/LICENSE"} <= set(names)
    assert {name for name in names if name.endswith(".gz")} == {f"{folder}/{name}" for name in SAMPLE}
    licences = [name.partition(".dist-info/licenses/")[2] for name in names if ".dist-info/licenses/" in name]
    assert sorted(licences) == ["LICENSE", f"{folder}/LICENSE"]
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"alexnet_lit"}
    assert not [name for name in names if {"tests", "__pycache__", "logs"} & set(name.split("/"))]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_board_finds_a_port_prints_its_address_and_ends_quietly(tmp_path: Path) -> None:
    make = ("make", f"--makefile={REPOSITORY / 'Makefile'}", "board", "SETUP=true", f"PY={sys.executable}", "ARGS=")
    with served(*make, scratch=tmp_path) as (process, address):  # where there are no logs/
        with urlopen(address, timeout=30) as answer:
            assert b"TensorBoard" in answer.read()
        started = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
        process.wait(30)
        assert psutil.wait_procs(started, timeout=60)[1] == [], "what make has started outlives it"

    lines = (tmp_path / "served.log").read_text().splitlines()
    assert lines[0] == "board: nothing is in logs/ yet; runs show up as they are made (`make quick`)"
    assert lines[-1].startswith("TensorBoard ")
    assert len(lines) == 3, "one line more says that it is for this machine alone"
