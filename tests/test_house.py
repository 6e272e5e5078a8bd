"""The house of the design as a test: who may import what, and that every YAML builds."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import alexnet_lit
from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "alexnet_lit"
CONF = REPOSITORY / "conf"
FILES = sorted([*PACKAGE.rglob("*.py"), REPOSITORY / "train.py"])

# From the ground to the roof: a room, what it imports from the house, and the libraries that it knows beside Python's.
# A room is a file or a folder of alexnet_lit/; `door` is train.py, `facade` what `import alexnet_lit` offers. A room
# imports from floors below its own alone, never from its neighbours. Hydra and OmegaConf are known to few.
HOUSE: list[dict[str, tuple[str, str]]] = [
    {
        "errors": ("", ""),
        "lazy": ("", ""),
        "native": ("", "torch"),
        "groups": ("", ""),
        "precision": ("", "torch"),
        "terminal": ("", ""),
    },
    {
        "nets": ("native", "torch pydantic triton"),
        "data": ("errors lazy native", "torch pydantic lightning filelock numpy PIL"),
        "watch": ("errors lazy terminal", "torch pydantic lightning rich matplotlib tensorboard"),
        "checkpoints": ("errors terminal", "torch pydantic lightning"),
        "optim": ("errors native", "torch pydantic lightning"),
        "scores": ("", "torch torchmetrics"),
        "mistakes": ("errors", "pydantic"),
        "ckpt": ("errors", ""),
        "output": ("errors", ""),
    },
    {
        "distributed": ("errors lazy nets terminal", "torch lightning torchmetrics"),
        "lit": ("data optim scores", "torch lightning"),
        "config": ("errors mistakes", "hydra omegaconf"),
        "length": ("errors data", "omegaconf"),
    },
    {
        "resume": ("errors config", "hydra"),
    },
    {
        "factory": ("errors mistakes config data optim lit length", "torch pydantic lightning hydra omegaconf"),
        "result": ("errors config resume lit watch", "lightning"),
        "sweep": (
            "errors groups terminal resume config distributed watch",
            "torch hydra omegaconf filelock rich optuna sqlalchemy submitit joblib hydra_plugins",
        ),
    },
    {
        "saved": ("errors ckpt data lit factory", "torch omegaconf"),
        "continued": ("errors mistakes optim data lit factory", "lightning omegaconf"),
        "trainer": (
            "errors mistakes native precision config data distributed checkpoints length factory",
            "torch pydantic lightning omegaconf",
        ),
    },
    {
        "facade": ("lazy config factory saved", ""),
        "predict": ("errors terminal ckpt data distributed watch factory saved", "torch PIL rich"),
        "evaluate": (
            "errors terminal ckpt output config data distributed watch factory saved",
            "torch lightning torchmetrics rich",
        ),
        "prepare": (
            "errors mistakes native config data distributed watch checkpoints lit length factory continued trainer",
            "torch lightning omegaconf",
        ),
    },
    {
        "demo": ("errors terminal ckpt data predict", "torch gradio PIL"),
        "export": ("errors ckpt output facade data lit factory saved", "torch numpy onnx onnxruntime"),
        "tools": ("errors groups output watch facade", "numpy pandas scipy matplotlib tensorboard jinja2"),
        "bench": (
            "errors native nets data distributed watch config factory prepare",
            "torch torchvision lightning omegaconf PIL",
        ),
        "trial": ("errors distributed watch prepare", "lightning omegaconf"),
    },
    {
        "budget": ("errors mistakes data distributed watch length prepare trial", "omegaconf"),
        "announce": ("native config watch result resume prepare", "omegaconf"),
    },
    {
        "run": (
            "errors config distributed watch checkpoints factory result prepare trial budget announce",
            "omegaconf",
        ),
    },
    {
        "job": ("errors mistakes terminal config distributed result sweep run", "hydra omegaconf"),
    },
    {
        "app": ("errors mistakes terminal resume config distributed sweep job run", "hydra omegaconf"),
    },
    {
        "door": ("app", ""),
        "complete": ("app", ""),
    },
    {
        "__main__": (
            "errors terminal config data watch factory bench predict evaluate demo export tools app complete",
            "typer",
        ),
    },
]
ROOMS = {room: columns for floor in HOUSE for room, columns in floor.items()}


def module(file: Path) -> str:
    """`alexnet_lit.nets.lrn`; a folder's name for its __init__.py."""
    return ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(file): file for file in FILES}

# The one step upwards, taken when it is called: Lightning gives each module a class method that loads it.
UPWARDS = {("alexnet_lit.lit", "alexnet_lit.saved")}

# What lies beside each other in a checkout; names that begin with a dot are tools' own.
TOP = {
    *("alexnet_lit", "conf", "docs", "tests", "train.py", "Makefile", "pyproject.toml", "constraints.txt"),
    *("README.md", "RESULTS.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE"),
}


def room(name: str) -> str:
    """The room that a module of the house is in."""
    top, _, rest = name.partition(".")
    return {"train": "door"}.get(top) or rest.split(".")[0] or "facade"


def imports(file: Path) -> Iterator[str]:
    """The modules that a file imports anywhere in it: at the top, in a function, for types only."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are written in full"
            name = str(node.module)
            names = [f"{name}.{alias.name}" for alias in node.names]
            inner = [full for full in names if full in MODULES]
            yield from inner
            if len(inner) < len(names):
                yield name


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="no checkout that would say what belongs to it")
def test_nothing_else_lies_at_the_top() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert {name for name in (line.partition("/")[0] for line in tracked.splitlines()) if name[0] != "."} == TOP


def test_the_table_has_every_room_and_no_other() -> None:
    assert set(ROOMS) == {room(name) for name in MODULES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_a_file_imports_what_its_room_may(file: Path) -> None:
    here = room(module(file))
    house, libraries = (set(column.split()) for column in ROOMS[here])
    for name in imports(file):
        top = name.split(".")[0]
        if (module(file), name) in UPWARDS:
            continue
        if top in ("alexnet_lit", "train"):
            assert room(name) in house | {here}, f"{here} imports {name}"
        elif top not in sys.stdlib_module_names:
            assert top in libraries, f"{here} imports {name}"


def test_rooms_stand_on_the_floors_below_them() -> None:
    below: set[str] = set()
    for floor in HOUSE:
        for here, (house, _) in floor.items():
            assert set(house.split()) <= below, f"{here} imports from its own floor or one above"
        below |= set(floor)


def test_files_import_in_one_direction() -> None:
    graph = {
        name: {found for found in imports(file) if found in MODULES and (name, found) not in UPWARDS}
        for name, file in MODULES.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which shows the circle


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
        is_text = name in ("read_text", "write_text", "FileHandler") or (
            name in ("open", "fdopen")
            and owner not in ("Image", "webbrowser")
            and not any("b" in str(t) for t in texts)
        )
        where = f"{file}:{node.lineno}"
        assert "encoding" in given or not is_text or (owner, name) == ("os", "open"), where
        assert not given & {"text", "universal_newlines"}, where


CHOICES = sorted(f"{file.parent.relative_to(CONF)}={file.stem}" for file in CONF.glob("*/**/*.yaml"))


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_builds(
    choice: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from alexnet_lit.prepare import prepare
    from tests.pictures import fill

    if choice in ("hydra/sweeper=search", "sweep=optuna"):
        pytest.importorskip("optuna", reason="needs alexnet-lit[sweep]")
    data = [] if choice.startswith("data=") else ["data=sample"]
    if choice == "data=image_folder":
        data = [f"data.dir={fill(tmp_path_factory.mktemp('pictures'), train=1)}"]
    # On a CPU, as two devices are everywhere there.
    config = alexnet_lit.compose(choice, *data, "data.image_size=96", "trainer.accelerator=cpu")
    parts = prepare(config, tmp_path)
    group = re.split("[/=]", choice)[0]
    assert group in ("experiment", "idea", "sweep", "hydra") or group in config
    assert sum(parameter.numel() for parameter in parts.module.net.parameters()) > 10_000
    assert not list(tmp_path.iterdir()), "building writes nothing"


def test_every_group_has_a_choice() -> None:
    groups = {re.split("[/=]", choice)[0] for choice in CHOICES}
    assert groups == {folder.name for folder in CONF.iterdir() if folder.is_dir()}


QUICK = {
    "import alexnet_lit": ["-c", "import alexnet_lit"],
    "--help": ["train.py", "--help"],
    "predict --help": ["-m", "alexnet_lit", "predict", "--help"],
    "--cfg job": ["train.py", "--cfg", "job"],
    "summary --help": ["-m", "alexnet_lit", "summary", "--help"],
    "a mistake": ["train.py", "model.lnr=true", "--cfg", "job"],
}


def _python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("arguments", QUICK.values(), ids=QUICK)
def test_an_answer_needs_no_torch(arguments: list[str]) -> None:
    done = _python("-X", "importtime", *arguments)
    times = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.split("|")[-1].strip().split(".")[0] for line in times}
    assert "site" in imported
    assert imported & {"torch", "lightning", "matplotlib"} == set()


@pytest.mark.parametrize("arguments", list(QUICK.values())[:4], ids=list(QUICK)[:4])
def test_an_answer_comes_without_noise(arguments: list[str]) -> None:
    done = _python(*arguments)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_names_each_group_and_its_choices() -> None:
    lines = _python("train.py", "--help").stdout.splitlines()
    for group in {choice.partition("=")[0] for choice in CHOICES} - {"hydra", "hydra/sweeper"}:
        choices = sorted(choice.partition("=")[2] for choice in CHOICES if choice.startswith(f"{group}="))
        assert f"{group}: {', '.join(choices)}" in lines


def test_help_names_keys_that_there_are() -> None:
    text = _python("train.py", "--help").stdout
    lines = text.partition("== Keys")[2].partition("\n\n")[0].splitlines()[1:]
    keys = []
    for first, *others in (line.partition("  ")[0].split(", ") for line in lines):
        group = first.rpartition(".")[0]
        keys += [first, *(f"{group}{other}" if other.startswith(".") else other for other in others)]
    assert len(keys) > 10
    alexnet_lit.compose(*(f"{key}=1" for key in keys))  # which refuses what isn't there
    assert len(text.splitlines()) <= 45, "a screen"
