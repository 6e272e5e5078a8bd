"""The Optuna study of a search: whether it can be opened, and a seed that draws other values than earlier searches."""

import logging

import optuna
from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
from omegaconf import DictConfig, read_write
from sqlalchemy.exc import SQLAlchemyError

from alexnet_lit.config import as_typed
from alexnet_lit.errors import UserError


def open_study(hydra: DictConfig) -> None:
    """Add the number of trials that the study has to the sampler's seed. `hydra`: Hydra's own part of the config.

    Raises: UserError for a storage that can't be opened, or a study with another direction or other ranges.
    """
    optuna.logging.set_verbosity(logging.WARNING)
    sweeper = hydra.sweeper
    if sweeper.storage is None:
        return
    try:
        studies = {study.study_name for study in optuna.get_all_study_summaries(sweeper.storage)}
    except (SQLAlchemyError, ImportError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        hint = "use the URL of a database, as in sqlite:////folder/study.db"
        raise UserError(f"hydra.sweeper.storage={sweeper.storage}: can't be opened, {reason}: {hint}") from error
    if sweeper.study_name not in studies:
        return
    study = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage)
    other = f"the study {study.study_name} in {sweeper.storage} is of another search"
    hint = "name another hydra.sweeper.study_name"
    if (theirs := study.direction.name.lower()) != str(sweeper.direction):
        raise UserError(f"direction={sweeper.direction}: {other}, which is to {theirs}: {hint}")
    params = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
    space, _ = create_params_from_overrides([*params, *as_typed(hydra.overrides.task)])
    for key, distribution in [pair for trial in study.trials for pair in trial.distributions.items()]:
        try:
            optuna.distributions.check_distribution_compatibility(distribution, space.get(key, distribution))
        except ValueError as error:
            raise UserError(f"{key}: {other}, with other choices of it: {hint}") from error
    if sweeper.sampler.get("seed") is not None:
        with read_write(hydra):
            sweeper.sampler.seed += len(study.trials)
