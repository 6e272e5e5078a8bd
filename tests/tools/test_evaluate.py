"""`evaluate`: the scores of a checkpoint, from that file alone; and a checkpoint of the first edition."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from PIL import Image

import alexnet_lit
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.prepare import restore
from alexnet_lit.tools.evaluate import _changes, class_scores
from tests.conftest import REPOSITORY, Train
from tests.pictures import TINY, fill


@pytest.fixture
def ckpt(lenet: Path, tmp_path: Path) -> Path:
    """The best checkpoint of the run, alone in a folder."""
    (tmp_path / "alone").mkdir()
    return Path(shutil.copy(lenet / "checkpoints" / "best.ckpt", tmp_path / "alone" / "net.ckpt"))


def test_each_class_is_scored_by_hits_among_answers_and_among_images() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    answers = torch.tensor([0, 0, 0, 1, 1, 0, 1, 1])

    scores = class_scores(torch.nn.functional.one_hot(answers, 4).float(), labels, ["a", "b", "c", "d"])

    rows = {name: tuple(row.values()) for name, row in scores["classes"].items()}
    assert rows["a"] == pytest.approx((3 / 4, 3 / 4, 3 / 4, 4))
    assert rows["b"] == pytest.approx((1 / 4, 1 / 2, 1 / 3, 2))
    assert (rows["c"], rows["d"]) == ((0, 0, 0, 2), (0, 0, 0, 0))
    assert scores["confusion"] == [[3, 1, 0, 0], [1, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0]]


def test_calibration_is_the_distance_of_confidence_and_accuracy_bin_by_bin() -> None:
    # Two bins of 15: three answers at 0.9, two of them right, and one at 0.55, right.
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.55, 0.45]])
    scores = class_scores(probabilities.log(), torch.tensor([0, 1, 1, 0]), ["a", "b"])
    expected = 3 / 4 * abs(0.9 - 2 / 3) + 1 / 4 * abs(0.55 - 1)
    assert scores["calibration_error"] == pytest.approx(expected, abs=1e-6)


def test_agrees_with_the_run_to_the_last_digit(ckpt: Path, lenet: Path, verb: Train) -> None:
    result = json.loads((lenet / "result.json").read_text())
    found = json.loads(verb("evaluate", str(ckpt), "--json").ok().out)
    assert list(found) == [
        *("checkpoint", "split", "images", "origin", "tta", "device", "precision", "test/acc", "acc_interval"),
        *("test/loss", "calibration_error", "classes", "confusion", "picture"),
    ]
    assert (found["test/acc"], found["test/loss"]) == (result["test/acc"], result["test/loss"])
    assert (found["split"], found["images"], found["tta"], found["precision"]) == ("test", 500, "none", "32-true")
    p, z = found["test/acc"], 1.959964 / 500**0.5
    middle, half = p + z**2 / 2, z * (p * (1 - p) + z**2 / 4) ** 0.5  # Wilson's formula
    assert found["acc_interval"] == pytest.approx([(middle + it) / (1 + z**2) for it in (-half, half)], abs=1e-6)
    hits = sum(row[index] for index, row in enumerate(found["confusion"]))
    assert hits / 500 == pytest.approx(found["test/acc"])
    assert [row["images"] for row in found["classes"].values()] == [50] * 10
    assert result["test/acc"] > 0.5, "the net has learned something"


def test_views_are_averaged(ckpt: Path, verb: Train) -> None:
    images, labels = load_sample()["test"]
    module = alexnet_lit.load(ckpt)
    mean = (module.predict(images) + module.predict(images.flip(-1))) / 2

    found = json.loads(verb("evaluate", str(ckpt), "--tta=mirror", "--json").out)
    assert found["tta"] == "mirror"
    assert found["test/acc"] == pytest.approx((mean.argmax(1) == labels).float().mean().item())
    assert found["test/loss"] == pytest.approx(torch.nn.functional.nll_loss(mean.log(), labels).item(), rel=1e-5)


def test_tables_and_a_picture_which_replaces_none(ckpt: Path, lenet: Path, verb: Train) -> None:
    result = json.loads((lenet / "result.json").read_text())
    outcome = verb("evaluate", str(ckpt)).ok()
    picture = ckpt.with_name("net_test_confusion.png")
    for line in (
        f"checkpoint         {ckpt}",
        "images             500 test images, from the sample in the package",
        f"accuracy           {result['test/acc']:.4f} (95% confidence interval",
        f"loss               {result['test/loss']:.4f}",
        f"confusion matrix   {picture}",
        " class             precision   recall      f1   images",
        " mean of classes",
    ):
        assert f"\n{line}" in f"\n{outcome.out}"
    assert sorted(path.name for path in ckpt.parent.iterdir()) == ["net.ckpt", "net_test_confusion.png"]
    with Image.open(picture) as image:
        assert image.format == "PNG"

    picture.write_text("mine")
    refusal = verb("evaluate", str(ckpt)).refusal
    assert refusal == f"{picture}: is there already: --force replaces it, --out names another file"
    assert picture.read_text() == "mine"
    assert verb("evaluate", str(ckpt), "--force").status == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def edited(ckpt: Path, **data: Any) -> Path:
    """The checkpoint, as if its run had had other keys of data."""
    checkpoint = torch.load(ckpt, weights_only=True)
    checkpoint["hyper_parameters"]["config"]["data"].update(data)
    torch.save(checkpoint, ckpt)
    return ckpt


def test_where_data_is_found(ckpt: Path, verb: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places: list[Path] = []
    sample = load_sample()

    def load(*, dir: Path, **_: Any) -> Any:
        places.append(dir)
        return sample

    monkeypatch.setattr("alexnet_lit.data.fashion_mnist.load_fashion_mnist", load)
    monkeypatch.setattr("alexnet_lit.data.fashion_mnist.fetch", lambda **places: {"": places["dir"] / "file"})
    elsewhere = {"dir": "/home/another/data", "search": [], "mirrors": []}
    edited(ckpt, _target_="alexnet_lit.data.FashionMNIST", **elsewhere)

    for option in ([], [f"--dir={tmp_path}"]):
        outcome = verb("evaluate", str(ckpt), "--force", *option)
        assert outcome.status == 0, outcome.err
    assert places == [Path(alexnet_lit.compose().paths.logs).parent / "data", tmp_path]


def test_a_net_that_diverged_and_images_that_are_not_there(ckpt: Path, verb: Train) -> None:
    refusal = verb("evaluate", str(edited(ckpt, val_size=0)), "--split=val").refusal
    assert refusal == "--split=val: the data has no such images: use --split test"
    checkpoint = torch.load(ckpt, weights_only=True)
    next(iter(checkpoint["state_dict"].values())).fill_(torch.nan)
    torch.save(checkpoint, ckpt)
    reason = "the net's outputs are not finite: it diverged; name another checkpoint"
    assert verb("evaluate", str(ckpt)).refusal == f"{ckpt}: {reason}"


@pytest.mark.parametrize("split", ["test", "val"])
def test_agrees_with_the_run_on_own_pictures(split: str, rgb: tuple[Path, Path], verb: Train, tmp_path: Path) -> None:
    result = json.loads((rgb[0] / "result.json").read_text())
    outcome = verb("evaluate", str(rgb[0]), f"--split={split}", f"--out={tmp_path / 'picture.png'}", "--json")
    found = json.loads(outcome.ok().out)
    assert found[f"{split}/acc"] == result["test/acc" if split == "test" else "val/acc_best"]
    assert found["images"] == {"test": 15, "val": 6}[split]
    assert list(found["classes"]) == ["bag", "boot", "shirt"]


def test_another_folder_is_looked_at_anew(rgb: tuple[Path, Path], verb: Train, tmp_path: Path) -> None:
    shutil.copy(rgb[0] / "checkpoints" / "best.ckpt", tmp_path / "net.ckpt")
    other = fill(tmp_path / "other", train=1, test=4)

    outcome = verb("evaluate", "net.ckpt", "--dir=other", "--json")
    assert outcome.status == 0, outcome.err
    assert json.loads(outcome.out)["images"] == 12
    assert "decoded 12 of 12 pictures in test/" in outcome.err
    shutil.rmtree(other / "test" / "boot")
    assert re.search(r"boot +- +- +- +0\n", verb("evaluate", "net.ckpt", "--dir=other", "--force").out)
    shutil.rmtree(other / "test")
    (other / "train" / "boot").rename(other / "train" / "hat")
    line = "--dir=other: it has other classes than the net, without boot and with hat: name a folder with the same"
    assert verb("evaluate", "net.ckpt", "--dir=other", "--force").refusal == line


@pytest.mark.parametrize(
    ("typed", "trained_on", "other"),
    [("scheduler=plateau", {"val": 1}, {"test": 1}), ("data.folds=3", {}, {"val": 1, "test": 1})],
)
def test_how_a_net_was_trained_does_not_matter(
    typed: str, trained_on: dict[str, int], other: dict[str, int], tmp_path: Path
) -> None:
    config = alexnet_lit.compose(*TINY, f"data.dir={fill(tmp_path / 'one', **trained_on)}", typed)
    module, _ = alexnet_lit.build(config)
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    changes = _changes(module.hparams["config"], tta=None, dir=str(fill(tmp_path / "other", **other)))
    _, data = restore(checkpoint, changes)
    assert data.sizes["test"] == 3


# Of that run's own result.json.
TEST_ACC, TEST_LOSS = 0.768, 0.585248046875


@pytest.mark.slow
def test_a_checkpoint_of_then_serves_every_command_of_now(verb: Train, tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "tests" / "first_edition.ckpt", tmp_path / "best.ckpt")
    images, labels = load_sample()["test"]
    expected = alexnet_lit.load(tmp_path / "best.ckpt").predict(images)
    assert (expected.argmax(1) == labels).float().mean().item() == pytest.approx(TEST_ACC)

    scores = json.loads(verb("evaluate", "best.ckpt", "--json").out)
    assert (scores["test/acc"], scores["test/loss"]) == (TEST_ACC, pytest.approx(TEST_LOSS, rel=1e-5))

    Image.fromarray(images[0].numpy()).save(tmp_path / "boot.png")
    (found,) = json.loads(verb("predict", "best.ckpt", "boot.png", "--json", "--top=1").out)
    assert found["classes"][0]["probability"] == pytest.approx(expected[0].max().item(), abs=1e-5)

    verb("export", "best.ckpt").ok()
    session = onnxruntime.InferenceSession(tmp_path / "best.onnx", providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(None, {"images": images[:1].numpy()})
    torch.testing.assert_close(torch.from_numpy(probabilities), expected[:1])
