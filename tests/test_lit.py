"""What a step, an evaluation and a prediction are."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import alexnet_lit
from alexnet_lit.data import CLASSES, Batch
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.lit import Classifier, Score

SMALL = ("data=sample", "model=lenet", "data.image_size=28")


@pytest.fixture(scope="module")
def module() -> Classifier:
    torch.manual_seed(0)
    classifier, _ = alexnet_lit.build(alexnet_lit.compose(*SMALL, "model.dropout=0.5"))
    return classifier


def test_a_prediction_is_the_softmax_without_dropout(module: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    images = load_sample()["test"][0][:5]
    module.train()
    sizes: list[int] = []

    probabilities = module.predict(images)
    assert module.training, "the mode is left alone"
    assert (probabilities.shape, probabilities.dtype, probabilities.is_inference()) == ((5, 10), torch.float32, False)
    module.eval()
    torch.testing.assert_close(probabilities, module.net(module.pixels(images)).softmax(1))
    torch.testing.assert_close(module.predict(images[:, None]), probabilities)
    (array := images.numpy()).setflags(write=False)  # as Pillow's are
    torch.testing.assert_close(module.predict(array), probabilities)  # type: ignore[arg-type] # which it converts
    monkeypatch.setattr("alexnet_lit.lit._AT_ONCE", 2)
    with module.net.register_forward_pre_hook(lambda _, x: sizes.append(len(x[0]))):
        torch.testing.assert_close(module.predict(images), probabilities)
    assert sizes == [2, 2, 1], "a whole test set takes no more memory than some of it"
    assert {name for name, _ in module.named_buffers()} <= {*module._ddp_params_and_buffers_to_ignore}, "never sent"
    assert module.hparams["classes"] == list(module.classes) == list(CLASSES)
    for wrong in (torch.zeros(1, 28, 28), images[0], images[:, None].expand(5, 3, 28, 28)):
        with pytest.raises(ValueError, match="predict takes uint8 images"):
            module.predict(wrong)


def test_scores_are_exact_in_a_net_of_half_precision(module: Classifier) -> None:
    logits, labels = torch.randn(128, 10).bfloat16(), torch.arange(128) % 10
    loss = module.loss_sum("val", Batch(logits, labels, torch.empty(128, 0), 128), logits)
    assert loss == F.cross_entropy(logits.float(), labels, reduction="sum")
    score = Score()
    torch.nn.ModuleList([score]).to(torch.bfloat16)
    for _ in range(430):
        score.update(torch.tensor(44.75), torch.tensor(112), 128)
    torch.nn.ModuleList([score]).to(torch.bfloat16)  # as a run does that goes on within an epoch
    assert score.compute() == {"loss": 44.75 / 128, "acc": 112 / 128}


@pytest.mark.parametrize("mixed", [False, True])
def test_labels_are_smoothed_in_training_alone(mixed: bool) -> None:
    module, _ = alexnet_lit.build(alexnet_lit.compose(*SMALL, "label_smoothing=0.3"))
    share = {"rank": 0, "num_replicas": 1}
    module._trainer = SimpleNamespace(distributed_sampler_kwargs=share)  # type: ignore[assignment] # all that is asked
    images, labels = load_sample()["test"]
    images, labels = module.pixels(images[:6]), labels[:6]
    others, shares = labels.flip(0), torch.full((6,), 0.25)
    batch = Batch(images, labels, torch.empty(6, 0), 6, (others, shares) if mixed else None)

    def smooth(labels: Tensor) -> Tensor:  # in words: 0.7 of it to the label, 0.3 to all ten alike
        return 0.7 * F.one_hot(labels, 10) + 0.03

    target = smooth(labels).lerp(smooth(others), 0.25) if mixed else smooth(labels)
    torch.testing.assert_close(module.training_step(batch, 0), F.cross_entropy(module(images), target))

    plain = Batch(images, labels, torch.empty(6, 0), 6)
    module.validation_step(plain, 0)
    loss = module.scores["val"].compute()["loss"]
    assert loss == pytest.approx(F.cross_entropy(module(images), labels).item(), rel=1e-6)
