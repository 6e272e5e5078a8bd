"""Weights & Biases and MLflow, both extras: a run of theirs for each of ours, continued when ours is resumed."""

import hashlib
import os
from collections.abc import Mapping
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

from filelock import FileLock
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import MLFlowLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from alexnet_lit.errors import UserError

_SCORES = ("test/acc", "test/loss", "val/acc_best", "images_per_second", "seconds")
_STATUSES = {"completed": "FINISHED", "interrupted": "KILLED", "diverged": "FAILED", "failed": "FAILED"}


class WandB(WandbLogger):
    """Lightning's logger for Weights & Biases, with an id made from the run's folder, by which it is resumed.

    run_dir: the run's folder, which gives the name; of a job, its sweep's folder is the group. settings: of wandb.init.
    Raises: UserError without the package wandb, and without an account unless WANDB_MODE=offline.
    """

    def __init__(self, *, run_dir: str, project: str, **settings: Any) -> None:
        name, key, sweep = _place("wandb", Path(run_dir))
        own = {"group": sweep, "settings": {"console": "off"}}  # train.log has the console's text
        super().__init__(name=name, save_dir=run_dir, id=key, project=project, **own | settings)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The wandb.Run, begun when it is first asked for."""
        import wandb

        try:
            return super().experiment
        except wandb.errors.UsageError as error:
            hint = "run `wandb login`, or set WANDB_MODE=offline"
            raise UserError(f"logger=wandb: {str(error).splitlines()[0]}: {hint}") from error

    @rank_zero_only
    def end(self, result: Mapping[str, Any]) -> None:
        """Write the scores and status into the summary, and finish: the next run of this process has its own."""
        if self._experiment is None:
            return
        self.experiment.summary.update({name: result[name] for name in ("status", *_SCORES) if name in result})
        self.experiment.finish(exit_code=0 if result["status"] == "completed" else 1)
        self._experiment = None


class MLflow(MLFlowLogger):
    """Lightning's logger for MLflow; a resumed run continues the one that has its folder's key as a tag.

    run_dir: the run's folder, which gives the name. settings: of Lightning's MLFlowLogger.
    Raises: UserError without the package mlflow.
    """

    _TAG = "alexnet_lit.run"

    def __init__(self, *, run_dir: str, experiment_name: str, tracking_uri: str, **settings: Any) -> None:
        name, key, sweep = _place("mlflow", Path(run_dir))
        tags = {**settings.pop("tags", {}), self._TAG: key, **({"sweep": sweep} if sweep else {})}
        database = tracking_uri.partition("sqlite:///")[2]
        # MLflow makes its database, and Lightning the experiment, without a lock: of jobs that begin at once one could.
        self._making = FileLock(f"{database}.lock") if database else nullcontext()
        with self._making:
            super().__init__(experiment_name, run_name=name, tracking_uri=tracking_uri, tags=tags, **settings)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The MlflowClient; its run is begun, or found, when it is first asked for."""
        if self._initialized:
            return super().experiment
        with self._making, mock.patch.dict(os.environ):  # MLflow leaves its address there, for later runs too
            found = self._mlflow_client.get_experiment_by_name(self._experiment_name)
            if found is not None and self._run_id is None:
                text = f"tags.`{self._TAG}` = '{(self.tags or {})[self._TAG]}'"
                for run in self._mlflow_client.search_runs([found.experiment_id], text, max_results=1):
                    self._run_id = run.info.run_id
                    self._mlflow_client.update_run(self._run_id, status="RUNNING")
            return super().experiment

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log the config, unless the run has one: MLflow refuses another value."""
        if not self.experiment.get_run(self.run_id).data.params:
            super().log_hyperparams(params)

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Nothing: Lightning calls this after the fit, and the test is still to come."""

    @rank_zero_only
    def end(self, result: Mapping[str, Any]) -> None:
        """Write the scores that it has not, and the status: FINISHED, KILLED where interrupted, or FAILED."""
        if not self._initialized:
            return
        scores = {name: float(result[name]) for name in _SCORES if result.get(name) is not None}
        self.log_metrics(scores, step=result.get("steps"))
        self.experiment.set_tag(self.run_id, "status", result["status"])
        self.experiment.set_terminated(self.run_id, _STATUSES[result["status"]])


def _place(package: str, folder: Path) -> tuple[str, str, str | None]:
    """The name of a run's folder, a key of it that stays when logs/ is moved, and of a job its sweep's name.

    Raises: UserError without the package.
    """
    if find_spec(package) is None:
        hint = f'pip install "alexnet-lit[{package}]"'
        raise UserError(f"logger={package}: needs a package that is not installed: {hint}")
    key = hashlib.sha256("/".join(folder.parts[-2:]).encode()).hexdigest()[:16]
    sweep = folder.parent
    return folder.name, key, sweep.name if sweep.parent.name == "sweeps" else None
