"""The structure of the package: what imports what, and that every YAML builds."""

import ast
import graphlib
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import alexnet_lit
from tests.conftest import REPOSITORY, python

PACKAGE = REPOSITORY / "alexnet_lit"
CONF = REPOSITORY / "conf"
FILES = sorted([*PACKAGE.rglob("*.py"), REPOSITORY / "train.py"])


def module(file: Path) -> str:
    """`alexnet_lit.nets.lrn`; a folder's name for its __init__.py."""
    return ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(file): file for file in FILES}

# What lies beside each other in a checkout; names that begin with a dot are tools' own.
TOP = {
    *("alexnet_lit", "conf", "docs", "tests", "train.py"),
    *("Makefile", "pyproject.toml", "constraints.txt", "mkdocs.yml"),
    *("README.md", "RESULTS.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE"),
}


def room(name: str) -> str:
    """The file or folder of alexnet_lit/ that a module is in; `alexnet_lit` for the package's own __init__."""
    top, _, rest = name.partition(".")
    return top if top == "train" or not rest else rest.split(".")[0]


def imports(file: Path) -> Iterator[str]:
    """The modules that a file imports anywhere in it: at the top, in a function, for types only."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are written in full"
            name = str(node.module)
            if [alias.name for alias in node.names] == ["__version__"]:
                continue  # which is there whatever else the package imports, as it does when first asked for
            names = [f"{name}.{alias.name}" for alias in node.names]
            inner = [full for full in names if full in MODULES]
            yield from inner
            if len(inner) < len(names):
                yield name


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="no checkout that would say what belongs to it")
def test_nothing_else_lies_at_the_top() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert {name for name in (line.partition("/")[0] for line in tracked.splitlines()) if name[0] != "."} == TOP


# The one step upwards, taken when it is called: Lightning gives each module a class method that loads it.
UPWARDS = {("alexnet_lit.lit", "alexnet_lit.prepare")}
GRAPH = {
    name: {found for found in imports(file) if found in MODULES and (name, found) not in UPWARDS}
    for name, file in MODULES.items()
}


def floors() -> list[list[str]]:
    """Files and folders of the package from the ground up: each imports only from floors below its own."""
    rooms: dict[str, set[str]] = {}
    for name, found in GRAPH.items():
        rooms.setdefault(room(name), set()).update({room(each) for each in found} - {room(name)})
    sorter = graphlib.TopologicalSorter(rooms)
    sorter.prepare()  # raises CycleError, which shows the circle
    height: dict[str, int] = {}
    while sorter.is_active():
        for here in sorter.get_ready():
            height[here] = max((height[below] + 1 for below in rooms[here]), default=0)
            sorter.done(here)
    return [sorted(here for here in height if height[here] == floor) for floor in range(max(height.values()) + 1)]


def _lines(files: Iterable[Path]) -> int:
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def imported_by_a_run(logs: Path) -> list[Path]:
    """The package's modules that a run has imported by its end."""
    code = (
        "import sys; from alexnet_lit.app import main; status = main()\n"
        "names = [name for name in sys.modules if name.partition('.')[0] == 'alexnet_lit']\n"
        "print(*(sys.modules[name].__file__ for name in names), sep='\\n', file=sys.stderr); sys.exit(status)"
    )
    typed = "data=sample data.image_size=65 data.batch_size=2 trainer.fast_dev_run=true trainer.accelerator=cpu"
    done = python("-c", code, *typed.split(), f"paths.logs={logs}", cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    return [Path(line) for line in done.stderr.splitlines() if line.endswith(".py")]


def sizes(logs: Path) -> list[tuple[str, int, int]]:
    """What keeps the project small: sizes and their limits. `python -m tests.test_structure` prints it."""
    package, run = [*PACKAGE.rglob("*.py")], imported_by_a_run(logs)
    return [
        ("lines of Python in alexnet_lit/", _lines(package), 11_000),
        ("files in alexnet_lit/", len(package), 81),
        ("files directly in alexnet_lit/", len([*PACKAGE.glob("*.py")]), 11),
        ("modules that a run imports", len(run), 50),
        ("their lines", _lines(run), 7_100),
        ("lines of tests", _lines((REPOSITORY / "tests").rglob("*.py")), 9_500),
        ("lines of README.md", _lines([REPOSITORY / "README.md"]), 180),
        ("floors", len(floors()), 8),
    ]


def test_sizes_and_floors(tmp_path: Path) -> None:
    users = {room(name) for name, found in GRAPH.items() if "tools" in map(room, found)}
    assert users <= {"tools", "__main__"}, "nothing but the commands imports the tools"
    graphlib.TopologicalSorter(GRAPH).prepare()  # raises CycleError, which shows the circle
    assert [size for size in sizes(tmp_path) if size[1] > size[2]] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_text_is_utf_8_whatever_the_locale(file: Path) -> None:
    """Text that is written and read, and the words of other programs: none of it hangs on where a person lives."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = getattr(node.func.value, "id", "") if isinstance(node.func, ast.Attribute) else ""
        given = {keyword.arg for keyword in node.keywords}
        texts = [each.value for argument in node.args for each in ast.walk(argument) if isinstance(each, ast.Constant)]
        opens = name in ("open", "fdopen") and owner != "Image" and not any("b" in str(t) for t in texts)
        is_text = opens or name in ("read_text", "write_text", "FileHandler")
        where = f"{file}:{node.lineno}"
        assert "encoding" in given or not is_text or (owner, name) == ("os", "open"), where
        assert not given & {"text", "universal_newlines"}, where


CHOICES = sorted(f"{file.parent.relative_to(CONF)}={file.stem}" for file in CONF.glob("*/**/*.yaml"))


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_builds(choice: str, small_nets: None, tmp_path: Path) -> None:
    from alexnet_lit.prepare import prepare
    from tests.pictures import fill

    if choice in ("hydra/sweeper=search", "sweep=optuna"):
        pytest.importorskip("optuna", reason="needs alexnet-lit[sweep]")
    data = [] if choice.startswith("data=") else ["data=sample"]
    if choice == "data=image_folder":
        data = [f"data.dir={fill(tmp_path / 'pictures', train=1)}"]
    # On a CPU, as two devices are everywhere there.
    config = alexnet_lit.compose(choice, *data, "data.image_size=96", "trainer.accelerator=cpu")
    run = tmp_path / "run"
    parts = prepare(config, run)
    assert sum(parameter.numel() for parameter in parts.module.net.parameters()) > 10_000
    assert not run.exists(), "building writes nothing"


QUICK = {
    "--help": ["train.py", "--help"],
    "import alexnet_lit": ["-c", "import alexnet_lit"],
    "predict --help": ["-m", "alexnet_lit", "predict", "--help"],
    "--cfg job": ["train.py", "--cfg", "job"],
    "a mistake": ["train.py", "model.lnr=true", "--cfg", "job"],
}


@pytest.mark.parametrize("name", QUICK)
def test_an_answer_needs_no_torch_and_comes_without_noise(name: str) -> None:
    done = python("-X", "importtime", *QUICK[name], cwd=REPOSITORY)
    times = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.split("|")[-1].strip().split(".")[0] for line in times}
    assert "site" in imported
    assert imported & {"torch", "lightning", "matplotlib"} == set()
    mistake = name == "a mistake"
    assert (done.returncode, len(done.stderr.splitlines()) - len(times)) == ((2, 1) if mistake else (0, 0))
    if name == "--help":
        check_help(done.stdout)


def check_help(text: str) -> None:
    """It names each group and its choices, and keys that there are."""
    lines = text.splitlines()
    assert len(lines) <= 45, "a screen"
    for group in {choice.partition("=")[0] for choice in CHOICES} - {"hydra", "hydra/sweeper"}:
        choices = sorted(choice.partition("=")[2] for choice in CHOICES if choice.startswith(f"{group}="))
        assert f"{group}: {', '.join(choices)}" in lines
    keys = []
    for line in text.partition("== Keys")[2].partition("\n\n")[0].splitlines()[1:]:
        first, *others = line.partition("  ")[0].split(", ")
        group = first.rpartition(".")[0]
        keys += [first, *(f"{group}{other}" if other.startswith(".") else other for other in others)]
    assert len(keys) > 10
    alexnet_lit.compose(*(f"{key}=1" for key in keys))  # which refuses what isn't there


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for what, value, most in sizes(Path(folder)):
            print(f"{what:36} {value:7,}  at most {most:7,}")
    for number, floor in enumerate(floors(), 1):
        print(f"floor {number:2}  {', '.join(floor)}")
