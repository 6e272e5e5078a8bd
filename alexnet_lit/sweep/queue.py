"""Jobs of a sweep that submitit starts, in Slurm's queue or as processes of this machine: all are waited for, however
they end, and what was stopped before its time was up is queued again.

The plugin's own launchers wait for a result that a killed job never writes, and give up on all jobs when one has none.
"""

import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher, LocalLauncher, SlurmLauncher

from alexnet_lit.errors import UserError
from alexnet_lit.sweep.jobs import read_job, worst
from alexnet_lit.sweep.slurm import queued
from alexnet_lit.sweep.workers import deaf


class _Queue(BaseSubmititLauncher):
    """What both have in common. An instance of it travels to each job, as Hydra's launchers do."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Start the jobs, and wait until none of them is left."""
        jobs = self._submit(job_overrides, initial_job_idx)
        self._wait(jobs)
        return [self._told(job) for job in jobs]

    def __call__(self, *arguments: Any) -> JobReturn:
        """In the job: run it. A run that has saved because its time will soon be up hands the matter to submitit, which
        queues it again, or leaves it where it is if it has had its number of times (`max_num_timeout`).
        """
        from submitit import JobEnvironment
        from submitit.core.utils import UncompletedJobError

        warned = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]  # by which Slurm warns those whom submitit starts
        told: JobReturn = super().__call__(*arguments)
        assert told.hydra_cfg is not None
        job = read_job(Path(told.hydra_cfg.hydra.runtime.output_dir))
        if job.status == "interrupted" and job.reason == warned.name:
            with suppress(UncompletedJobError):
                signal.raise_signal(warned)
        return told

    def _submit(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[Any]:
        import submitit

        shared = {field.name for field in fields(BaseQueueConf)}
        options = {key if key in shared else f"{self._EXECUTOR}_{key}": value for key, value in self.params.items()}
        tries = {key: options.pop(key) for key in ("slurm_max_num_timeout",) if key in options}
        executor = submitit.AutoExecutor(folder=options.pop("submitit_folder"), cluster=self._EXECUTOR, **tries)
        executor.update_parameters(**options)
        state = Singleton.get_state()
        jobs = [
            (list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", state)
            for number, overrides in enumerate(job_overrides, first)
        ]
        return list(executor.map_array(self, *zip(*jobs, strict=True)))

    def _wait(self, jobs: list[Any]) -> None:
        began = time.monotonic()
        while self._left(jobs):
            time.sleep(min(30.0, 1 + (time.monotonic() - began) / 20))

    def _left(self, jobs: list[Any]) -> list[Any]:
        """Those that have not ended."""
        raise NotImplementedError  # a subclass's task

    def _told(self, job: Any) -> JobReturn:
        """What a job has to say; of one that died, the worst that a search can be told."""
        first = job.task(0)
        if first.paths.result_pickle.exists() and first.exception() is None:
            told: JobReturn = first.result()
            return told
        assert self.config is not None
        return JobReturn(status=JobStatus.COMPLETED, _return_value=worst(self.config.direction))


class Slurm(_Queue, SlurmLauncher):
    """Jobs in Slurm's queue, which alone says whether one of them is still to come: many clusters keep no accounts."""

    def setup(self, **given: Any) -> None:
        """Raises: UserError where there is no Slurm."""
        super().setup(**given)
        if shutil.which("sbatch") is None:
            way_out = "start it on a machine that has it, or use hydra/launcher=joblib"
            raise UserError(f"hydra/launcher=submitit_slurm: there is no Slurm here (no sbatch): {way_out}")

    def _submit(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[Any]:
        from submitit.core.utils import FailedJobError

        notes = Path(self.params["submitit_folder"]).parent
        fresh = not notes.exists()
        try:
            return super()._submit(job_overrides, first)
        except FailedJobError as error:  # of the command sbatch, with what it has printed
            if fresh:
                shutil.rmtree(notes)
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"hydra/launcher=submitit_slurm: {reason}: see hydra.launcher's keys") from error

    def _wait(self, jobs: list[Any]) -> None:
        numbers = " ".join(dict.fromkeys(job.job_id.partition("_")[0] for job in jobs))
        try:
            print(f"{len(jobs)} job{'s' * (len(jobs) > 1)} submitted: squeue --job={numbers}", flush=True)
            super()._wait(jobs)
        except KeyboardInterrupt:
            print(f"the jobs stay in the queue: scancel {numbers} ends them", flush=True)
            raise

    def _left(self, jobs: list[Any]) -> list[Any]:
        queue = queued()  # Slurm's controller may be away for a while
        return jobs if queue is None else [job for job in jobs if job.job_id in queue]


class Local(_Queue, LocalLauncher):
    """Jobs as processes of this machine."""

    def setup(self, **given: Any) -> None:
        """Raises: UserError for what only Slurm can do."""
        super().setup(**given)
        if (tasks := self.params["tasks_per_node"]) != 1:
            way_out = "use trainer.devices for the processes of a run"
            raise UserError(f"hydra.launcher.tasks_per_node={tasks}: hydra/launcher=submitit_local has one: {way_out}")

    def _submit(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[Any]:
        with deaf():
            return super()._submit(job_overrides, first)

    def _left(self, jobs: list[Any]) -> list[Any]:
        return [job for job in jobs if not job.done()]


def stand_in() -> None:
    """Let them be what Hydra knows by the names of the plugin's: it takes launchers from packages of plugins alone."""
    for theirs, ours in ((SlurmLauncher, Slurm), (LocalLauncher, Local)):
        Plugins.instance().class_name_to_class[f"{theirs.__module__}.{theirs.__name__}"] = ours
