"""A person's own pictures, from a folder to a trained net that knows its classes without it."""

import json
import logging
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

import alexnet_lit
from alexnet_lit.data import ImageFolder, square
from alexnet_lit.data.batches import balanced_order
from alexnet_lit.data.module import Split
from alexnet_lit.errors import UserError
from tests.conftest import Train
from tests.pictures import CLASSES, TINY, build, fill, picture, ready

NAMES = tuple(CLASSES)
RUN = ("data.batch_size=8", "trainer.max_epochs=1", "logger=none")


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path: Path) -> None:
    data = build(fill(tmp_path, train=10, val=2, test=3))
    assert data.classes == NAMES
    assert data.sizes == {"train": 30, "val": 6, "test": 9}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test", "train", "val"]


def test_each_part_has_the_pictures_of_its_folder(tmp_path: Path) -> None:
    data = ready(fill(tmp_path, train=4, val=2, test=3))
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        images, labels = data.images[part]  # type: ignore[index] # one of the literals
        assert torch.bincount(labels).tolist() == [count] * 3
        assert images[torch.arange(len(labels))].shape == (3 * count, 3, 32, 32)
    images, labels = data.images["test"]
    red, green, blue = images[torch.arange(9)].float().mean((0, 2, 3)).tolist()
    assert green == pytest.approx(red / 2, abs=2)
    assert blue == pytest.approx(255 - red, abs=3)
    assert labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3, "in the order of the names"


def test_without_val_a_share_of_each_class_is_for_validation(tmp_path: Path) -> None:
    fill(tmp_path, train=20)
    for number in range(10, 20):
        next((tmp_path / "train" / "shirt").glob(f"{number:03}.*")).unlink()
    data = ready(tmp_path, "data.val_size=0.2")
    assert data.sizes == {"train": 40, "val": 10, "test": 0}
    assert torch.bincount(data.images["val"][1]).tolist() == [4, 4, 2]
    assert torch.bincount(data.images["train"][1]).tolist() == [16, 16, 8]
    folded = ready(tmp_path, "data.folds=5", "data.fold=1")
    assert torch.bincount(folded.images["val"][1]).tolist() == [4, 4, 2]
    assert build(tmp_path, "data.val_size=7").sizes["val"] == 7


def test_what_the_net_sees_is_normalised_by_channel(tmp_path: Path) -> None:
    data = ready(fill(tmp_path), "data.cache_size=28", "data.augment.mirror=false", "data.augment.crop=1")
    batch = next(iter(data.val_dataloader()))
    seen = data.on_after_batch_transfer(batch, 0).images
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (batch.images / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(seen, expected, rtol=0, atol=1e-5)


def test_grey_is_what_the_colours_make(tmp_path: Path) -> None:
    data = ready(
        fill(tmp_path, train=1), "data.channels=1", "data.augment.color=0.1", "data.val_size=0", "objective=null"
    )
    images, _ = data.images["train"]
    assert images[torch.arange(3)].shape == (3, 1, 32, 32)
    assert data.pixels.mean == pytest.approx(0.299 * 0.485 + 0.587 * 0.456 + 0.114 * 0.406)
    assert data.augment.color_axes.shape == (3, 1)
    assert data.augment.color_axes[0].item() == pytest.approx(-(0.299 * 0.2647 + 0.587 * 0.2709 + 0.114 * 0.2722))
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert batch.images.shape == (3, 1, 28, 28)
    own = build(tmp_path, "data.channels=1", "data.mean=0.5", "data.std=[0.25]")
    assert own.pixels.mean == 0.5


def test_the_net_follows_the_pictures(tmp_path: Path) -> None:
    config = alexnet_lit.compose(*TINY, f"data.dir={fill(tmp_path)}")
    module, _ = alexnet_lit.build(config)
    assert module.classes == NAMES
    assert module.hparams["config"]["model"]["num_classes"] == 3
    assert module.hparams["config"]["model"]["in_channels"] == 3
    assert config.model.num_classes is None, "what was given stays as it was"
    net = alexnet_lit.build_net(config)
    assert net(torch.zeros(1, 3, 28, 28)).shape == (1, 3)


def test_a_cache_elsewhere_keeps_data_sets_apart(tmp_path: Path) -> None:
    one, other = fill(tmp_path / "one" / "x", train=2), fill(tmp_path / "other" / "x", train=3)
    for root in (one, other):
        ready(root, f"data.cache={tmp_path / 'cache'}")
        assert [path.name for path in root.iterdir()] == ["train"], "nothing is written beside the pictures"
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_broken_pictures_are_named_and_refused_or_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (fill(tmp_path, train=10) / "train" / "bag" / "004.png").write_bytes(b"")
    (tmp_path / "train" / "boot" / "005.jpg").write_bytes(b"<html>")
    none = "none of JPEG, PNG, GIF, BMP, PPM, TIFF, WEBP"
    which = f"2 of 30 pictures in train/ can't be read: bag/004.png (empty), boot/005.jpg ({none})"
    with pytest.raises(UserError) as caught:
        ready(tmp_path)
    assert str(caught.value) == (
        f"data.dir={tmp_path}: {which}: replace or remove them, or leave them out with data.broken=skip"
    )
    caplog.clear()
    data = build(tmp_path, "data.broken=skip", "data.val_size=0.1")
    assert data.sizes["train"] == 27
    with caplog.at_level(logging.INFO, "alexnet_lit"):
        data.prepare_data()
        data.prepare_data()
    assert data.sizes == {"train": 25, "val": 3, "test": 0}
    assert data.found.train == 28
    assert [text for text in caplog.messages if text.startswith("left out")] == [
        f"left out (data.broken=skip): {which}"
    ]
    data.setup("fit")
    assert sum(len(batch.labels) for batch in data.train_dataloader()) == 25


def test_a_class_of_broken_pictures_alone_is_refused(tmp_path: Path) -> None:
    for path in (fill(tmp_path, train=2, val=1) / "train" / "bag").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"2 of 6 pictures in train/ can't be read: .*: nothing is left in train/bag/"):
        ready(tmp_path, "data.broken=skip")


def test_pictures_that_change_while_a_run_starts_are_told(tmp_path: Path) -> None:
    data = build(fill(tmp_path))
    data.prepare_data()
    picture("bag", 9).save(tmp_path / "train" / "bag" / "new.png")
    ready(tmp_path)
    with pytest.raises(UserError, match="train/ has other pictures than a moment ago: start again"):
        data.setup("fit")


MISTAKES = [
    (["model.num_classes=5"], "model.num_classes=5: the data has 3 classes: use model.num_classes=3"),
    (["model.in_channels=1"], "model.in_channels=1: the data has 3 channel"),
    (["data.channels=4"], "data.channels=4: should be 1 or 3"),
    (["data.broken=ignore"], "data.broken=ignore: should be 'refuse' or 'skip'"),
    (["data.mean=[0.5,0.5]"], "data.mean=[0.5, 0.5]: the images have 3 channels: use 3 numbers"),
    (["data.std=[0.5,0.5,0]"], "data.std=0: should be greater than 0"),
    (["data.val_size=1.5"], "data.val_size=1.5: should be"),
    (["data.val_size=12"], "data.val_size=12 leaves none of the 12 images for training: use at most 11"),
    (["data.train_size=12"], "data.train_size=12 is more than the 11 images that data.val_size=0.1 leaves"),
    (
        ["data.val_size=0"],
        "objective=val/acc: data.val_size=0 leaves no validation images to choose by: use data.val_size=1",
    ),
    (["data.validate=test"], "data.validate=test: there is no test/ in data.dir="),
    (["data.found={classes: [a, b]}"], "data.found"),
    (["data.cache_size=0"], "data.cache_size=0: should be greater than or equal to 1"),
    (["data.dir=/nowhere"], "data.dir=/nowhere: it is not there: name the folder that has train/<class>/<picture>"),
    (["data.dir=???"], "data.dir: has to be given: add data.dir=..."),
]


@pytest.mark.parametrize(("typed", "line"), MISTAKES, ids=[" ".join(typed) for typed, _ in MISTAKES])
def test_a_mistake_is_one_line(typed: list[str], line: str, train: Train, tmp_path: Path) -> None:
    outcome = train(*TINY, f"data.dir={fill(tmp_path / 'pictures')}", *typed)
    assert outcome.err.startswith(f"error: {line}")
    assert len(outcome.err.strip().splitlines()) == 1
    assert outcome.status == 2
    assert not list(outcome.logs.glob("runs/*"))


def test_another_folder_may_take_the_place_of_the_one_that_was_found_if_its_classes_are_known(tmp_path: Path) -> None:
    given = (
        "data.found={classes: [bag, boot, shirt], train: 6, val: 3, test: 3}"  # as a checkpoint of such a run has it
    )
    other = fill(tmp_path / "other", train=3, val=2, test=4)
    assert ready(other, given).sizes == {"train": 9, "val": 6, "test": 12}
    (other / "test" / "bag").rename(other / "test" / "box")
    with pytest.raises(UserError, match=r"test/box/: train/ has no such class, only bag, boot, shirt"):
        ready(other, given)


def test_folds_beside_val_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.folds=5: val/ in data\.dir=.* is for validation: use data\.folds=0"):
        build(fill(tmp_path, train=2, val=1), "data.folds=5")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("pictures"), train=40, val=10, test=20)


def test_it_learns_and_its_checkpoint_needs_no_folder(train: Train, tmp_path: Path, pictures: Path) -> None:
    trained = train(
        *(*TINY, *RUN, f"data.dir={pictures}", "model.activation=relu", "model.init=kaiming"),
        *("optimizer=adamw", "optimizer.lr=3e-3", "trainer.max_epochs=5"),
    )

    assert (trained.status, trained.err) == (0, "")
    assert "120 training, 30 validation, 60 test images of 3 classes, 32 px -> 28 px" in trained.out
    assert "decoded 120 of 120 pictures in train/" in trained.out
    assert trained.result["test/acc"] >= 0.85
    file = shutil.move(trained.folder / "checkpoints" / "best.ckpt", tmp_path)
    content: dict[str, Any] = torch.load(file, weights_only=True)["hyper_parameters"]
    assert content["classes"] == list(NAMES)
    assert content["config"]["model"]["in_channels"] == 3
    pictures.rename(away := pictures.with_name("away"))
    try:
        module = alexnet_lit.load(file)
    finally:
        away.rename(pictures)
    assert module.classes == NAMES
    images = torch.stack(
        [
            torch.frombuffer(bytearray(picture(name, 70).resize((65, 65)).tobytes()), dtype=torch.uint8).view(65, 65, 3)
            for name in NAMES
        ]
    )
    assert module.predict(images.permute(0, 3, 1, 2)).argmax(1).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"predict takes uint8 images \(B, 3, H, W\), not"):
        module.predict(images[..., 0])


def test_a_run_without_test_says_so_and_without_the_broken_is_as_long_as_it_should_be(
    train: Train, tmp_path: Path
) -> None:
    root = fill(tmp_path / "pictures", train=6)
    for number in range(3):
        next((root / "train" / "bag").glob(f"{number:03}.*")).write_bytes(b"")

    outcome = train(*TINY, *RUN, f"data.dir={root}", "data.broken=skip", "data.val_size=2")

    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.result["status"] == "completed"
    assert outcome.result["test/acc"] is None
    assert (outcome.folder / "checkpoints" / "best.ckpt").exists()
    assert "no test: the data has no test images" in outcome.out
    assert outcome.out.count("left out (data.broken=skip): 3 of 18 pictures") == 1
    assert "13 training, 2 validation, 0 test images" in outcome.out
    last = torch.load(outcome.folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 2, "13 images in batches of 8"
    found = last["hyper_parameters"]["config"]["data"]["found"]
    assert found["classes"] == list(NAMES)
    assert [found[key] for key in ("train", "val", "test", "held")] == [15, 0, 0, 2]
    assert last["lr_schedulers"][0]["_last_lr"][0] < 0.001, "the schedule has come to its end"


def test_a_resumed_run_needs_the_same_classes(train: Train, tmp_path: Path) -> None:
    root = fill(tmp_path / "pictures", train=3)
    first = train(*TINY, *RUN, f"data.dir={root}")
    assert first.status == 0, first.err

    longer = train(f"ckpt={first.folder}", "trainer.max_epochs=2")
    assert (longer.status, longer.result["epochs"]) == (0, 2)

    (root / "train" / "boot").rename(root / "train" / "shoe")
    refused = train(f"ckpt={first.folder}", "trainer.max_epochs=3")
    assert refused.status == 2
    assert refused.err == (
        f"error: ckpt={first.folder}: the classes have changed since, now without boot and with shoe: "
        "make them what they were, or start a new run\n"
    )


def seen(data: ImageFolder, split: Split) -> set[bytes]:
    """The pictures of a split, which are told apart by their pixels."""
    images, labels = data.images[split]
    return {image.numpy().tobytes() for image in images[torch.arange(len(labels))]}


def split_of(checkpoint: Path) -> tuple[set[bytes], set[bytes]]:
    """What the checkpoint's run trained on, and what it validated on."""
    config = torch.load(checkpoint, weights_only=True)["hyper_parameters"]["config"]
    _, data = alexnet_lit.build(OmegaConf.create(config))
    assert isinstance(data, ImageFolder)
    data.prepare_data()
    data.setup("fit")
    return seen(data, "train"), seen(data, "val")


def change(root: Path) -> None:
    """Add, remove and rename pictures in train/."""
    for name in CLASSES:
        for number in range(40, 60):
            picture(name, number).save(root / "train" / name / f"{number}.png")
        (root / "train" / name / "002.png").unlink()
    (root / "train" / "bag" / "004.png").rename(root / "train" / "bag" / "renamed.png")


NEWS = "other pictures than the run began with, in train/ (60 pictures then, 117 now): known by their names, none that"


@pytest.mark.parametrize("split", [["data.val_size=0.2"], ["data.val_size=13"], ["data.folds=4", "data.fold=2"]])
def test_what_was_trained_on_is_never_validated_on(split: list[str], train: Train, verb: Train, tmp_path: Path) -> None:
    root = fill(tmp_path / "pictures", train=20)
    first = train(*TINY, *RUN, *split, "data.train_size=40", f"data.dir={root}")
    assert (first.status, first.err) == (0, "")
    checkpoint = first.folder / "checkpoints" / "last.ckpt"
    trained, validated = split_of(checkpoint)
    held = len(validated)
    assert (len(trained), held) == (40, {"0.2": 12, "13": 13, "2": 15}[split[-1].partition("=")[2]])
    unchanged = train(f"ckpt={first.folder}", "trainer.max_epochs=2")
    assert (unchanged.status, unchanged.err) == (0, "")
    assert "other pictures" not in unchanged.out
    assert split_of(checkpoint) == (trained, validated)
    renamed = picture("bag", 4)
    change(root)

    measured = verb("evaluate", str(first.folder), "--split=val", "--json")
    assert measured.status == 0, measured.err
    assert measured.err.count(f"warning: data.dir={root}: {NEWS}") == 1
    longer = train(f"ckpt={first.folder}", "trainer.max_epochs=3")
    assert longer.status == 0, longer.err
    assert (longer.out + longer.err).count(NEWS) == 1

    _, now = split_of(checkpoint)
    assert json.loads(measured.out)["images"] == len(now) > held
    assert now >= validated - {square_of(picture("bag", 4)), *(square_of(picture(name, 2)) for name in CLASSES)}
    assert now & trained <= {square_of(renamed)}, "a picture of another name is another picture"


def square_of(image: Image.Image) -> bytes:
    """What is kept of a picture that was saved as PNG."""
    file = BytesIO()
    image.save(file, "PNG")
    return square(BytesIO(file.getvalue()), size=32, channels=3)


def test_a_new_run_holds_out_nearly_the_same_in_a_folder_that_has_changed(tmp_path: Path) -> None:
    before = ready(fill(tmp_path, train=20), "data.val_size=0.2")
    val = seen(before, "val")
    for number in (40, 41):
        picture("bag", number).save(tmp_path / "train" / "bag" / f"0{number}.png")
    after = ready(tmp_path, "data.val_size=0.2")
    assert len(seen(after, "val") & seen(before, "train")) <= 1
    assert len(val - seen(after, "val")) <= 2
    assert after.sizes == {"train": 50, "val": 12, "test": 0}
    other = ready(tmp_path, "data.val_size=0.2", "data.split_seed=1")
    assert seen(other, "val") != seen(after, "val")


def test_folds_share_the_pictures_out(tmp_path: Path) -> None:
    fill(tmp_path, train=7)
    folds = [seen(ready(tmp_path, "data.folds=4", f"data.fold={fold}"), "val") for fold in range(4)]
    assert [len(fold) for fold in folds] == [5, 5, 5, 6]
    assert len(set.union(*folds)) == 21


def test_a_run_that_was_split_by_number_stays_so_and_tells_where_it_can_t(
    train: Train, verb: Train, tmp_path: Path
) -> None:
    root = fill(tmp_path / "pictures", train=10)
    first = train(*TINY, *RUN, f"data.dir={root}")
    checkpoint = torch.load(file := first.folder / "checkpoints" / "last.ckpt", weights_only=True)
    found = checkpoint["hyper_parameters"]["config"]["data"]["found"]
    checkpoint["hyper_parameters"]["config"]["data"]["found"] = {
        key: found[key] for key in ("classes", "train", "val", "test")
    }
    torch.save(checkpoint, file)
    (first.folder / "checkpoints" / "best.ckpt").unlink()

    same = verb("evaluate", str(first.folder), "--split=val", "--json")
    assert (same.status, same.err) == (0, "")
    order = balanced_order(torch.arange(3).repeat_interleave(10), 0)
    counts = [row["images"] for row in json.loads(same.out)["classes"].values()]
    assert counts == torch.bincount(torch.arange(3).repeat_interleave(10)[order[:3]], minlength=3).tolist()
    picture("bag", 40).save(root / "train" / "bag" / "40.png")
    other = verb("evaluate", str(first.folder), "--split=val", "--force")
    assert "train/ (30 pictures then, 31 now): as this run has split them by number, some that were" in other.err


def test_pictures_that_were_moved_are_found_where_they_are_now(train: Train, verb: Train, tmp_path: Path) -> None:
    root = fill(tmp_path / "pictures", train=6, test=1)
    first = train(*TINY, *RUN, f"data.dir={root}")
    assert first.status == 0, first.err
    split = split_of(first.folder / "checkpoints" / "last.ckpt")
    moved = root.rename(tmp_path / "moved")

    gone = train(f"ckpt={first.folder}", "trainer.max_epochs=2")
    way_out = f"add data.dir=... to ckpt={first.folder}, the folder that has train/<class>/<picture>"
    assert (gone.status, gone.err) == (2, f"error: data.dir={root}: it is not there: {way_out}\n")
    longer = train(f"ckpt={first.folder}", "trainer.max_epochs=2", f"data.dir={moved}")

    assert (longer.status, longer.err, longer.result["epochs"]) == (0, "", 2)
    assert "decoded" not in longer.out, "the cache has moved too"
    assert "other pictures" not in longer.out
    assert split_of(first.folder / "checkpoints" / "last.ckpt") == split
    assert verb("evaluate", str(first.folder), f"--dir={moved}").err == ""
    refused = train(f"ckpt={first.folder}", "trainer.max_epochs=3", "data.val_size=0.5")
    assert refused.err.startswith("error: data.val_size=0.5: can't be changed in a run that is continued")
    (moved / "train" / "boot").rename(moved / "train" / "shoe")
    (moved / "test" / "boot").rename(moved / "test" / "shoe")
    other = train(f"ckpt={first.folder}", "trainer.max_epochs=3", f"data.dir={moved}")
    line = f"error: ckpt={first.folder}: the classes have changed since, now without boot and with shoe: "
    assert (other.status, other.err.startswith(line), len(other.err.splitlines())) == (2, True, 1)


def test_a_run_goes_on_without_its_val_no_more(train: Train, tmp_path: Path) -> None:
    root = fill(tmp_path / "pictures", train=4, val=1)
    first = train(*TINY, *RUN, f"data.dir={root}")
    shutil.rmtree(root / "val")
    outcome = train(f"ckpt={first.folder}", "trainer.max_epochs=2")
    way_out = "what is in train/ was trained on: put it back, or start a new run"
    assert (outcome.status, outcome.err) == (2, f"error: data.dir={root}: val/ is gone, and {way_out}\n")


@pytest.mark.slow
def test_two_ranks_see_what_one_sees(train: Train, tmp_path: Path) -> None:
    root = fill(tmp_path / "pictures", train=5, test=2)
    (root / "train" / "bag" / "000.png").write_bytes(b"")
    same = (*TINY, *RUN, f"data.dir={root}", "data.broken=skip", "trainer.accelerator=cpu", "trainer.precision=64-true")
    one = train(*same, logs=tmp_path / "one")
    two = train(*same, "trainer.devices=2", logs=tmp_path / "two")
    assert (one.status, two.status) == (0, 0), two.err
    for name in ("steps", "images"):
        assert one.result[name] == two.result[name]
    for name in ("test/loss", "val/loss", "train/loss"):
        assert one.result[name] == pytest.approx(two.result[name], rel=1e-6)


def test_what_a_run_found_can_be_written_down(tmp_path: Path) -> None:
    for name in ("1", "null", "true", "a: b", "Ünï"):
        (tmp_path / "train" / name).mkdir(parents=True)
        picture("bag", 0).save(tmp_path / "train" / name / "a.png")
    module, data = alexnet_lit.build(alexnet_lit.compose(*TINY, f"data.dir={tmp_path}"))
    text = OmegaConf.to_yaml(OmegaConf.create(module.hparams["config"]))
    again = OmegaConf.create(text)
    assert again.data.found.classes == list(data.classes) == ["1", "a: b", "null", "true", "Ünï"]
    assert json.loads(json.dumps(module.hparams["classes"])) == list(data.classes)
