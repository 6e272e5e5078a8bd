"""hydra/launcher=joblib: jobs of a sweep side by side, each in a process of its own.

joblib gives up on all jobs, and kills those that run, as soon as one of its processes ends. Here each process is alone
in its pool, and runs one job after another; where one dies, another takes its place.
"""

import os
import signal
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_joblib_launcher._core import execute_job
from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher
from joblib import cpu_count, effective_n_jobs
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from alexnet_lit.errors import UserError
from alexnet_lit.sweep.jobs import worst
from alexnet_lit.sweep.signals import stopping_jobs_first
from alexnet_lit.terminal import handling


class ProcessLauncher(JoblibLauncher):
    """`n_jobs` processes; the other keys of hydra/launcher=joblib concern how joblib hands out many short tasks."""

    def setup(self, **given: Any) -> None:
        """Raises: UserError for a number of processes that is none, and for a time limit."""
        super().setup(**given)
        if self.joblib["n_jobs"] == 0:
            raise UserError("hydra.launcher.n_jobs=0: use a number of processes, or -1 for one a core")
        if (timeout := self.joblib["timeout"]) is not None:
            raise UserError(f"hydra.launcher.timeout={timeout}: ends no job here: use trainer.max_time")
        self._free: list[ProcessPoolExecutor] = []  # kept, as a search calls `launch` for each few trials

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run the jobs, however each of them ends; the worst score for those whose process was killed."""
        assert self.config is not None
        waiting = deque(enumerate(job_overrides, initial_job_idx))
        processes = min(effective_n_jobs(self.joblib["n_jobs"]), len(waiting))
        environment = {"OMP_NUM_THREADS": str(max(1, cpu_count() // processes)), **os.environ}
        given = (self.hydra_context, self.config, self.task_function, Singleton.get_state())
        running: dict[Future[JobReturn], tuple[ProcessPoolExecutor, int]] = {}
        results: dict[int, JobReturn] = {}
        try:
            with stopping_jobs_first(Path(self.config.hydra.sweep.dir)):
                while waiting or running:
                    while waiting and len(running) < processes:
                        number, overrides = waiting.popleft()
                        pool = self._free.pop() if self._free else ProcessPoolExecutor(1, env=environment)
                        with handling([signal.SIGINT], signal.SIG_IGN):  # until it runs a job
                            running[pool.submit(execute_job, number, overrides, *given)] = pool, number
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        pool, number = running.pop(future)
                        try:
                            results[number] = future.result()
                            self._free.append(pool)
                        except TerminatedWorkerError:
                            print(f"job {number}  was killed", flush=True)
                            score = worst(self.config.direction)
                            results[number] = JobReturn(status=JobStatus.COMPLETED, _return_value=score)
        except BaseException:
            for pool in [*self._free, *(pool for pool, _ in running.values())]:
                pool.shutdown(kill_workers=True)
            raise
        return [results[number] for number in sorted(results)]
