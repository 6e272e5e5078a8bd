"""`evaluate` on a person's own pictures, and what stops it."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from alexnet_lit.callbacks.progress import Count
from tests.conftest import Train
from tests.pictures import fill


@pytest.fixture
def ckpt(rgb: tuple[Path, Path], tmp_path: Path) -> str:
    """The best checkpoint of the run, alone."""
    shutil.copy(rgb[0] / "checkpoints" / "best.ckpt", tmp_path / "net.ckpt")
    return "net.ckpt"


@pytest.mark.parametrize("split", ["test", "val"])
def test_agrees_with_the_run(split: str, rgb: tuple[Path, Path], ckpt: str, verb: Train) -> None:
    result = json.loads((rgb[0] / "result.json").read_text())
    outcome = verb("evaluate", ckpt, f"--split={split}", "--json")
    assert (outcome.status, outcome.err) == (0, "")
    found = json.loads(outcome.out)
    assert found[f"{split}/acc"] == result["test/acc" if split == "test" else "val/acc_best"]
    assert found["images"] == {"test": 15, "val": 6}[split]
    assert list(found["classes"]) == ["bag", "boot", "shirt"]


def test_another_folder_is_looked_at_anew(ckpt: str, verb: Train, tmp_path: Path) -> None:
    other = fill(tmp_path / "other", train=1, val=2, test=4)

    outcome = verb("evaluate", ckpt, "--dir=other", "--json")

    assert outcome.status == 0, outcome.err
    assert json.loads(outcome.out)["images"] == 12
    assert "decoded 12 of 12 pictures in test/" in outcome.err
    shutil.rmtree(other / "test")
    missing = verb("evaluate", ckpt, "--dir=other", "--force")
    line = "error: --split=test: the data has no such images: use --split val\n"
    assert (missing.status, missing.out, missing.err) == (2, "", line)
    found = json.loads(verb("evaluate", ckpt, "--dir=other", "--split=val", "--json").out)
    assert (found["images"], found["split"]) == (6, "val")


@pytest.mark.parametrize("new", [["hat"], ["hat", "shoe"]])
def test_a_folder_of_other_classes_is_refused(new: list[str], ckpt: str, verb: Train, tmp_path: Path) -> None:
    train = fill(tmp_path / "other", train=1) / "train"
    for name in new:
        shutil.copytree(train / "boot", train / name)
    shutil.rmtree(train / "boot")
    outcome = verb("evaluate", ckpt, "--dir=other")
    assert (outcome.status, outcome.out) == (2, "")
    changed = f"without boot and with {', '.join(new)}"
    assert (
        outcome.err
        == f"error: --dir=other: it has other classes than the net, {changed}: name a folder with the same\n"
    )


def test_a_folder_that_is_gone_is_asked_for(ckpt: str, verb: Train, rgb: tuple[Path, Path]) -> None:
    pictures = rgb[1]
    pictures.rename(away := pictures.with_name("away"))
    try:
        outcome = verb("evaluate", ckpt)
    finally:
        away.rename(pictures)
    line = f"error: --dir={pictures}: it is not there: name the folder that has train/<class>/<picture>\n"
    assert (outcome.status, outcome.out, outcome.err) == (2, "", line)


def test_ctrl_c_ends_it_with_130(ckpt: str, verb: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Count, "add", stopped)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # Lightning is deaf to it from then on, for good
    outcome = verb("evaluate", ckpt)
    assert (outcome.status, outcome.out) == (130, "")
    assert [path.name for path in tmp_path.iterdir()] == ["net.ckpt"]


def test_what_is_mistyped_is_told_as_by_any_verb(verb: Train) -> None:
    for typed in (["evaluate"], ["evaluate", "x", "--no"], ["predict", "x"], ["export", "x", "--size=a"]):
        outcome = verb(*typed)
        assert (outcome.status, outcome.out) == (2, "")
        assert outcome.err.startswith("Usage: ")
