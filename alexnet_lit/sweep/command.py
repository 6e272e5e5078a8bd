"""What is typed to start a sweep, as Hydra needs it; and what Hydra refuses of it, as a person needs it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alexnet_lit.config import as_typed, claim, compose
from alexnet_lit.errors import UserError
from alexnet_lit.resume import holds, starts_sweep
from alexnet_lit.sweep.jobs import PLAN, planned, subfolder
from alexnet_lit.sweep.lock import goes_on, hold
from alexnet_lit.sweep.workers import heed, on_this_machine

_OURS = {"hydra/sweeper=optuna": "hydra/sweeper=search"}  # the plugin's own knows no direction of ours


class Refused(BaseException):
    """A mistake that was found as a sweep starts. Of an Exception in a callback Hydra would only warn."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Started(Callback):
    """Hydra tells it that a sweep starts, in the process that the person started, whichever processes run the jobs."""

    _folders: ClassVar[list[Path]] = []

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remember the sweep, and let no other process go on with it. Raises: Refused for a mistake."""
        try:
            self._start(config)
        except (UserError, OmegaConfBaseException) as error:
            raise Refused(error) from error

    def _start(self, config: DictConfig) -> None:
        folder, new = Path(config.hydra.sweep.dir), not goes_on()
        if new:
            _take(folder)
        self._folders[:] = [folder]
        if new:
            OmegaConf.save(config, folder / PLAN)  # only Hydra's own sweeper does so by itself
            _check_subfolders(config, folder)
        launcher = str(config.hydra.launcher["_target_"])  # plugins are there only with alexnet-lit[sweep]
        if ".hydra_submitit_launcher." in launcher:
            from alexnet_lit.sweep import queue

            queue.stand_in()
        if launcher.endswith(".JoblibLauncher"):
            from alexnet_lit.sweep import parallel

            parallel.stand_in()
        if on_this_machine(config.hydra.launcher):
            heed(folder)
        if str(config.hydra.sweeper["_target_"]).endswith(".OptunaSweeper"):
            from alexnet_lit.sweep import study

            study.open_study(config.hydra)

    @classmethod
    def forget(cls) -> None:
        """Before Hydra is started."""
        cls._folders.clear()

    @classmethod
    def folder(cls) -> Path | None:
        """The folder of the sweep that was started since; None where there was none, and in processes of its jobs."""
        return cls._folders[0] if cls._folders else None


def _take(folder: Path) -> None:
    """Make the folder of a new sweep. Raises: UserError if there are results in it: they would be taken for its own."""
    there = holds(folder)
    if there:
        way_out = f"go on with it by resume_sweep={folder}, or name" if there == "a sweep" else "name"
        raise UserError(f"hydra.sweep.dir={folder}: there is {there} in it already: {way_out} another folder")
    claim(folder, "hydra.sweep.dir")
    hold(folder)


def _check_subfolders(config: DictConfig, sweep: Path) -> None:
    """Raise the UserError of jobs that would not have folders of their own, straight in the sweep's."""
    pattern = as_typed(config.hydra.sweep)["subdir"]
    if "job_folder:" in pattern:  # ours
        return
    loader = GlobalHydra.instance().config_loader()
    try:
        jobs = planned(sweep) or [[], []]  # two trials of a search differ in number at least
        names = [subfolder(loader, config, number, job) for number, job in enumerate(jobs)]
    except HydraException:  # a job that can't be composed, which Hydra's next step tells
        return
    for number, name in enumerate(names):
        if Path(name).name != name:
            raise UserError(f"hydra.sweep.subdir={pattern}: {name} is no folder straight in the sweep's: use a name")
        if name in names[:number]:
            both = f"jobs {names.index(name)} and {number} would both have {name}"
            raise UserError(f"hydra.sweep.subdir={pattern}: {both}: put ${{hydra.job.num}} into it")


def sweep_arguments(arguments: Sequence[str]) -> list[str]:
    """What to tell Hydra instead of `arguments` when they start a sweep; else they as they are.

    Folders of jobs are named after what differs between them. And of what is the same for all jobs, keys of a group
    that is swept over wait for each job's choice: Hydra would look for them in the group's default.
    """
    if not starts_sweep(arguments):
        return list(arguments)
    arguments = [_OURS.get(argument, argument) for argument in arguments]
    parser = OverridesParser.create()
    places = [n for n, argument in enumerate(arguments) if "=" in argument and not argument.startswith("-")]
    overrides = [parser.parse_override(arguments[n]) for n in places]
    swept = {override.key_or_group for override in overrides if override.is_sweep_override()}
    same = [each for each in overrides if not each.is_sweep_override() and not each.is_hydra_override()]
    waiting = {each.input_line for each in same if each.key_or_group.partition(".")[0] in swept}
    names = ",".join(dict.fromkeys(each.key_or_group for each in same))
    told = [_wait(argument) if argument in waiting else argument for argument in arguments]
    # Hydra reads its options before or after all overrides, not between them.
    told.insert(max(places, default=-1) + 1, f"hydra.job.config.override_dirname.exclude_keys=[{names}]")
    return told


def _wait(argument: str) -> str:
    """A choice of one: a sweep over a single value."""
    key, _, value = argument.partition("=")
    return f"{key}=choice({value})" if value and not key.startswith("~") else argument


def aim(objective: str | None, direction: str) -> str:
    """The direction of a search. Raises: UserError if it has nothing to go by."""
    if objective is None:
        raise UserError("objective=null: a search needs one: use objective=val/acc, or a sweep that is no search")
    return direction


def refused(sweep: Path) -> UserError | None:
    """The first job that can't be composed, and why; None where all can."""
    jobs = planned(sweep) or []
    for job in jobs:
        try:
            compose(*job)
        except UserError as mistake:
            differs = [override for n, override in enumerate(job) if len({other[n] for other in jobs}) > 1]
            named = str(mistake).startswith(
                tuple(override.partition("=")[0] + end for override in differs for end in ":=")
            )
            which = f"{' '.join(differs)}: " if differs and not named else ""
            return UserError(f"{which}{mistake} (no job was started)")
    return None


OmegaConf.register_new_resolver("alexnet_lit.aim", aim, replace=True)
