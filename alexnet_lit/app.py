"""The command line of training: from what a person typed to a run, and from what went wrong to one readable line."""

import errno
import io
import os
import sys
from argparse import Namespace
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alexnet_lit import config as composition
from alexnet_lit import job, sweep
from alexnet_lit.distributed.environment import RankEnvironment, rank_environment
from alexnet_lit.errors import UserError, unwritten
from alexnet_lit.mistakes import explain_override
from alexnet_lit.resume import MULTIRUN, finished, resume_arguments, starts_sweep
from alexnet_lit.terminal import printing

EXIT = {"completed": 0, "failed": 1, "diverged": 1, "unfinished": 1, "interrupted": 130}
_SHOW = ("help", "hydra_help", "cfg", "resolve", "info", "shell_completion")  # Hydra's options that run nothing


@printing(ends=False)
def main() -> int:
    """Run what sys.argv asks for. Returns the exit status: 0, 1 failed, 2 a person's mistake, 130 interrupted.

    Of several processes that torchrun or srun has started rank 0 does that, and tells the others what to do.
    """
    place = rank_environment()
    return _command(place) if place.ranks == 1 else _rank(place)


def _rank(place: RankEnvironment) -> int:
    """What one of several processes does. All of them return the same status."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # what it warns of at the end of another rank, that one tells
    status = 1
    try:
        from alexnet_lit.distributed.launch import join
        from alexnet_lit.run import run_as_rank

        rank_group = join()
        assert rank_group is not None
        try:
            status = _command(place) if place.is_leader else EXIT[run_as_rank()["status"]]
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else status
            raise
        finally:
            rank_group.leave(status)
    except UserError as mistake:
        if not place.is_child:  # else who leads says it
            print(job.line(mistake), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return EXIT["interrupted"]
    return status


def _command(place: RankEnvironment) -> int:
    """The command line of a process that stands alone or leads."""
    typed, wanted = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    # Hydra would print several lines of its own and exit; asked for full errors it raises, and the lines below tell.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        # Hydra reads its options before or after all overrides, not between them.
        arguments = sorted(typed[1:], key=lambda argument: argument not in MULTIRUN)
        options = get_args_parser().parse_known_args(arguments)[0]
        _check_arguments(arguments, options, place)
        arguments = [argument if argument.startswith("-") else composition.choose(argument) for argument in arguments]
        if folder := finished(arguments):
            print(f"{folder} is complete: trainer.max_epochs=... beside ckpt= makes it longer")
            return 0
        if sweep_folder := sweep.named_sweep(arguments):
            return _resume(sweep_folder, arguments)
        sys.argv = [typed[0], *sweep.sweep_arguments(resume_arguments(arguments))]
        if any(getattr(options, name) for name in _SHOW):
            return _shown(options)
        return _hydra()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT["interrupted"]
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if wanted == "1":
            raise
        print(job.line(error), file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or wanted == "1":
            raise
        print(job.line(unwritten(error.filename or "paths.logs", error.strerror)), file=sys.stderr)
        return 2
    finally:
        sys.argv = typed
        del os.environ["HYDRA_FULL_ERROR"]
        if wanted is not None:
            os.environ["HYDRA_FULL_ERROR"] = wanted


def _check_arguments(arguments: Sequence[str], options: Namespace, place: RankEnvironment) -> None:
    """Refuse what Hydra would explain in many lines, or blame on another argument."""
    if place.ranks > 1 and (starts_sweep(arguments) or sweep.named_sweep(arguments)):
        way_out = f"start it without {place.launcher}, with trainer.devices={place.local_ranks}"
        raise UserError(f"-m: a sweep starts the processes of each run by itself: {way_out}")
    if options.multirun and options.cfg:
        raise UserError("--cfg shows the config of one run: leave out -m and the lists of values")
    parser = OverridesParser.create()
    for argument in options.overrides:
        if argument.startswith(("ckpt=", "resume_sweep=")):  # a path, whatever characters it has
            continue
        try:
            override = parser.parse_override(argument)
        except HydraException as error:
            raise explain_override(argument) from error
        if override.key_or_group == "sweep" and override.is_sweep_override():
            raise UserError(f"{argument}: a ready sweep is several runs already: name one of them")


def _hydra(*, shows: bool = False) -> int:
    """Let Hydra compose each job's config and start it, or show something; the worst exit status of all."""
    results: list[dict[str, Any]] = []
    failure: list[Exception] = []  # raised at the end, with its own causes: Hydra would add lines

    @hydra.main(version_base="1.3", config_path=str(composition.CONF), config_name="train")
    def application(config: DictConfig) -> float | None:
        settings = HydraConfig.get()
        folder = Path(settings.runtime.output_dir)
        if settings.mode == RunMode.MULTIRUN:
            result = job.of_sweep(config, folder)
        else:
            try:
                result = job.alone(config, folder)
            except Exception as error:
                failure.append(error)
                return None
            results.append(result)
        return job.score(config, result)

    composition.forget_folders(only_named=shows)
    sweep.Started.forget()
    try:
        application()
    except KeyboardInterrupt:
        _close_sweep()
        raise
    except sweep.Refused as refused:
        if folder := sweep.Started.folder():
            composition.discard_folder(folder)
        failure.append(refused.error)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        folder = sweep.Started.folder()
        mistake = folder and sweep.refused(folder)
        _close_sweep()
        if mistake:
            raise mistake from error
        raise
    finally:
        if started := sweep.Started.folder():
            sweep.unheed(started)
        sweep.let_go()
    if failure:
        raise failure[0]
    return _worst(_close_sweep() or [result["status"] for result in results])


def _shown(options: Namespace) -> int:
    """Let Hydra show what is asked for, and run nothing."""
    if "install=bash" in options.overrides:
        return _installed()
    if options.hydra_help:  # is about no config of ours
        sys.argv = [argument for argument in sys.argv if argument not in options.overrides]
    theirs = Hydra.get_sanitized_cfg

    def resolved(hydra: Hydra, cfg: DictConfig, cfg_type: str) -> DictConfig:
        """Hydra would resolve its own part once the rest, to which that refers, is taken away."""
        if options.resolve and cfg_type != "job":
            OmegaConf.resolve(cfg)
        return theirs(hydra, cfg, cfg_type)

    with mock.patch.object(Hydra, "get_sanitized_cfg", resolved):
        try:
            return _hydra(shows=True)
        except ValueError as error:  # options that don't go together
            raise UserError(" ".join(str(error).split())) from error


def _installed() -> int:
    """Print Hydra's completion for bash, mended: on TAB it would run any Python file, and show what goes wrong."""
    with redirect_stdout(io.StringIO()) as script:
        status = _hydra()
    mended = script.getvalue().replace("$file_path -q\n", "$file_path -q || return\n")
    print(mended.replace("query=bash)", "query=bash 2>/dev/null)"), end="")
    return status


def _close_sweep() -> list[str]:
    """Tell how the sweep came out, if there was one; the statuses of its jobs. Without any it leaves no folder."""
    folder = sweep.Started.folder()
    if folder:
        composition.discard_folder(folder)
    if not folder or not folder.exists():
        return []
    sweep.update(folder)  # a job that was killed has not done so
    return sweep.close(folder)


def _worst(statuses: Iterable[str]) -> int:
    return max((EXIT[status] for status in statuses), default=0)


def _resume(folder: Path, arguments: Sequence[str]) -> int:
    """Go on with the sweep in `folder`, if there is anything left to run."""
    arguments = sweep.resume_arguments(folder, arguments)
    if sweep.left_to_run(folder) == 0:
        print(f"{folder} is complete")
        return _worst(sweep.close(folder))
    with sweep.held(folder):
        sweep.set_aside(folder)
        sys.argv = [sys.argv[0], *arguments]
        return _hydra()


if __name__ == "__main__":
    sys.exit(main())
