"""The wheel holds what a run needs from any folder, and nothing else."""

import zipfile

import pytest
from build import ProjectBuilder

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.slow

SAMPLE = [f"{split}-{what}-ubyte.gz" for split in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The files of a wheel built as `make dist` does it, with this environment's hatchling."""
    wheel = ProjectBuilder(REPOSITORY).build("wheel", tmp_path_factory.mktemp("wheel"))
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def files(folder: str, pattern: str, inside: str = "") -> set[str]:
    return {f"{inside}{path.relative_to(REPOSITORY)}" for path in (REPOSITORY / folder).rglob(pattern)}


def test_the_whole_package_and_its_config_are_in(names: list[str]) -> None:
    assert files("alexnet_lit", "*.py") == {name for name in names if name.endswith(".py")}
    assert files("conf", "*.yaml", inside="alexnet_lit/") == {name for name in names if name.endswith(".yaml")}
    assert "alexnet_lit/conf/train.yaml" in names
    assert "alexnet_lit/py.typed" in names


def test_the_sample_and_its_licence_are_in(names: list[str]) -> None:
    folder = "alexnet_lit/data/sample"
    assert {name for name in names if name.endswith(".gz")} == {f"{folder}/{name}" for name in SAMPLE}
    assert f"{folder}/LICENSE" in names
    licences = [name.partition(".dist-info/licenses/")[2] for name in names if ".dist-info/licenses/" in name]
    assert sorted(licences) == ["LICENSE", f"{folder}/LICENSE"]


def test_nothing_else_is_in(names: list[str]) -> None:
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"alexnet_lit"}
    assert not [name for name in names if {"tests", "__pycache__", "logs"} & set(name.split("/"))]
