"""Starting a sweep: Hydra's arguments, and the callback that checks the sweep and prepares its launcher."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alexnet_lit.config import PLAN, claim_folder, lock_run, to_plain
from alexnet_lit.errors import UserError
from alexnet_lit.sweep.jobs import MULTIRUN, move_failed_jobs, unfinished_jobs
from alexnet_lit.sweep.signals import STOP

_OURS = {"hydra/sweeper=optuna": "hydra/sweeper=search"}  # the plugin's own does not know `direction`
_PLUGINS = {  # classes of alexnet-lit[sweep]'s plugins, and the subclasses in this package that replace them
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher": "joblib_launcher.ProcessLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher": "submitit_launcher.SlurmQueueLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher": "submitit_launcher.LocalProcessLauncher",
    "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper": "optuna_study.Search",
}


class SweepRefused(BaseException):
    """An error found as a sweep starts. Not an Exception: Hydra turns those of a callback into warnings."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class SweepCallback(Callback):
    """Called by Hydra as a sweep starts, in the process that started it, whichever processes run the jobs.

    folder: the sweep's; None before a sweep has started, and in processes of its jobs.
    """

    folder: ClassVar[Path | None] = None
    _lock: ClassVar = ExitStack()

    def __init__(self, *, resumes: bool) -> None:
        self._resumes = resumes

    @classmethod
    def forget(cls) -> None:
        """Let go of the sweep, so that this process can start another."""
        cls.folder = None
        cls._lock.close()

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check the sweep, lock it, and put our classes in the place of plugins'. Raises: SweepRefused."""
        for plugin in (config.hydra.launcher["_target_"], config.hydra.sweeper["_target_"]):
            if plugin in _PLUGINS:  # Hydra finds plugins in packages of plugins alone
                Plugins.instance().class_name_to_class[plugin] = get_class(f"alexnet_lit.sweep.{_PLUGINS[plugin]}")
        try:
            self._take_folder(config)
        except (UserError, OmegaConfBaseException) as error:
            raise SweepRefused(error) from error

    def _take_folder(self, config: DictConfig) -> None:
        folder = Path(config.hydra.sweep.dir)
        if not self._resumes:
            claim_folder(folder, "hydra.sweep.dir")
        SweepCallback._lock.enter_context(lock_run(folder, "sweep"))
        if self._resumes:
            if (folder / ".submitit").is_dir():
                from alexnet_lit.sweep.submitit_launcher import check_queue

                check_queue(folder)
            for job in unfinished_jobs(folder):  # a launcher's process outlives one that was killed
                with lock_run(job.folder):
                    pass
            move_failed_jobs(folder)
            (folder / STOP).unlink(missing_ok=True)  # left by a process that was killed as it stopped
        SweepCallback.folder = folder
        if not self._resumes:
            OmegaConf.save(config, folder / PLAN)  # only Hydra's own sweeper does so by itself
            if "alexnet_lit.job_folder:" not in (names := to_plain(config.hydra.sweep, raw=True)["subdir"]):
                raise UserError(f"hydra.sweep.subdir={names}: jobs lie in folders <number>_<overrides>: leave it out")


def starts_sweep(arguments: Sequence[str]) -> bool:
    """Whether several runs are asked for: by -m, or by a ready sweep."""
    return bool(MULTIRUN & set(arguments)) or any(argument.startswith("sweep=") for argument in arguments)


def sweep_arguments(arguments: Sequence[str]) -> list[str]:
    """The overrides of a sweep as Hydra needs them.

    Folders of jobs are named after what differs between them. And of what is the same for all jobs, keys of a group
    that is swept over become choices of one: Hydra would look for them in the group's default before a job's choice.
    """
    arguments = [_OURS.get(argument, argument) for argument in arguments]
    overrides = OverridesParser.create().parse_overrides(arguments)
    swept = {override.key_or_group: override.input_line for override in overrides if override.is_sweep_override()}
    if "sweep" in swept:
        raise UserError(f"{swept['sweep']}: a ready sweep is several runs already: name one of them")
    same = []
    for n, override in enumerate(overrides):
        if override.is_sweep_override() or override.is_hydra_override():
            continue
        same.append(override.key_or_group)
        key, _, value = arguments[n].partition("=")
        if override.key_or_group.partition(".")[0] in swept and value and not key.startswith("~"):
            arguments[n] = f"{key}=choice({value})"
    return [*arguments, f"hydra.job.config.override_dirname.exclude_keys=[{','.join(dict.fromkeys(same))}]"]
