"""What is typed to start a sweep, as Hydra needs it; and what Hydra refuses of it, as a person needs it."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alexnet_lit.config import compose
from alexnet_lit.errors import Mistake
from alexnet_lit.resume import starts_sweep
from alexnet_lit.sweep.jobs import PLAN, planned
from alexnet_lit.sweep.lock import hold
from alexnet_lit.sweep.workers import heed, on_this_machine

_OURS = {"hydra/sweeper=optuna": "hydra/sweeper=search"}  # the plugin's own knows no direction of ours


class Started(Callback):
    """Hydra tells it that a sweep starts, in the process that the person started, whichever processes run the jobs."""

    _folders: ClassVar[list[Path]] = []

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remember the sweep, and let no other process go on with it."""
        with suppress(Mistake, OmegaConfBaseException):  # a folder that can't be made is told by Hydra's next step
            self._folders[:] = [Path(config.hydra.sweep.dir)]
            hold(self._folders[0])
            if not (self._folders[0] / PLAN).exists():
                OmegaConf.save(config, self._folders[0] / PLAN)  # only Hydra's own sweeper does so by itself
            if ".hydra_submitit_launcher." in str(config.hydra.launcher["_target_"]):
                from alexnet_lit.sweep import queue  # the plugin is there only with alexnet-lit[sweep]

                queue.stand_in()
            if on_this_machine(config.hydra.launcher):
                heed(self._folders[0])
            if str(config.hydra.sweeper["_target_"]).endswith(".OptunaSweeper"):
                _quiet_optuna()

    @classmethod
    def forget(cls) -> None:
        """Before Hydra is started."""
        cls._folders.clear()

    @classmethod
    def folder(cls) -> Path | None:
        """The folder of the sweep that was started since; None where there was none, and in processes of its jobs."""
        return cls._folders[0] if cls._folders else None


def _quiet_optuna() -> None:
    """It would tell of its study in a line of its own kind."""
    import optuna

    optuna.logging.set_verbosity(logging.WARNING)


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
    """The direction of a search. Raises: Mistake if it has nothing to go by."""
    if objective is None:
        raise Mistake("objective=null: a search needs one: use objective=val/acc, or a sweep that is no search")
    return direction


def refused(sweep: Path) -> Mistake | None:
    """The first job that can't be composed, and why; None where all can."""
    jobs = planned(sweep) or []
    for job in jobs:
        try:
            compose(*job)
        except Mistake as mistake:
            differs = [override for n, override in enumerate(job) if len({other[n] for other in jobs}) > 1]
            named = str(mistake).startswith(
                tuple(override.partition("=")[0] + end for override in differs for end in ":=")
            )
            which = f"{' '.join(differs)}: " if differs and not named else ""
            return Mistake(f"{which}{mistake} (no job was started)")
    return None


OmegaConf.register_new_resolver("alexnet_lit.aim", aim, replace=True)
