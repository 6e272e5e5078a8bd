"""Which of two experiments has an idea of the paper, and what it is worth."""

import re
import tomllib
from pathlib import Path

import pytest

import alexnet_lit
from alexnet_lit.report.effects import effects_of
from alexnet_lit.report.experiments import experiments_of
from alexnet_lit.report.ideas import IDEAS, Idea, has
from alexnet_lit.report.reached import reached, usual_accuracy
from alexnet_lit.report.runs import read_runs
from alexnet_lit.report.words import words
from tests.conftest import REPOSITORY
from tests.report.made import run

NAMED = {idea.name: idea for idea in IDEAS}


def overrides(typed: str) -> dict[str, str]:
    return dict(part.split("=") for part in typed.split())


@pytest.mark.parametrize(
    ("idea", "one", "other", "expected"),
    [
        ("lrn", "idea=lrn", "idea=base", True),
        ("lrn", "idea=base", "idea=lrn", False),
        ("lrn", "idea=lrn", "", True),
        ("lrn", "idea=lrn", "idea=tanh", None),
        ("dropout", "idea=base", "idea=no_dropout", True),
        ("relu", "idea=tanh", "idea=base", False),
        ("lrn", "model.lrn=true", "model.lrn=false", True),
        ("lrn", "model.lrn=true", "", True),
        ("lrn", "", "model.lrn=true", False),
        ("lrn", "model.lrn=false", "", False),
        ("lrn", "model.lrn=true seed=0 x=1", "model.lrn=false x=2", None),
        ("lrn", "model.lrn=true x=1", "model.lrn=false x=1", True),
        ("relu", "model.activation=relu", "model.activation=tanh", True),
        ("relu", "model.activation=relu", "model.activation=sigmoid", None),
        ("dropout", "model.dropout=0", "model.dropout=0.3", False),
        ("dropout", "model.dropout=0.5", "model.dropout=0.3", None),
        ("dropout", "model.dropout=0.5", "", None),
        ("crop", "data.augment.crop=0.875", "data.augment.crop=1.0", True),
        ("color", "data.augment.color=0", "data.augment.color=0.1", False),
        ("mirror", "data.augment.mirror=false", "", False),
        ("overlap", "model.overlapping_pool=true", "model.overlapping_pool=false", True),
        ("towers", "idea=half", "idea=towers", False),
        ("towers", "idea=towers", "idea=base", None),
        ("towers", "model.design=paper", "model.design=half", True),
        ("alexnet", "idea=base", "idea=lenet", True),
        ("momentum", "optimizer.momentum=0", "optimizer.momentum=0.9", False),
        ("towers", "model.design=paper", "model.design=owt", None),
    ],
)
def test_who_has_it(idea: str, one: str, other: str, expected: bool | None) -> None:
    assert has(NAMED[idea], overrides(one), overrides(other)) is expected


def test_every_switch_of_the_project_is_an_idea_here() -> None:
    files = (REPOSITORY / "conf" / "idea").glob("*.yaml")
    assert {choice for idea in IDEAS for choice in idea.choices} == {file.stem for file in files}


@pytest.mark.parametrize("idea", IDEAS, ids=list(NAMED))
def test_a_switch_does_what_its_idea_says(idea: Idea) -> None:
    for choice, expected in idea.choices.items():
        value = alexnet_lit.compose("sweep=ideas", f"idea={choice}")
        for part in idea.key.split("."):
            value = value[part]
        if idea.key == "model":
            value = value._target_.rpartition(".")[2]
        assert idea.states(str(value).lower()) is expected


def test_what_an_idea_is_worth_has_the_sign_of_the_idea(tmp_path: Path) -> None:
    for seed, test in enumerate((0.70, 0.72)):
        run(tmp_path / f"base{seed}", "idea=base", seed=seed, test=test, curve=(0.5, 0.6, 0.8))
        run(tmp_path / f"lrn{seed}", "idea=lrn", seed=seed, test=test + 0.05, curve=(0.5, 0.8))
        run(tmp_path / f"bare{seed}", "idea=no_dropout", seed=seed, test=test - 0.10, curve=(0.5, 0.6, 0.7, 0.8))
    experiments = experiments_of(read_runs([str(tmp_path)]))
    lrn, dropout = effects_of(experiments, score="test/acc", tag="val/acc", accuracy=0.8)
    assert (lrn.idea.name, lrn.having.label, lrn.lacking.label) == ("lrn", "idea=lrn", "idea=base")
    assert lrn.worth.value == pytest.approx(5)
    # Standard error sqrt(2 * 0.0002 / 2) = 0.01414, 2 degrees of freedom: t(0.975) = 4.303.
    assert lrn.worth[1:3] == pytest.approx((5 - 6.085, 5 + 6.085), abs=0.01)
    assert lrn.sooner == pytest.approx(3 / 2)
    assert (dropout.idea.name, dropout.having.label) == ("dropout", "idea=base")
    assert dropout.worth.value == pytest.approx(10)
    assert dropout.sooner == pytest.approx(4 / 3)


def test_each_pair_of_a_grid_is_an_effect_of_its_own(tmp_path: Path) -> None:
    for lrn in ("true", "false"):
        for optimizer in ("sgd", "adamw"):
            run(tmp_path / f"{lrn}_{optimizer}", f"model.lrn={lrn}", f"optimizer={optimizer}", test=0.5)
    effects = effects_of(experiments_of(read_runs([str(tmp_path)])), score="test/acc", tag="val/acc", accuracy=None)
    assert [effect.having.label for effect in effects] == [
        "model.lrn=true optimizer=adamw",
        "model.lrn=true optimizer=sgd",
    ]


def test_how_soon_an_accuracy_is_reached(tmp_path: Path) -> None:
    run(tmp_path / "0", "x=1", seed=0, curve=(0.5, 0.7, 0.9))
    run(tmp_path / "1", "x=1", seed=1, curve=(0.5, 0.6, 0.7))
    run(tmp_path / "2", "x=1", seed=2, curve=(0.5, 0.6))
    run(tmp_path / "3", "x=1", seed=3, status="interrupted", curve=(0.9,))
    (experiment,) = experiments_of(read_runs([str(tmp_path)]))
    found = reached(experiment, "val/acc", 0.7)
    assert (found.runs, found.images.n, found.images.mean, found.seconds.mean) == (3, 2, 32 * 25, 25)
    assert usual_accuracy([experiment], "val/acc") == 0.7, "the best are 0.9, 0.7 and 0.6"
    assert usual_accuracy([experiment], "test/acc") is None


def test_both_languages_say_the_same_with_the_same_blanks() -> None:
    texts = tomllib.loads((REPOSITORY / "alexnet_lit/report/words.toml").read_text())
    for key, text in texts.items():
        assert set(text) == {"en", "zh"}, key
        assert set(re.findall(r"{\w+", text["en"])) == set(re.findall(r"{\w+", text["zh"])), key
    for idea in IDEAS:
        assert words("zh")(f"claim {idea.name}") != words("en")(f"claim {idea.name}")
