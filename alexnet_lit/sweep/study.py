"""The Optuna study of a search: whether it can be opened, and that a search into it draws what no earlier one drew."""

import logging

import optuna
from omegaconf import DictConfig, read_write
from sqlalchemy.exc import SQLAlchemyError

from alexnet_lit.errors import Mistake


def open_study(hydra: DictConfig) -> None:
    """Number the sampler's seed on by the trials that are in the study. `hydra`: Hydra's own part of the config.

    Raises: Mistake for a storage that can't be opened, or a study of the other direction.
    """
    optuna.logging.set_verbosity(logging.WARNING)  # it would tell of its study in a line of its own kind
    sweeper = hydra.sweeper
    if sweeper.storage is None:
        return
    try:
        studies = optuna.get_all_study_summaries(sweeper.storage)
    except (SQLAlchemyError, ImportError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        way_out = "use the URL of a database, as in sqlite:////folder/study.db"
        raise Mistake(f"hydra.sweeper.storage={sweeper.storage}: can't be opened, {reason}: {way_out}") from error
    for study in studies:
        if study.study_name != sweeper.study_name:
            continue
        if (theirs := study.direction.name.lower()) != str(sweeper.direction):
            raise Mistake(
                f"direction={sweeper.direction}: the study {study.study_name} in {sweeper.storage} is to {theirs}: "
                "name another hydra.sweeper.study_name"
            )
        if sweeper.sampler.get("seed") is not None:
            with read_write(hydra):
                sweeper.sampler.seed += study.n_trials
