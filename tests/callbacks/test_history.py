import io

import pytest
import torch
from lightning.pytorch.utilities import rank_zero_only

from alexnet_lit.callbacks.history import History
from tests.callbacks.tiny import LIGHTNING_CHATTER, Data, Module, make_trainer

pytestmark = [pytest.mark.filterwarnings(chatter) for chatter in LIGHTNING_CHATTER]


def test_keeps_every_value_of_a_run_but_the_epoch() -> None:
    history = History()
    make_trainer(max_epochs=2, logger=[history]).fit(Module(), Data(train=4))
    assert set(history.points) == {"train/loss", "train/acc", "val/acc"}
    assert len(history.points["train/loss"]) == 8
    assert [value for _, value in history.points["val/acc"]] == [0.75, 0.75]
    assert all(type(step) is int and type(value) is float for step, value in history.points["train/loss"])


def test_a_step_logged_again_replaces_and_order_is_by_step() -> None:
    history = History()
    for step, value in ((10, 1.0), (20, 2.0), (30, 3.0), (20, 5.0), (15, 4.0)):
        history.log_metrics({"loss": value}, step)
    assert history.points == {"loss": [(10, 1.0), (15, 4.0), (20, 5.0), (30, 3.0)]}


def test_latest_is_the_value_of_the_highest_step() -> None:
    history = History()
    assert history.latest("val/acc") is None
    history.log_metrics({"val/acc": 0.5}, 1)
    history.log_metrics({"val/acc": 0.0}, 2)
    assert history.latest("val/acc") == 0.0


def test_survives_a_checkpoint() -> None:
    history, file = History(), io.BytesIO()
    history.log_metrics({"a": 1.5, "b": 2.5}, 3)
    torch.save(history.state_dict(), file)
    file.seek(0)
    other = History()
    other.log_metrics({"c": 1.0}, 1)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.points == {"a": [(3, 1.5)], "b": [(3, 2.5)]}
    assert type(other.points["a"][0]) is tuple


def test_other_ranks_keep_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    history = History()
    history.log_metrics({"loss": 1.0}, 1)
    assert history.points == {}


def test_is_found_among_a_trainers_loggers() -> None:
    history = History()
    assert History.of(make_trainer(logger=[history])) is history
    assert History.of(make_trainer(logger=False)).points == {}
    assert History.of(make_trainer(logger=[history], fast_dev_run=True)) is not history
