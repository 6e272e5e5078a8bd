"""Continue a run in place: `ckpt=<run folder>` takes that run's own config and goes on in that folder."""

import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

from alexnet_lit.config import last_record
from alexnet_lit.errors import UserError

RESULT = "result.json"
PART = "result.json.part"  # in the place of the result that a run is to have which goes on from one
MULTIRUN = {"-m", "--multirun"}  # Hydra's options for a sweep
# What a checkpoint has the state of, so that another value would have no effect or no meaning.
_FIXED = {"model", "data", "optimizer", "scheduler", "seed", "experiment", "sweep", "idea", "name"} | {
    "objective",  # best.ckpt was chosen by it
    "direction",
}
_PLACES = {"data.dir", "data.cache", "data.search", "data.mirrors"}  # where the images are, not which


def starts_sweep(arguments: Sequence[str]) -> bool:
    """Whether several runs are asked for: by -m, or by a ready sweep."""
    return bool(MULTIRUN & set(arguments)) or any(argument.startswith("sweep=") for argument in arguments)


def resume_arguments(arguments: Sequence[str]) -> list[str]:
    """What to tell Hydra instead of `arguments` when they name a run to continue; else they as they are.

    The run's saved config takes the place of conf/, so what was typed then, and when it was continued before, need not
    be typed again; what is typed now is applied on top. The config of the first start stays as it is, each continuation
    keeps its own beside it.
    Raises: UserError if it makes no sense.
    """
    value = _checkpoint(arguments)
    if not value:
        return list(arguments)
    arguments = [f"ckpt={quoted(value)}" if argument.startswith("ckpt=") else argument for argument in arguments]
    if starts_sweep(arguments):
        raise UserError(f"ckpt={value}: continues one run: leave out -m and sweep=")
    folder = run_of(Path(value).expanduser())
    if folder is None and (Path(value).expanduser() / "multirun.yaml").is_file():
        raise UserError(f"ckpt={value}: is a sweep, not a run: use resume_sweep={value}")
    if folder is None:
        return list(arguments)
    for argument in arguments:
        key, _, choice = argument.lstrip("+~").partition("=")
        if key.split(".")[0] in _FIXED and key not in _PLACES:
            raise UserError(
                f"{argument}: can't be changed in a run that is continued: leave it out, or start a new run"
            )
        if key in {"trainer", "callbacks", "logger"} and choice not in ("", "null"):
            way_out = f"set single keys of it, {key}.<key>=..."
            raise UserError(f"{argument}: a run that is continued has its {key} already: {way_out}")
    number = 1 + len(list((folder / ".hydra").glob("resume_*")))
    return [
        *("--config-path", str(last_record(folder)), "--config-name", "config"),
        *arguments,
        f"hydra.run.dir={quoted(folder)}",
        f"hydra.output_subdir=.hydra/resume_{number}",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
    ]


def finished(arguments: Sequence[str]) -> Path | None:
    """The run that `ckpt=` names if it is complete and nothing typed beside it asks for more."""
    value = _checkpoint(arguments)
    folder = run_of(Path(value).expanduser()) if value else None
    groups = {argument.lstrip("+~").partition("=")[0].partition(".")[0] for argument in arguments}
    more = groups & {"trainer", "callbacks"}  # they decide when a run ends
    if folder is None or under_way(folder) or more:
        return None
    result = folder / RESULT
    return (
        folder if result.is_file() and json.loads(result.read_text(encoding="utf-8"))["status"] == "completed" else None
    )


def _checkpoint(arguments: Sequence[str]) -> str:
    """What `ckpt=` says; nothing where it is not typed or null."""
    value = typed_path(arguments, "ckpt=")
    return value if value and value != "null" else ""


def typed_path(arguments: Sequence[str], key: str) -> str | None:
    """The path that `key` (with its "=") is given, as it is on the disk: quoted for Hydra's grammar or not."""
    values = [argument.removeprefix(key) for argument in arguments if argument.startswith(key)]
    return re.sub(r"""^(['"])(.*)\1$""", r"\2", values[-1]) if values else None


def quoted(path: str | Path) -> str:
    """A path as a value in Hydra's grammar, whatever characters it has; `${...}` is an interpolation all the same."""
    return QuotedString(str(path), Quote.single).with_quotes()


def run_of(path: Path) -> Path | None:
    """The run folder that is `path` or holds the checkpoint file `path`; None where it belongs to no run."""
    folder = path if path.is_dir() else path.parent.parent
    return folder.resolve() if (folder / ".hydra" / "config.yaml").is_file() else None


def holds(folder: Path) -> str | None:
    """What `folder` has in it: a sweep, a run, or several runs; None where nothing would be mixed up with a new one."""
    if (folder / "multirun.yaml").exists():
        return "a sweep"
    if any((folder / name).exists() for name in ("train.log", "result.json", "checkpoints")):
        return "a run"
    return "runs" if any(folder.glob("*/.hydra")) else None


def program(name: str) -> str:
    """How a person starts a program of this environment: by its name alone where that finds it."""
    here = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    return name if found and Path(found).parent == here.parent else str(here)


def under_way(folder: Path) -> bool:
    """Whether a run that had a result has gone on since: it is at work still, or was killed."""
    return (folder / PART).exists()
