"""The Optuna study of a search: whether it can be opened, and a seed that draws other values than earlier searches."""

import logging

import optuna
from omegaconf import DictConfig, read_write
from sqlalchemy.exc import SQLAlchemyError

from alexnet_lit.errors import UserError


def open_study(hydra: DictConfig) -> None:
    """Add the number of trials that the study has to the sampler's seed. `hydra`: Hydra's own part of the config.

    Raises: UserError for a storage that can't be opened, or a study with another direction.
    """
    optuna.logging.set_verbosity(logging.WARNING)
    sweeper = hydra.sweeper
    if sweeper.storage is None:
        return
    try:
        studies = {study.study_name: study for study in optuna.get_all_study_summaries(sweeper.storage)}
    except (SQLAlchemyError, ImportError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        hint = "use the URL of a database, as in sqlite:////folder/study.db"
        raise UserError(f"hydra.sweeper.storage={sweeper.storage}: can't be opened, {reason}: {hint}") from error
    study = studies.get(sweeper.study_name)
    if study is None:
        return
    if (theirs := study.direction.name.lower()) != str(sweeper.direction):
        search = f"the study {sweeper.study_name} in {sweeper.storage} is of another search, which is to {theirs}"
        raise UserError(f"direction={sweeper.direction}: {search}: name another hydra.sweeper.study_name")
    if sweeper.sampler.get("seed") is not None:
        with read_write(hydra):
            sweeper.sampler.seed += study.n_trials
