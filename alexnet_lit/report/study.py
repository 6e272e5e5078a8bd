"""All that the report is made from: runs read, put together and measured."""

from collections.abc import Sequence
from typing import NamedTuple

from alexnet_lit.report.effects import Effect, effects_of
from alexnet_lit.report.experiments import Experiment, baseline_of, experiments_of
from alexnet_lit.report.reached import usual_accuracy
from alexnet_lit.report.runs import Run
from alexnet_lit.report.significance import Difference, difference, holm


class Study(NamedTuple):
    """score: the figure that experiments are compared by. stage: "val", or "test" where nothing was validated.

    accuracy: what "how soon" is asked for; None where there is none to ask for. differences: to the baseline, in
    percentage points, None of itself and where there is nothing to compare; corrected: their p values after Holm.
    """

    runs: Sequence[Run]
    experiments: list[Experiment]
    baseline: Experiment
    score: str
    stage: str
    accuracy: float | None
    differences: list[Difference | None]
    corrected: list[float | None]
    effects: list[Effect]

    @property
    def tag(self) -> str:
        """The curve of accuracy."""
        return f"{self.stage}/acc"


def study(runs: Sequence[Run], *, baseline: str | None, accuracy: float | None) -> Study:
    """Put runs together and measure what they came to.

    Raises: Mistake if `baseline` names no experiment.
    """
    experiments = experiments_of(runs)
    base = baseline_of(experiments, baseline)
    score = "test/acc" if any(each.scores("test/acc") for each in experiments) else "val/acc_best"
    stage = "val" if any("val/acc" in run.curves for run in runs) else "test"
    accuracy = usual_accuracy(experiments, f"{stage}/acc") if accuracy is None else accuracy
    differences = [
        found.scaled(100)
        if each is not base and (found := difference(each.scores(score), base.scores(score))) is not None
        else None
        for each in experiments
    ]
    corrected = holm([each.p if each else None for each in differences])
    effects = effects_of(experiments, score=score, tag=f"{stage}/acc", accuracy=accuracy)
    return Study(runs, experiments, base, score, stage, accuracy, differences, corrected, effects)
