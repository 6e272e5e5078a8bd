"""The Optuna study of a search: whether it can be opened, and that a search into it draws what no earlier one drew."""

import logging

import optuna
from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides
from omegaconf import DictConfig, read_write
from sqlalchemy.exc import SQLAlchemyError

from alexnet_lit.config import as_typed
from alexnet_lit.errors import UserError


def open_study(hydra: DictConfig) -> None:
    """Number the sampler's seed on by the trials that are in the study. `hydra`: Hydra's own part of the config.

    Raises: UserError for a storage that can't be opened, or a study of another search.
    """
    optuna.logging.set_verbosity(logging.WARNING)  # it would tell of its study in a line of its own kind
    sweeper = hydra.sweeper
    if sweeper.storage is None:
        return
    try:
        studies = {study.study_name: study for study in optuna.get_all_study_summaries(sweeper.storage)}
    except (SQLAlchemyError, ImportError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        way_out = "use the URL of a database, as in sqlite:////folder/study.db"
        raise UserError(f"hydra.sweeper.storage={sweeper.storage}: can't be opened, {reason}: {way_out}") from error
    if sweeper.study_name not in studies:
        return
    _check_study(hydra)
    if sweeper.sampler.get("seed") is not None:
        with read_write(hydra):
            sweeper.sampler.seed += studies[sweeper.study_name].n_trials


def _check_study(hydra: DictConfig) -> None:
    """Raise the UserError of a search into a study that has another direction or other ranges."""
    sweeper = hydra.sweeper
    study = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage)
    told = f"the study {sweeper.study_name} in {sweeper.storage} is of another search"
    way_out = "name another hydra.sweeper.study_name"
    if (theirs := study.direction.name.lower()) != str(sweeper.direction):
        raise UserError(f"direction={sweeper.direction}: {told}, which is to {theirs}: {way_out}")
    params = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
    space, _ = create_params_from_overrides([*params, *as_typed(hydra.overrides.task)])
    for trial in study.trials:
        for key in space.keys() & trial.distributions.keys():
            try:
                optuna.distributions.check_distribution_compatibility(trial.distributions[key], space[key])
            except ValueError as error:
                raise UserError(f"{key}: {told}, with other choices of it: {way_out}") from error
