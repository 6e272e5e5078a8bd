"""The sections that compare experiments."""

from alexnet_lit.report.experiments import Experiment
from alexnet_lit.report.figures import NONE, interval, mean, probability, signed
from alexnet_lit.report.reached import reached
from alexnet_lit.report.section import Row, Section, Table, label_of
from alexnet_lit.report.significance import Difference, spread
from alexnet_lit.report.study import Study
from alexnet_lit.report.words import Words


def experiments_section(study: Study, text: Words) -> Section:
    """A row an experiment: its scores, and how far it is from the baseline."""
    compared = len(study.experiments) > 1
    header = [text("experiment"), text("n"), text("test/acc"), text("val/acc_best")]
    header += [text(key) for key in ("difference", "interval", "p", "p_holm") if compared] + [text("seconds")]
    rows = []
    for n, each in enumerate(study.experiments):
        count, runs = len(each.completed), len(each.runs)
        cells = [label_of(each, text), str(count) if count == runs else text("n_of", n=count, runs=runs)]
        cells += [mean(spread(each.scores(key))) for key in ("test/acc", "val/acc_best")]
        corrected = study.corrected[n]
        if compared:
            cells += _compared(study, n, text)
        cells.append(mean(spread(each.scores("seconds")), 1))
        sure = compared and corrected is not None and corrected < 0.05
        rows.append(Row(cells, n, (0, 4, 5, 6, 7) if sure else (), ended=count > 0))
    notes = [text("about_n")]
    if compared:
        names = {"score": text(study.score), "baseline": label_of(study.baseline, text)}
        tests = sum(p is not None for p in study.corrected)
        notes.append(text("about_difference", **names))
        notes += [text("about_test", tests=tests), text("spread_only")] if tests else []
    return Section(text("experiments"), Table(header, rows), notes)


def _compared(study: Study, n: int, text: Words) -> list[str]:
    """Difference, interval, p and corrected p."""
    found = study.differences[n]
    if study.experiments[n] is study.baseline:
        return [text("baseline"), NONE, NONE, NONE]
    if found is None:
        return [NONE] * 4
    counts = [len(each.scores(study.score)) for each in (study.experiments[n], study.baseline)]
    ends = _interval(found, min(counts), text)
    return [signed(found.value), ends, probability(found.p), probability(study.corrected[n])]


def _interval(found: Difference, n: int, text: Words) -> str:
    return interval(found) or text("small" if n < 2 else "no_spread")


def reached_section(study: Study, text: Words) -> Section:
    """A row an experiment: how soon it comes to an accuracy."""
    if study.accuracy is None:
        return Section(text("reached_none"), None, [text("no_accuracy")])
    rows = []
    for n, each in enumerate(study.experiments):
        found = reached(each, study.tag, study.accuracy)
        if found.runs:
            there = text("n_of", n=found.seconds.n, runs=found.runs)
            rows.append(Row([label_of(each, text), there, mean(found.images, 0), mean(found.seconds, 1)], n))
    header = [text("experiment"), text("got_there"), text("images"), text("seconds")]
    title = text("reached", tag=_accuracy(study, text), accuracy=study.accuracy)
    return Section(title, Table(header, rows), [text("about_reached"), text("usual")])


def _accuracy(study: Study, text: Words) -> str:
    """What the curve of accuracy is called, within a sentence."""
    return text(study.tag if study.stage == "val" else f"curve {study.tag}").lower()


def ideas_section(study: Study, text: Words) -> Section:
    """A row for each two experiments that an idea tells apart, beside the paper's claim."""
    keys = ("idea", "section", "worth", "interval", "n_both", "sooner", "claim")
    rows = []
    for effect in study.effects:
        counts = [len(each.scores(study.score)) for each in (effect.having, effect.lacking)]
        where = _beside(effect.having, effect.idea.key)
        cells = [
            f"{text(effect.idea.name)} ({where})" if where else text(effect.idea.name),
            effect.idea.section,
            signed(effect.worth.value),
            _interval(effect.worth, min(counts), text),
            text("comma").join(map(str, counts)),
            NONE if effect.sooner is None else f"{effect.sooner:.2f}",
            text(f"claim {effect.idea.name}"),
        ]
        rows.append(Row(cells))
    notes = [text("about_ideas", score=text(study.score))]
    if study.accuracy is not None:
        notes.append(text("about_sooner", tag=_accuracy(study, text), accuracy=study.accuracy))
    return Section(text("ideas"), Table([text(key) for key in keys], rows, words=2, remarks=True), notes)


def _beside(experiment: Experiment, key: str) -> str:
    """What else tells the two from others, so that each pair has its name."""
    return " ".join(f"{name}={value}" for name, value in experiment.overrides.items() if name not in (key, "idea"))
