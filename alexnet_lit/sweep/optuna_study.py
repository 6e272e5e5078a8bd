"""A search by Optuna that can be resumed: new trials are appended to the study, with other random values."""

import logging
from pathlib import Path
from typing import Any

import optuna
from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper
from omegaconf import DictConfig

from alexnet_lit.errors import UserError, check_choice, reason_of
from alexnet_lit.sweep.jobs import jobs_of


class Search(OptunaSweeper):
    """The plugin's sweeper; if its folder holds trials already, it runs the remaining ones."""

    def setup(self, *, config: DictConfig, **given: Any) -> None:
        """Raises: UserError without an objective, and for a study that can't be used."""
        if config.objective is None:
            raise UserError("objective=null: a search needs one: use objective=val/acc, or a sweep that is no search")
        super().setup(config=config, **given)
        optuna.logging.set_verbosity(logging.WARNING)
        search = self.sweeper
        check_choice("direction", search.direction, ["maximize", "minimize"])
        for key in ("n_trials", "n_jobs"):
            if not isinstance(value := getattr(search, key), int) or value < 1:
                raise UserError(f"hydra.sweeper.{key}={value}: should be a whole number from 1")
        given = {"storage": search.storage, "study_name": search.study_name, "direction": config.direction}
        try:
            study = optuna.create_study(**given, load_if_exists=True)
        except Exception as error:  # from Optuna, SQLAlchemy or a database driver
            reason = str(error).splitlines()[0]
            hint = "use the URL of a database, as in sqlite:////folder/study.db, or another hydra.sweeper.study_name"
            raise UserError(f"hydra.sweeper.storage={search.storage}: can't be used ({reason}): {hint}") from error
        if study.trials:
            search.sampler.reseed_rng()
        numbers = [job.number for job in jobs_of(Path(config.hydra.sweep.dir))]
        search.n_trials -= len(numbers)
        search.job_idx = 1 + max(numbers, default=-1)

    def sweep(self, arguments: list[str]) -> None:
        """Raises: UserError for a range that Optuna refuses."""
        for argument in [*self.sweeper._parse_sweeper_params_config(), *arguments]:
            try:
                create_params_from_overrides([argument])
            except Exception as error:  # as above
                raise UserError(f"{argument}: {reason_of(error)}") from error
        super().sweep(arguments)
