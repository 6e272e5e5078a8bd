"""hydra/launcher=submitit_slurm and submitit_local: jobs of a sweep in Slurm's queue, or as processes of this machine.

All are waited for, however they end, and what was stopped before its time was up is queued again. The plugin's own
launchers wait for a result that a killed job never writes, and give up on all jobs when one has none.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import BaseSubmititLauncher, LocalLauncher, SlurmLauncher
from submitit import AutoExecutor, JobEnvironment
from submitit.core.utils import FailedJobError, UncompletedJobError

from alexnet_lit.errors import UserError
from alexnet_lit.sweep.jobs import read_job, worst
from alexnet_lit.sweep.signals import stopping_jobs_first
from alexnet_lit.terminal import handling


class _Submitit(BaseSubmititLauncher):
    """What both launchers have in common. An instance is pickled into each job, as Hydra's launchers are."""

    def setup(self, **given: Any) -> None:
        """Raises: UserError for several tasks: they would be several runs in one folder."""
        super().setup(**given)
        for key in ("nodes", "tasks_per_node"):
            if self.params[key] != 1:
                hint = "use trainer.devices for the processes of a run"
                raise UserError(f"hydra.launcher.{key}={self.params[key]}: a job of a sweep is one task: {hint}")

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Start the jobs, and wait until all have ended; the worst score for those that died."""
        assert self.config is not None
        shared = {field.name for field in fields(BaseQueueConf)}
        options = {key if key in shared else f"{self._EXECUTOR}_{key}": value for key, value in self.params.items()}
        tries = {key: options.pop(key) for key in ("slurm_max_num_timeout",) if key in options}
        state = Singleton.get_state()
        arguments = [
            (list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", state)
            for number, overrides in enumerate(job_overrides, initial_job_idx)
        ]
        try:
            executor = AutoExecutor(folder=options.pop("submitit_folder"), cluster=self._EXECUTOR, **tries)
            executor.update_parameters(**options)
            with handling([signal.SIGINT], signal.SIG_IGN):  # until they run a job
                jobs = executor.map_array(self, *zip(*arguments, strict=True))
        except (RuntimeError, FailedJobError) as error:  # there is no Slurm; of the command sbatch, what it has printed
            reason = str(error).strip().splitlines()[-1]
            raise UserError(f"hydra/launcher=submitit_{self._EXECUTOR}: {reason}: see hydra.launcher's keys") from error
        self._wait(jobs)
        lost = JobReturn(status=JobStatus.COMPLETED, _return_value=worst(self.config.direction))
        return [job.result() if job.paths.result_pickle.exists() and not job.exception() else lost for job in jobs]

    def __call__(self, *arguments: Any) -> JobReturn:
        """In the job: run it. A run that has saved because its time will soon be up hands over to submitit, which
        queues it again, or leaves it if it has had its number of times (`max_num_timeout`).
        """
        warned = signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]  # Slurm's warning to submitit's jobs
        result: JobReturn = super().__call__(*arguments)
        assert result.hydra_cfg is not None
        job = read_job(Path(result.hydra_cfg.hydra.runtime.output_dir))
        if job.status == "interrupted" and job.reason == warned.name:
            with suppress(UncompletedJobError):
                signal.raise_signal(warned)
        return result

    def _wait(self, jobs: list[Any]) -> None:
        began = time.monotonic()
        while self._running(jobs):
            time.sleep(min(30.0, 1 + (time.monotonic() - began) / 20))

    def _running(self, jobs: list[Any]) -> bool:
        return not all(job.done() for job in jobs)


class SlurmQueueLauncher(_Submitit, SlurmLauncher):
    """Jobs in Slurm's queue, which alone says whether one of them has ended: many clusters keep no accounts."""

    def _wait(self, jobs: list[Any]) -> None:
        numbers = " ".join(dict.fromkeys(job.job_id.partition("_")[0] for job in jobs))
        try:
            print(f"{len(jobs)} job{'s' * (len(jobs) > 1)} submitted: squeue --job={numbers}", flush=True)
            super()._wait(jobs)
        except KeyboardInterrupt:
            print(f"the jobs stay in the queue: scancel {numbers} ends them", flush=True)
            raise

    def _running(self, jobs: list[Any]) -> bool:
        queue = queued()  # None while Slurm's controller does not answer
        return queue is None or any(job.job_id in queue for job in jobs)


class LocalProcessLauncher(_Submitit, LocalLauncher):
    """Jobs as processes of this machine."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """As on Slurm, but that Ctrl-C ends the jobs."""
        assert self.config is not None
        with stopping_jobs_first(Path(self.config.hydra.sweep.dir)):
            return super().launch(job_overrides, initial_job_idx)


def queued() -> set[str] | None:
    """Numbers of the user's jobs that wait or run, as 12 or, in an array, 12_0. None if Slurm does not answer."""
    if shutil.which("squeue") is None:
        return set()
    command = ["squeue", "--all", "--noheader", "--array", "--format=%i", f"--user={os.getuid()}"]
    listed = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    return None if listed.returncode else set(listed.stdout.split())


def check_queue(sweep: Path) -> None:
    """Raises: UserError while jobs of the sweep are in Slurm's queue."""
    submitted = {path.name for path in (sweep / ".submitit").glob("*")}  # submitit names a folder after each job
    if jobs := sorted(submitted & (queued() or set())):
        hint = f"wait for their end, or scancel {' '.join(dict.fromkeys(job.partition('_')[0] for job in jobs))}"
        raise UserError(f"{sweep}: {len(jobs)} of its jobs are in Slurm's queue: {hint}")
