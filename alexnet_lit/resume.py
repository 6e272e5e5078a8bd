"""Continue a run in place: `ckpt=<run folder>` takes that run's own config and goes on in that folder."""

from collections.abc import Sequence
from pathlib import Path

from alexnet_lit.errors import Mistake


def resume_arguments(arguments: Sequence[str]) -> list[str]:
    """What to tell Hydra instead of `arguments` when they name a run to continue; else they as they are.

    The run's saved config takes the place of conf/, so what was typed then need not be typed again; what is typed now
    is applied on top. The config of the first start stays as it is, each continuation keeps its own beside it.
    Raises: Mistake if it makes no sense.
    """
    value = next((argument.removeprefix("ckpt=") for argument in arguments if argument.startswith("ckpt=")), "null")
    value = value.strip("'\"")
    if value in ("", "null"):
        return list(arguments)
    if {"-m", "--multirun"} & set(arguments):
        raise Mistake(f"ckpt={value}: continues one run: leave out -m")
    folder = run_of(Path(value).expanduser())
    if folder is None:
        return list(arguments)
    number = 1 + len(list((folder / ".hydra").glob("resume_*")))
    return [
        *("--config-path", str(folder / ".hydra"), "--config-name", "config"),
        *arguments,
        f"hydra.run.dir='{folder}'",
        f"hydra.output_subdir=.hydra/resume_{number}",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
    ]


def run_of(path: Path) -> Path | None:
    """The run folder that is `path` or holds the checkpoint file `path`; None where it belongs to no run."""
    folder = path if path.is_dir() else path.parent.parent
    return folder.resolve() if (folder / ".hydra" / "config.yaml").is_file() else None
