"""Test-time averaging: which views there are, what they are averaged to, and that `test` alone sees them."""

import itertools

import pytest
import torch
import torchvision.transforms.functional as F
from lightning import Trainer
from torch import Tensor

import alexnet_lit
from alexnet_lit.data import ImageData, TestTimeAugmentation
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.lit import Classifier
from tests.callbacks.tiny import LIGHTNING_CHATTER

pytestmark = [pytest.mark.filterwarnings(chatter) for chatter in LIGHTNING_CHATTER]
SIZE, ENLARGED = 65, 74  # 65 / 0.875 = 74.3
CROP = "data.augment.crop=0.875"
TEN_CROP = ("data.tta=ten_crop", CROP)


def test_ten_crops_are_torchvisions() -> None:
    images = torch.rand(3, 1, 256, 256)
    views = list(TestTimeAugmentation(tta="ten_crop", image_size=224, enlarged=256)(images))
    for number, image in enumerate(images):
        expected = F.ten_crop(image, [224, 224])
        got = [view[number] for view in views]
        # torchvision crops the mirror image anew, whose left corners are the right ones of the image.
        mirrored = [expected[5 + corner] for corner in (1, 0, 3, 2, 4)]
        pairs = itertools.chain.from_iterable(zip(expected[:5], mirrored, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(got, pairs, strict=True))


def test_the_softmax_of_the_logits_is_the_mean_of_the_probabilities() -> None:
    images, net = torch.randn(3, 1, 9, 9), torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    views = TestTimeAugmentation(tta="ten_crop", image_size=8, enlarged=9)
    mean = torch.stack([net(view).softmax(1) for view in views(images)]).mean(0)
    torch.testing.assert_close(views.logits(net, images).softmax(1), mean)
    off = TestTimeAugmentation(tta="none", image_size=8, enlarged=9)
    assert torch.equal(off.logits(net, images[..., :8, :8]), net(images[..., :8, :8]))


def made(*overrides: str) -> tuple[Trainer, Classifier, ImageData]:
    small = ("data=sample", f"data.image_size={SIZE}", "model=lenet", "data.batch_size=16")
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_test_batches=2,
        limit_val_batches=1,
        use_distributed_sampler=False,
    )
    return trainer, *alexnet_lit.build(alexnet_lit.compose(*small, *overrides))


def reference(images: Tensor, module: torch.nn.Module, tta: str, enlarged: int) -> Tensor:
    """Mean probabilities, an image at a time, by torchvision."""
    means = []
    for image in images[:, None] / 255:
        large = (F.resize(image, [enlarged, enlarged], antialias=False) - 0.2860) / 0.3530
        middle = F.center_crop(large, [SIZE, SIZE])
        views = {"none": [middle], "mirror": [middle, F.hflip(middle)]}.get(tta) or F.ten_crop(large, [SIZE, SIZE])
        with torch.no_grad():
            means.append(module(torch.stack(list(views))).softmax(1).mean(0))
    return torch.stack(means)


@pytest.mark.parametrize(
    "overrides",
    [("data.tta=none",), ("data.tta=mirror", CROP), TEN_CROP],
    ids=" ".join,
)
def test_test_scores_the_mean_probabilities(overrides: tuple[str, ...]) -> None:
    trainer, module, data = made(*overrides)
    with torch.no_grad():  # a net that is far from sure of the same class for each view
        for parameter in module.net.parameters():
            parameter.mul_(2)

    trainer.test(module, datamodule=data, verbose=False)

    test = load_sample().test
    tta, enlarged = overrides[0].removeprefix("data.tta="), ENLARGED if CROP in overrides else SIZE
    mean = reference(test.images[:32], module.eval(), tta, enlarged)
    loss = torch.nn.functional.nll_loss(mean.log(), test.labels[:32])
    assert module.published["test/loss"] == pytest.approx(loss.item(), rel=1e-4)
    correct = (mean.argmax(1) == test.labels[:32]).double().mean()
    assert module.published["test/acc"] == pytest.approx(correct.item(), abs=0.04)


@pytest.mark.parametrize("tta", ["none", "ten_crop"])
def test_validation_and_predictions_see_the_middle(tta: str) -> None:
    trainer, module, data = made(f"data.tta={tta}", CROP)
    trainer.validate(module, datamodule=data, verbose=False)

    images, labels = (part[:16] for part in data.images["val"])
    expected = reference(images, module.eval(), "none", ENLARGED)
    loss = torch.nn.functional.nll_loss(expected.log(), labels)
    assert module.published["val/loss"] == pytest.approx(loss.item(), rel=1e-4)
    torch.testing.assert_close(module.predict(images), expected, rtol=1e-4, atol=1e-6)
