"""A person's own pictures, from a folder to a trained net that knows its classes without it."""

import json
import logging
import re
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torchvision.transforms import v2

import alexnet_lit
from alexnet_lit.checkpoint import keep_precision_and_split
from alexnet_lit.config import to_plain
from alexnet_lit.data import ImageFolder
from alexnet_lit.data.datamodule import Split
from alexnet_lit.data.image_folder import FolderContents, inspect_folder, scan
from alexnet_lit.data.picture import square
from alexnet_lit.errors import UserError
from tests.conftest import Train
from tests.pictures import CLASSES, TINY, build, encoded, fill, picture, ready
from tests.processes import Runs
from tests.runs import saved

NAMES = tuple(CLASSES)
RUN = ("data.batch_size=8", "trainer.max_epochs=1", "logger=none")


def touch(root: Path, *names: str) -> Path:
    """Files without content: names are all that is looked at. A name that ends in / is a folder."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(exist_ok=True) if name.endswith("/") else path.touch()
    return root


@pytest.mark.posix
def test_a_class_is_a_folder_and_all_that_is_below_it(tmp_path: Path) -> None:
    touch(tmp_path, "train/dog/a.JPG", "train/dog/old/er/b.jpeg", "train/cat/c.png", "train/Ünï cödé/d.webp")
    touch(tmp_path, "val/cat/e.bmp", "test/dog/f.tif", "test/dog/g.gif", "test/cat/")
    touch(tmp_path, "train/README", "train/3.jpg", "train/dog/notes.txt")
    touch(tmp_path, "train/.DS_Store", "train/cat/._1.jpg", "train/.ipynb_checkpoints/4.jpg", "train/cat/.trash/5.jpg")
    (tmp_path / "train" / "cat").rename(tmp_path / "elsewhere")
    (tmp_path / "train" / "cat").symlink_to(tmp_path / "elsewhere")

    found, (_, names) = inspect_folder(tmp_path, None, 0), scan(tmp_path / "train")
    assert found[:4] == FolderContents(["cat", "dog", "Ünï cödé"], train=4, val=1, test=2)[:4]
    assert names == ["cat/c.png", "dog/a.JPG", "dog/old/er/b.jpeg", "Ünï cödé/d.webp"]


CATS_AND_DOGS = ("train/cat/1.jpg", "train/dog/2.jpg")
FOLDERS: dict[str, tuple[tuple[str, ...], str]] = {
    "no split": (("cat/1.jpg", "dog/2.jpg"), "there is no folder train/ in it: name the folder that has"),
    "no classes": (("train/1.jpg",), "train/ has no folder in it: a net needs two classes"),
    "one class": (("train/cat/1.jpg",), "train/ has cat in it: a net needs two classes"),
    "no pictures": (("train/cat/a.heic", "train/dog/"), "no picture in train/cat/, train/dog/: put some in (jpg, "),
    "another class": ((*CATS_AND_DOGS, "val/fox/3.jpg"), "val/fox/: train/ has no such class, only cat, dog: use"),
    "an empty val": ((*CATS_AND_DOGS, "val/cat/"), "no picture in val/cat/, val/dog/: put some in (jpg, "),
    "a name that YAML takes": ((*CATS_AND_DOGS, "train/${x}/1.jpg"), "a class can't be named '${x}'"),
    "a name of no text": ((*CATS_AND_DOGS, "train/\udcff/1.jpg"), r"a class can't be named '\udcff'"),
}


@pytest.mark.parametrize(
    ("names", "line"),
    [pytest.param(*row, id=name, marks=[pytest.mark.linux] * ("no text" in name)) for name, row in FOLDERS.items()],
)
def test_a_folder_that_cannot_be_trained_on(names: tuple[str, ...], line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^{re.escape(f'data.dir={tmp_path}: {line}')}[^\n]*$"):
        inspect_folder(touch(tmp_path, *names), None, 0)


def test_each_part_has_the_pictures_of_its_folder(tmp_path: Path) -> None:
    root = fill(tmp_path / "pictures", train=4, val=2, test=3)
    elsewhere = f"data.cache={tmp_path / 'cache'}"
    data = build(root, elsewhere)
    assert (data.classes, data.sizes) == (NAMES, {"train": 12, "val": 6, "test": 9})
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"], "nothing is decoded yet"
    with pytest.raises(UserError, match=r"data\.folds=5: val/ in data\.dir=.* is for validation: use data\.folds=0"):
        build(root, "data.folds=5")
    data.prepare_data()
    data.setup("fit")
    assert sorted(path.name for path in root.iterdir()) == ["test", "train", "val"], "nothing is written beside them"
    other = fill(tmp_path / "other" / "pictures", train=1)
    assert ready(other, elsewhere).sizes["train"] == 2, "data sets of one name have a cache each"
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        images, labels = data.images[part]  # type: ignore[index] # one of the literals
        assert torch.bincount(labels).tolist() == [count] * 3
        assert images.index_select(0, torch.arange(len(labels))).shape == (3 * count, 3, 32, 32)
    # A part of the batches is no part of the classes.
    for loader in (data.val_dataloader(), data.test_dataloader()):
        assert [sorted(labels.tolist()) for labels in loader.labels.split(3)] == [[0, 1, 2]] * (len(loader.labels) // 3)
    images, labels = data.read()["test"]
    red, green, blue = images.index_select(0, torch.arange(9)).float().mean((0, 2, 3)).tolist()
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
    folds = [ready(tmp_path, "data.folds=5", f"data.fold={fold}") for fold in range(5)]
    assert [torch.bincount(fold.images["val"][1]).tolist() for fold in folds] == [[4, 4, 2]] * 5
    assert len(set.union(*(seen(fold, "val") for fold in folds))) == 50
    # In a folder that has changed, a new run holds out nearly the same.
    for number in (40, 41):
        picture("bag", number).save(tmp_path / "train" / "bag" / f"0{number}.png")
    after = ready(tmp_path, "data.val_size=0.2")
    assert len(seen(after, "val") & seen(data, "train")) <= 1
    assert len(seen(data, "val") - seen(after, "val")) <= 2
    assert seen(ready(tmp_path, "data.val_size=0.2", "data.split_seed=1"), "val") != seen(after, "val")
    assert build(tmp_path, "data.val_size=7").sizes["val"] == 7


def test_grey_is_what_the_colours_make(tmp_path: Path) -> None:
    data = ready(fill(tmp_path, train=1), "data.channels=1", "data.val_size=0", "objective=null")
    assert data.pixels.mean == pytest.approx(0.299 * 0.485 + 0.587 * 0.456 + 0.114 * 0.406)
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert batch.images.shape == (3, 1, 28, 28)
    assert build(tmp_path, "data.channels=1", "data.mean=0.5", "data.std=[0.25]").pixels.mean == 0.5


def test_broken_pictures_are_named_and_refused_or_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (fill(tmp_path, train=10) / "train" / "bag" / "004.png").write_bytes(b"")
    (tmp_path / "train" / "boot" / "005.jpg").write_bytes(b"<html>")
    none = "none of JPEG, PNG, GIF, BMP, PPM, TIFF, WEBP"
    which = f"2 of 30 pictures in train/ can't be read: bag/004.png ({none}), boot/005.jpg ({none})"
    line = f"data.dir={tmp_path}: {which}: replace or remove them, or leave them out with data.broken=skip"
    with pytest.raises(UserError, match=rf"^{re.escape(line)}$"):
        ready(tmp_path)
    caplog.clear()
    data = build(tmp_path, "data.broken=skip", "data.val_size=0.1")
    assert data.sizes["train"] == 27
    with caplog.at_level(logging.INFO, "alexnet_lit"):
        data.prepare_data()
        data.prepare_data()
    assert data.sizes["train"] + data.sizes["val"] == data.found.train == 28
    assert caplog.messages.count(f"left out (data.broken=skip): {which}") == 1
    data.setup("fit")
    assert sum(len(batch.labels) for batch in data.train_dataloader()) == data.sizes["train"]
    config = alexnet_lit.compose(*TINY, f"data.dir={tmp_path}", "data.broken=skip")
    config.data.found = data.found._asdict()
    _, rank = alexnet_lit.build(config)
    (tmp_path / "train" / "bag" / "000.png").write_bytes(b"")
    with pytest.raises(UserError, match="train/ has changed since the run started: start it again"):
        rank.setup("fit")


MISTAKES = {  # before a colon at its beginning stands what was typed
    "model.num_classes=5": ": the data has 3 classes: use model.num_classes=3",
    "model.in_channels=1": ": the data has 3 channel",
    "data.mean=[0.5,0.5]": "data.mean=[0.5, 0.5]: the images have 3 channels: use 3 numbers",
    "data.train_size=12": "data.train_size=12 is more than the 11 images that data.val_size=0.1 leaves",
    "data.validate=test": ": there is no test/ in data.dir=",
    "data.dir=/nowhere": ": there is no folder train/ in it: name the folder that has train/<class>/",
    "data.dir=???": "data.dir: has to be given: add data.dir=...",
}


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_is_one_line(typed: str, tmp_path: Path) -> None:
    line = f"{typed if MISTAKES[typed][0] == ':' else ''}{MISTAKES[typed]}"
    with pytest.raises(UserError, match=rf"^{re.escape(line)}[^\n]*$"):
        build(fill(tmp_path), typed)
    assert not (tmp_path / "alexnet_lit_cache").exists()


def test_a_net_learns_them_and_its_checkpoint_needs_no_folder(rgb: tuple[Path, Path]) -> None:
    run, pictures = rgb
    assert json.loads((run / "result.json").read_text())["test/acc"] >= 0.7
    pictures.rename(away := pictures.with_name("away"))
    try:
        module = alexnet_lit.load(run)
    finally:
        away.rename(pictures)
    assert module.classes == NAMES
    images = torch.stack([v2.functional.pil_to_tensor(picture(name, 70).resize((65, 65))) for name in NAMES])
    assert module.predict(images).argmax(1).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"predict takes uint8 images \(B, 3, H, W\), not"):
        module.predict(images[:, 0])


@pytest.mark.slow
def test_a_run_on_two_devices_without_test_and_without_the_broken(tmp_path: Path) -> None:
    root = fill(tmp_path / "pictures", train=6)
    for number in range(3):
        next((root / "train" / "bag").glob(f"{number:03}.*")).write_bytes(b"")
    typed = (*TINY, *RUN, f"data.dir={root}", "data.broken=skip", "data.val_size=2", "trainer.accelerator=cpu")

    run = Runs(tmp_path / "logs", ranks=2)
    assert run(*typed) == [0, 0], run.text
    assert [run.result[key] for key in ("status", "test/acc", "images")] == ["completed", None, 13]
    assert (run.folder / "checkpoints" / "best.ckpt").exists()
    for text in ("no test: the data has no test images", "left out (data.broken=skip): 3 of 18 pictures"):
        assert run.text.count(text) == 1
    assert "13 training, 2 validation, 0 test images" in run.text
    last = saved(run.folder)
    assert last["global_step"] == 2, "13 images in batches of 8"
    found = last["hyper_parameters"]["config"]["data"]["found"]
    assert found["classes"] == list(NAMES)
    assert [found[key] for key in ("train", "val", "test", "held")] == [15, 0, 0, 2]
    assert last["lr_schedulers"][0]["_last_lr"][0] < 0.001, "the schedule has come to its end"


def seen(data: ImageFolder, split: Split) -> set[bytes]:
    """The pictures of a split, which are told apart by their pixels."""
    images, labels = data.images[split]
    return {image.numpy().tobytes() for image in images.index_select(0, torch.arange(len(labels)))}


def continued(root: Path, before: ImageFolder, *overrides: str) -> ImageFolder:
    """The data of a run that goes on from a checkpoint of one that had the data `before`."""
    config = alexnet_lit.compose(*TINY, f"data.dir={root}", *overrides)
    config.data.found = before.found._replace(earlier=True)._asdict()
    _, data = alexnet_lit.build(config)
    assert isinstance(data, ImageFolder)
    data.prepare_data()
    data.setup("fit")
    return data


NEWS = "other pictures than the run began with, in train/: the split goes by name, so none that was trained on"


@pytest.mark.parametrize("split", [["data.val_size=13"], ["data.folds=4", "data.fold=2"]])
def test_no_training_picture_validates(split: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root, split = fill(tmp_path, train=20), [*split, "data.train_size=40"]
    before = ready(root, *split)
    trained, validated = seen(before, "train"), seen(before, "val")
    assert (len(trained), len(validated)) == (40, 13 if len(split) == 2 else 15)
    same = continued(root, before, *split)
    assert (seen(same, "train"), seen(same, "val")) == (trained, validated)
    assert "other pictures" not in caplog.text
    for name in CLASSES:
        for number in range(40, 60):
            picture(name, number).save(root / "train" / name / f"{number}.png")
        (root / "train" / name / "002.png").unlink()
    (root / "train" / "bag" / "004.png").rename(root / "train" / "bag" / "renamed.png")

    after = continued(root, before, *split)
    assert caplog.text.count(f"data.dir={root}: {NEWS}") == 1
    now = seen(after, "val")
    assert len(now) == after.sizes["val"] > len(validated)
    assert now >= validated - {square_of(picture("bag", 4)), *(square_of(picture(name, 2)) for name in CLASSES)}
    assert now & trained <= {square_of(picture("bag", 4))}, "a picture of another name is another picture"


def square_of(image: Image.Image) -> bytes:
    """What is kept of a picture that was saved as PNG."""
    return square(encoded(image), size=32, channels=3)


def test_a_folder_that_was_moved_or_changed_is_resumed_and_evaluated(train: Train, verb: Train, tmp_path: Path) -> None:
    root = fill(tmp_path / "pictures", train=6, test=1)
    first = train(*TINY, *RUN, f"data.dir={root}").ok()
    moved = root.rename(tmp_path / "moved")

    way_out = f"add data.dir=... to ckpt={first.folder}, the folder that has train/<class>/<picture>"
    gone = train(f"ckpt={first.folder}", "trainer.max_epochs=2")
    assert gone.refusal == f"data.dir={root}: it is not there: {way_out}"

    picture("bag", 40).save(moved / "train" / "bag" / "40.png")
    news = f"data.dir={moved}: other pictures than the run began with, in train/: the split"
    changed = train(f"ckpt={first.folder}", "trainer.max_epochs=2", f"data.dir={moved}")
    assert (changed.status, changed.result["epochs"], (changed.out + changed.err).count(news)) == (0, 2, 1)
    assert "decoded 19 of 19 pictures in train/" in changed.out
    assert "decoding test/" not in changed.out, "the cache has moved too"
    measured = verb("evaluate", str(first.folder), "--split=val", f"--dir={moved}", "--json")
    assert (measured.status, json.loads(measured.out)["images"] >= 2) == (0, True)
    for part in ("train", "test"):
        (moved / part / "boot").rename(moved / part / "shoe")
    other = train(f"ckpt={first.folder}", "trainer.max_epochs=4", f"data.dir={moved}")
    way_out = "make them what they were, or start a new run"
    news = "the classes have changed since, now without boot and with shoe"
    assert other.refusal == f"ckpt={first.folder}: {news}: {way_out}"


def test_val_that_is_gone_is_not_made_up_from_what_was_trained_on(tmp_path: Path) -> None:
    before = ready(root := fill(tmp_path, val=1))
    config = alexnet_lit.compose(*TINY, f"data.dir={root}")
    content = to_plain(config)
    content["data"]["found"] = before.found._asdict()
    shutil.rmtree(root / "val")
    with pytest.raises(UserError, match="val/ is gone, and what is in train/ was trained on: put it back, or start a"):
        keep_precision_and_split(config, {"hyper_parameters": {"config": content}})
    assert continued(root, before, "objective=null").sizes == {"train": 12, "val": 0, "test": 0}


def test_what_a_run_found_can_be_written_down(tmp_path: Path) -> None:
    for name in ("1", "null", "a: b", "Ünï"):
        (tmp_path / "train" / name).mkdir(parents=True)
        picture("bag", 0).save(tmp_path / "train" / name / "a.png")
    config = alexnet_lit.compose(*TINY, f"data.dir={tmp_path}")
    module, data = alexnet_lit.build(config)
    again = OmegaConf.create(OmegaConf.to_yaml(OmegaConf.create(module.hparams["config"])))
    assert again.data.found.classes == list(data.classes) == ["1", "a: b", "null", "Ünï"]
    assert (again.model.num_classes, again.model.in_channels) == (4, 3), "the net follows the pictures"
    assert config.model.num_classes is None, "what was given stays as it was"
