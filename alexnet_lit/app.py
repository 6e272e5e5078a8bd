"""The command line of training: from what a person typed to a run, and from what went wrong to one readable line."""

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from alexnet_lit import config as composition
from alexnet_lit.errors import Mistake
from alexnet_lit.mistakes import explain, explain_override
from alexnet_lit.resume import MULTIRUN, finished, resume_arguments

EXIT = {"completed": 0, "failed": 1, "diverged": 1, "interrupted": 130}


def main() -> int:
    """Run what sys.argv asks for. Returns the exit status: 0, 1 failed, 2 a person's mistake, 130 interrupted."""
    typed, wanted = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    # Hydra would print several lines of its own and exit; asked for full errors it raises, and the lines below tell.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        # Hydra reads its options before or after all overrides, not between them.
        arguments = sorted(typed[1:], key=lambda argument: argument not in MULTIRUN)
        _check_arguments(arguments)
        if folder := finished(arguments):
            print(f"{folder} is complete: trainer.max_epochs=... beside ckpt= makes it longer")
            return 0
        sys.argv = [typed[0], *resume_arguments(arguments)]
        return _hydra()
    except BrokenPipeError:  # the reader of `--help | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT["interrupted"]
    except (Mistake, HydraException, OmegaConfBaseException) as error:
        if wanted == "1":
            raise
        print(_line(error), file=sys.stderr)
        return 2
    finally:
        sys.argv = typed
        del os.environ["HYDRA_FULL_ERROR"]
        if wanted is not None:
            os.environ["HYDRA_FULL_ERROR"] = wanted


def _check_arguments(arguments: Sequence[str]) -> None:
    """Refuse what Hydra would explain in many lines, or blame on another argument."""
    if MULTIRUN & set(arguments) and any(argument.startswith("--cfg") for argument in arguments):
        raise Mistake("--cfg shows the config of one run: leave out -m and the lists of values")
    parser = OverridesParser.create()
    options = {"--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"}
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if argument.startswith("-") or before in options:
            continue
        try:
            parser.parse_override(argument)
        except HydraException as error:
            raise explain_override(argument) from error


def _line(error: Exception) -> str:
    mistake = error if isinstance(error, Mistake) else explain(error, composition.suggest)
    return f"error: {mistake}"


def _hydra() -> int:
    """Let Hydra compose each job's config and start it; the worst exit status of all."""
    statuses: list[str] = []
    failure: list[Exception] = []  # of a single run: raised here, as Hydra would add lines of its own

    @hydra.main(version_base="1.3", config_path=str(composition.CONF), config_name="train")
    def application(config: DictConfig) -> float | None:
        settings = HydraConfig.get()
        folder = Path(settings.runtime.output_dir)
        if settings.mode == RunMode.MULTIRUN:
            print(f"\njob {settings.job.num}  {folder.name}", flush=True)
            result = _sweep_job(config, folder)
        else:
            try:
                result = _job(config, folder)
            except Exception as error:
                failure.append(error)
                return None
        statuses.append(result["status"])
        score: float | None = result.get(config.objective or "")
        return score

    composition.forget_folders()
    application()
    if failure:
        raise failure[0]
    return max((EXIT[status] for status in statuses), default=0)


def _job(config: DictConfig, folder: Path) -> dict[str, Any]:
    """One run. A mistake that is found before training leaves no folder behind."""
    from alexnet_lit.run import run  # torch is imported here, once it is sure that there is something to train

    try:
        return run(config, folder)
    except Mistake:
        composition.discard_folder(folder)
        raise


def _sweep_job(config: DictConfig, folder: Path) -> dict[str, Any]:
    """One run of a sweep: what goes wrong is its own affair, and the next one starts all the same; Ctrl-C ends both."""
    try:
        result = _job(config, folder)
    except (Mistake, HydraException, OmegaConfBaseException) as error:
        print(_line(error), file=sys.stderr)
        return {"status": "failed"}
    except Exception as error:
        traceback.print_exception(error)
        return {"status": "failed"}
    if result["status"] == "interrupted":
        raise KeyboardInterrupt
    return result
