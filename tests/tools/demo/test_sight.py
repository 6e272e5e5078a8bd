"""What the demo shows of a picture: the answer of `predict`, the net's own view, its first layer."""

import json
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageStat

from alexnet_lit.config import checkpoint_file
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.data.picture import Broken
from alexnet_lit.tools.demo.sight import grid, look
from alexnet_lit.tools.predict.guess import Guesser
from tests.conftest import Train

BOOT = load_sample().test.images[0]


@pytest.fixture(scope="module")
def guesser(lenet: Path) -> Guesser:
    return Guesser(checkpoint_file(lenet), background="auto", device="cpu")


def test_the_answer_is_that_of_predict(guesser: Guesser, lenet: Path, verb: Train, tmp_path: Path) -> None:
    page = Image.new("RGB", (300, 400), "white")
    page.paste(Image.fromarray(255 - BOOT.numpy()).resize((224, 224)), (20, 60))
    page.save(tmp_path / "boot.jpg")

    (found,) = json.loads(verb("predict", str(lenet), "boot.jpg", "--json", "--top=10").out)
    for source in (str(tmp_path / "boot.jpg"), BytesIO((tmp_path / "boot.jpg").read_bytes())):
        sight = look(guesser, source)
        assert [*sight.probabilities] == [one["class"] for one in found["classes"]]
        assert [*sight.probabilities.values()] == pytest.approx(
            [one["probability"] for one in found["classes"]], abs=1e-6
        )
        assert sight.done == found["picture"]


def test_the_picture_is_what_goes_into_the_net(guesser: Guesser, tmp_path: Path) -> None:
    Image.fromarray(255 - BOOT.numpy()).save(tmp_path / "boot.png")
    sight = look(guesser, str(tmp_path / "boot.png"))
    assert sight.done == "28x28, inverted"
    assert (sight.seen.mode, sight.seen.size) == ("L", (28, 28))
    assert sight.seen.tobytes() == BOOT.numpy().tobytes()
    assert sight.maps is not None
    assert sight.maps.size == (958, 158)  # six maps of 28 px, enlarged


def test_a_net_of_colour_pictures_sees_colour(rgb: tuple[Path, Path]) -> None:
    folder, pictures = rgb
    guesser = Guesser(checkpoint_file(folder), background="auto", device="cpu")
    source = next((pictures / "test" / "bag").glob("*.png"))
    sight = look(guesser, str(source))
    assert (sight.seen.mode, sight.seen.size) == ("RGB", (28, 28))
    red, green, blue = ImageStat.Stat(sight.seen).mean
    assert (green, blue) == pytest.approx((red / 2, 255 - red), abs=2), "as tests/pictures.py tints them"
    assert set(sight.probabilities) == {"bag", "boot", "shirt"}


def test_maps_share_a_scale_and_are_bounded() -> None:
    maps = torch.zeros(96, 300, 300)
    maps[1], maps[17] = 1, 0.5  # the second of the first row, and of the second
    page = grid(maps)
    assert page.size == (958, 358)
    none, much, half = (
        ImageStat.Stat(page.crop((x, y, x + 9, y + 9))).sum[0] for x, y in ((30, 30), (90, 30), (90, 90))
    )
    assert none > half > much, "the stronger the darker"
    assert grid(torch.ones(6, 4, 4)).getcolors(2), "one value has one colour, and the gaps another"


def test_what_can_t_be_read_says_so(guesser: Guesser) -> None:
    with pytest.raises(Broken, match="none of JPEG, PNG"):
        look(guesser, BytesIO(b"no picture"))
    assert not guesser.module.net.get_submodule("features.conv1")._forward_hooks
