"""A best.ckpt of version 0.1.0's development (commit ea07d22): later editions load, evaluate, predict and export it."""

import json
import shutil
from pathlib import Path

import onnxruntime
import pytest
import torch

import alexnet_lit
from alexnet_lit.data.fashion_mnist import load_sample
from tests.conftest import REPOSITORY, Train

# Of that run's own result.json.
TEST_ACC, TEST_LOSS = 0.768, 0.585248046875


@pytest.fixture
def ckpt(tmp_path: Path) -> str:
    """The checkpoint alone."""
    return str(shutil.copy(REPOSITORY / "tests" / "first_edition.ckpt", tmp_path / "best.ckpt"))


def test_load_and_evaluate(ckpt: str, verb: Train) -> None:
    images, labels = load_sample().test
    probabilities = alexnet_lit.load(ckpt).predict(images)
    assert (probabilities.argmax(1) == labels).float().mean().item() == pytest.approx(TEST_ACC)

    outcome = verb("evaluate", ckpt, "--json")
    assert (outcome.status, outcome.err) == (0, "")
    scores = json.loads(outcome.out)
    assert scores["test/acc"] == TEST_ACC
    assert scores["test/loss"] == pytest.approx(TEST_LOSS, rel=1e-5)


def test_predict_and_export(ckpt: str, verb: Train, tmp_path: Path) -> None:
    from PIL import Image

    image = load_sample().test.images[:1]
    Image.fromarray(image[0].numpy()).save(tmp_path / "boot.png")
    expected = alexnet_lit.load(ckpt).predict(image)

    (found,) = json.loads(verb("predict", ckpt, "boot.png", "--json", "--top=1").out)
    assert found["classes"][0]["probability"] == pytest.approx(expected.max().item(), abs=1e-5)

    outcome = verb("export", ckpt)
    assert (outcome.status, outcome.err) == (0, "")
    session = onnxruntime.InferenceSession(tmp_path / "best.onnx", providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(None, {"images": image.numpy()})
    torch.testing.assert_close(torch.from_numpy(probabilities), expected)
