"""Starting a sweep: Hydra's arguments, and the callback that checks the sweep and prepares its launcher."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alexnet_lit.config import PLAN, as_typed, claim_folder
from alexnet_lit.errors import UserError
from alexnet_lit.sweep.jobs import MULTIRUN, hold, is_held
from alexnet_lit.sweep.signals import install_sigint_handler

_OURS = {"hydra/sweeper=optuna": "hydra/sweeper=search"}  # the plugin's own knows no direction of ours


class Refused(BaseException):
    """An error found as a sweep starts. Of an Exception in a callback Hydra would only warn."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class SweepCallback(Callback):
    """Called by Hydra as a sweep starts, in the process that started it, whichever processes run the jobs.

    folder: the sweep's; None before a sweep has started, and in processes of its jobs.
    """

    folder: ClassVar[Path | None] = None

    @classmethod
    def forget(cls) -> None:
        """Begin a new command in this process."""
        cls.folder = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check the sweep, lock it, and prepare its launcher. Raises: Refused for wrong input."""
        try:
            _start(config)
        except (UserError, OmegaConfBaseException) as error:
            raise Refused(error) from error


def _start(config: DictConfig) -> None:
    folder, new = Path(config.hydra.sweep.dir), not is_held()
    if new:
        claim_folder(folder, "hydra.sweep.dir")
        hold(folder)
    SweepCallback.folder = folder
    if new:
        OmegaConf.save(config, folder / PLAN)  # only Hydra's own sweeper does so by itself
        if "alexnet_lit.job_folder:" not in (names := as_typed(config.hydra.sweep)["subdir"]):
            raise UserError(f"hydra.sweep.subdir={names}: jobs lie in folders <number>_<overrides>: leave it out")
    # Plugins are there only with alexnet-lit[sweep].
    launcher = str(config.hydra.launcher["_target_"])
    if ".hydra_submitit_launcher." in launcher:
        from alexnet_lit.sweep import submitit_launcher

        submitit_launcher.register()
    if launcher.endswith(".JoblibLauncher"):
        from alexnet_lit.sweep import joblib_launcher

        joblib_launcher.register()
    if launcher.endswith((".JoblibLauncher", ".LocalLauncher")):  # jobs are processes of this terminal
        install_sigint_handler(folder)
    if str(config.hydra.sweeper["_target_"]).endswith(".OptunaSweeper"):
        from alexnet_lit.sweep.optuna_study import open_study

        open_study(config.hydra)


def starts_sweep(arguments: Sequence[str]) -> bool:
    """Whether several runs are asked for: by -m, or by a ready sweep."""
    return bool(MULTIRUN & set(arguments)) or any(argument.startswith("sweep=") for argument in arguments)


def sweep_arguments(arguments: Sequence[str]) -> list[str]:
    """Hydra's arguments for a sweep; `arguments` as they are if they start none.

    Folders of jobs are named after what differs between them. And of what is the same for all jobs, keys of a group
    that is swept over become choices of one: Hydra would look for them in the group's default before a job's choice.
    """
    if not starts_sweep(arguments):
        return list(arguments)
    arguments = [_OURS.get(argument, argument) for argument in arguments]
    places = [n for n, argument in enumerate(arguments) if "=" in argument and not argument.startswith("-")]
    overrides = {n: OverridesParser.create().parse_override(arguments[n]) for n in places}
    swept = {override.key_or_group for override in overrides.values() if override.is_sweep_override()}
    names = []
    for n, override in overrides.items():
        if override.is_sweep_override() or override.is_hydra_override():
            continue
        names.append(override.key_or_group)
        key, _, value = arguments[n].partition("=")
        if override.key_or_group.partition(".")[0] in swept and value and not key.startswith("~"):
            arguments[n] = f"{key}=choice({value})"
    # Hydra reads its options before or after all overrides, not between them.
    exclude = f"hydra.job.config.override_dirname.exclude_keys=[{','.join(dict.fromkeys(names))}]"
    arguments.insert(max(places, default=-1) + 1, exclude)
    return arguments


def search_direction(objective: str | None, direction: str) -> str:
    """The direction of a search. Raises: UserError if it has no objective."""
    if objective is None:
        raise UserError("objective=null: a search needs one: use objective=val/acc, or a sweep that is no search")
    return direction


OmegaConf.register_new_resolver("alexnet_lit.search_direction", search_direction, replace=True)
