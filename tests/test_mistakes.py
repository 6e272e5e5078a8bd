"""A mistake of the user costs one readable line that names the key or file, the value and the way out."""

import os
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn

from alexnet_lit import compose
from alexnet_lit.distributed.strategy import check_strategy
from alexnet_lit.errors import UserError
from alexnet_lit.factory import build
from alexnet_lit.prepare import check_clipping, prepare
from tests.conftest import Train

# What is typed, and what the line says. {tmp} is an empty folder of the test.
TYPED = [
    # Keys
    (["model.lnr=true"], "model.lnr: there is no such key: did you mean model.lrn"),
    (["modle.lrn=true"], "modle.lrn: there is no such key: did you mean model.lrn"),
    (["+model.width=2"], "model.width: there is no such key: "),
    # Choices
    (["model=alexnt"], "model=alexnt: there is no such choice: use one of alexnet, alexnet_2012, alexnet_owt, lenet"),
    # Form
    (["model.lrn"], "model.lrn: not of the form key=value"),
    (
        ["model.lrn=true,false"],
        "model.lrn=true,false: several values: add -m to sweep over them, or [...]",
    ),
    (["seed=1", "name=a=b"], "error: name=a=b: cannot be read: quote a value with special characters"),
    (["epochs=3"], "epochs: there is no such key: did you mean trainer.max_epochs"),
    (
        ["optimizer=adamw", "optimizer.momentum=0.9"],
        "optimizer.momentum: there is no such key: it is one of optimizer=muon and optimizer=sgd",
    ),
    (["experiment=null"], "experiment=null: of a group a choice is named: leave it out, or use one of best"),
    (
        ["callbacks=[ema,null]"],
        "callbacks=[ema,null]: of a group a choice is named: leave it out, or use one of default, early_stopping",
    ),
    # Sweeps
    (["-m", "model.lnr=true,false"], "error: model.lnr: there is no such key: did you mean model.lrn?"),
    (["-m", "sweep=lrn,seeds"], "sweep=lrn,seeds: a ready sweep is several runs already: name one of them"),
    (["sweep=lrn", "ckpt={tmp}"], "ckpt={tmp}: continues one run: leave out -m and sweep="),
    # Schedules
    (["scheduler.monitor=val/loss"], "scheduler.monitor=val/loss: LambdaLR looks at no score: use null"),
    # The trainer, by Lightning's own judgement
    (
        ["trainer.precision=16-mixed", "optimizer.fused=false", "trainer.accelerator=cpu"],
        "trainer.precision=16-mixed: on a CPU Lightning takes bf16-mixed instead: use trainer.precision=bf16-mixed, or",
    ),
    (
        ["trainer.precision=fp8"],
        "trainer.precision=fp8: should be 'auto', '32-true', 'bf16-mixed', '16-mixed', 'bf16-true', '16-true', ",
    ),
    (["trainer.max_epochs=0"], "trainer.max_epochs=0: should be greater than or equal to 1"),
    (["trainer.max_time=00:00:00:00"], "trainer.max_time=00:00:00:00: is no time to train in: use 00:01:00:00 for an"),
    (["trainer.max_time=5m"], "trainer.max_time=5m: `Timer(duration='5m')` is not a valid duration"),
    (
        ["data=sample", "data.image_size=65", "trainer.limit_train_batches=0.001"],
        "trainer.limit_train_batches=0.001: of 25 train batches that is none: use a larger share, or a number of",
    ),
    (
        ["trainer.check_val_every_n_epoch=null"],
        "trainer.check_val_every_n_epoch=null: `val_check_interval` should be an integer or a time-based duration",
    ),
    (["+trainer.logger=false"], "trainer.logger=false: the run sets it itself: use the group, logger=..."),
    (["trainer.logger=false"], "trainer.logger: there is no such key: did you mean the group, logger=...?"),
    (
        ["trainer.min_epochs=2"],
        "trainer.min_epochs: there is no such key: write +trainer.min_epochs=..., for trainer=default",
    ),
    (
        ["scheduler=plateau", "trainer.limit_val_batches=0"],
        "scheduler.monitor=val/loss: the run does not measure it: use train/loss or train/acc",
    ),
    (
        ["callbacks=early_stopping", "callbacks.early_stopping.monitor=val/accuracy"],
        "callbacks.early_stopping.monitor=val/accuracy: the run does not measure it: use val/loss or val/acc or train/",
    ),
    (
        ["scheduler=plateau", "scheduler.monitor=null"],
        "scheduler.monitor=null: ReduceLROnPlateau looks at a score: use val/loss or train/loss",
    ),
    (
        ["scheduler=plateau", "scheduler.interval=step"],
        "scheduler.interval=step: a score is looked at once an epoch: use scheduler.interval=epoch",
    ),
    (
        ["+trainer.min_steps=9", "trainer.max_steps=8"],
        "trainer.min_steps=9: the run ends with trainer.max_steps=8: use trainer.max_steps=9 or more",
    ),
    (
        ["ckpt={tmp}", "trainer.fast_dev_run=true"],
        "trainer.fast_dev_run=true: tries out a new run, and ckpt={tmp} cont",
    ),
    # Types
    (["model.lrn=yes"], "model.lrn=yes: should be true or false"),
    (["seed=abc"], "seed=abc: should be a whole number from 0"),
    # Ranges
    (["model.dropout=1.5"], "model.dropout=1.5: should be less than or equal to 1"),
    (
        ["model.compile=fast"],
        "model.compile=fast: should be false, true, 'reduce-overhead', 'max-autotune' or 'max-autotune-no-cudagraphs'",
    ),
    (
        ["model=lenet", "data.image_size=28", "model.init=caffe"],
        "model: init=caffe: is for five convolutions and three linear layers: use xavier or kaiming",
    ),
    (["model.num_classes=5"], "model.num_classes=5: the data has 10 classes"),
    (["model.in_channels=3"], "model.in_channels=3: the data has 1 channel"),
    (
        ["model.image_size=96"],
        "model.image_size=96: the data is enlarged to data.image_size=224: set data.image_size alone",
    ),
    (["model.weights=imagenet"], "model: weights=imagenet: there are none for design=course: use model=alexnet_owt"),
    (["optimizer.lr=-1"], "optimizer: Invalid learning rate: -1"),
    (["label_smoothing=1"], "label_smoothing=1: should be a number from 0 to less than 1: 0.1 is usual"),
    (["data.val_size=60000"], "data.val_size=60000 leaves none of the 60000 images for training: use at most 59999"),
    (["data.train_size=60000"], "data.train_size=60000 is more than the 55000 images"),
    (["data.augment.color_axes=[]"], "data.augment.color_axes=[]: should be axes with a number for each channel"),
    (
        ["data.augment.color=0.1", "data.augment.color_axes=[[1,0,0]]"],
        "data.augment.color_axes=[[1.0, 0.0, 0.0]]: the images have 1 channel: use 1 number an axis",
    ),
    (
        ["data.augment.cutmix=1", "data.batch_size=7"],
        "data.batch_size=7 does not divide into pairs for data.augment.mixup and cutmix: use a multiple of 2",
    ),
    (
        ["data.augment.mixup=0.2", "data.batch_size=6", "trainer.devices=2"],
        "data.batch_size=6 does not divide over trainer.devices=2 into pairs for data.augment.mixup and cutmix",
    ),
    (
        ["data.tta=ten_crop"],
        "data.tta=ten_crop: data.augment.crop=1 leaves no margin around a crop: use data.augment.crop=0.875",
    ),
    (["experiment=d2l", "data.tta=mirror"], "data.tta=mirror: data.validate=test looks at each test image as it is"),
    (["data.fold=2"], "data.fold=2: data.folds=0 splits into none: set data.folds=3 or more"),
    (["data.folds=1"], "data.folds=1: should be from 2 to 60000, or 0 for a split by data.val_size"),
    (["experiment=d2l", "data.folds=5"], "data.folds=5: data.validate=test would never look at the fold"),
    (
        ["data.folds=5", "data.train_size=48001"],
        "data.train_size=48001 is more than the 48000 images that data.folds=5 leaves: use at most 48000",
    ),
    (["data.image_size=40"], "model: image_size=40 leaves nothing after the last pooling: use 65 or more"),
    (
        ["experiment=quick", "data.train_size=64"],
        "trainer.val_check_interval=40: an epoch has 2 batches: use at most 2, or 1.0 for once an epoch",
    ),
    (["data.broken=skip"], "data.broken: there is no such key: it is one of data=image_folder"),
    (["direction=up"], "direction=up: should be 'maximize' or 'minimize'"),
    (["objective=val/f1"], "objective=val/f1: should be val/acc, val/loss"),
    (["data.val_size=0"], "data.val_size=0 leaves no validation images to choose by"),
    (["objective=val/loss"], "direction=maximize: would keep the worst net by val/loss: use direction=minimize"),
    # Devices
    (
        ["data.batch_size=65", "trainer.devices=2"],
        "data.batch_size=65 does not divide over trainer.devices=2: use a multiple of 2",
    ),
    (["trainer.devices=64"], "trainer.devices=64: this machine has"),
    (["trainer.num_nodes=2"], "trainer.num_nodes=2: a process can't start others on another machine: type on each"),
    (["trainer.strategy=fsdp"], "trainer.strategy=fsdp: should be one of auto, ddp, ddp_bf16"),
    (["trainer.devices=none"], "trainer.devices=none: use a number of devices"),
    (["trainer.accelerator=abacus"], "trainer.accelerator=abacus: use one of"),
    *(
        (["data.image_size=65", "trainer.accelerator=cpu", *typed], line)
        for typed, line in (
            (["trainer.strategy=towers"], "trainer.devices=1: trainer.strategy=towers needs two devices: use"),
            (["trainer=hybrid", "trainer.devices=1"], "trainer.devices=1: trainer.strategy=hybrid needs two devices"),
            (
                ["trainer=hybrid", "trainer.devices=3"],
                "trainer.strategy=hybrid: linear6 with its 4096 outputs does not divide over 3 devices",
            ),
            (
                ["trainer=towers", "model.compile=reduce-overhead"],
                "towers: does not compile parts, as model.compile asks for: use model.compile=false, or trainer.",
            ),
            (
                ["trainer=towers", "optimizer=muon"],
                "trainer.strategy=towers: Muon has to see whole matrices of weights: use optimizer=adamw or sgd, or tr",
            ),
            (
                ["trainer=hybrid", "callbacks=ema"],
                "trainer.strategy=hybrid: MovingAverage has to see the whole net: use callbacks=default, or trainer.st",
            ),
            (
                ["trainer=towers", "model.lrn=true", "model.lrn_size=101"],
                "with model.lrn_size=101 windows of relu_lrn1 reach beyond the other tower: use trainer.strategy=auto",
            ),
        )
    ),
    # Files
    (
        ["model=alexnet_owt", "model.weights={tmp}/none.pth"],
        "model: weights={tmp}/none.pth: can't be read ([Errno 2] No such file or directory",
    ),
    (["ckpt={tmp}"], "ckpt={tmp}: there is no {tmp}{sep}checkpoints{sep}last.ckpt: name a run folder"),
]


@pytest.mark.parametrize(("typed", "line"), TYPED, ids=[" ".join(typed) for typed, _ in TYPED])
def test_a_wrong_override(typed: list[str], line: str, train: Train, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()

    outcome = train(*(text.format(tmp=place) for text in typed))

    assert outcome.err.startswith("error: ")
    assert line.format(tmp=place, sep=os.sep) in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert outcome.status == 2
    assert not list(outcome.logs.glob("*/*")), "a mistake leaves no run behind"


def test_a_file_that_is_not_as_published(train: Train, tmp_path: Path) -> None:
    """tests/data/test_fashion_mnist.py has more of them."""
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(b"<html>")

    outcome = train(f"data.dir={tmp_path}", "data.search=[]", "data.mirrors=[]", "data.image_size=96")

    errors = [text for text in outcome.err.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1
    assert str(file) in errors[0]
    assert "Traceback" not in outcome.out + outcome.err
    assert outcome.status == 2


@pytest.mark.posix
@pytest.mark.parametrize("typed", [[], ["-m", "seed=0,1"]], ids=["run", "sweep"])
def test_an_output_folder_that_cannot_be_made(typed: list[str], train: Train) -> None:
    outcome = train(*typed, logs=Path("/dev/null/logs"))

    line = "error: paths.logs=/dev/null/logs: can't be written (Not a directory): set paths.logs to a folder"
    assert outcome.err.startswith(line)
    assert len(outcome.err.strip().splitlines()) == 1
    assert outcome.status == 2


def test_a_file_that_is_no_checkpoint(train: Train, tmp_path: Path) -> None:
    file = tmp_path / "holiday.ckpt"
    file.write_bytes(b"a picture")

    outcome = train(f"ckpt={file}")

    assert f"{file}: not a checkpoint of a run" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert outcome.status == 2


@pytest.mark.parametrize(("mode", "refused"), [("reduce-overhead", True), ("true", False)])
def test_a_cuda_graph_adds_no_gradients_up(
    mode: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alexnet_lit.prepare.resolve_devices", lambda *_: ("cuda", 1))
    monkeypatch.setattr("alexnet_lit.prepare.build_trainer", _reached)
    typed = ("trainer.accumulate_grad_batches=2", f"model.compile={mode}", "trainer.precision=32-true")
    line = "trainer.accumulate_grad_batches=2: model.compile=reduce-overhead can't add gradients up on a GPU: use model"
    with pytest.raises(UserError if refused else Reached, match=line if refused else None):
        prepare(compose("data=sample", *typed), tmp_path)


@pytest.mark.parametrize(
    ("kind", "line"),
    [("cpu", r"model\.compile=true: needs a C\+\+ compiler"), ("cuda", r"model\.compile=true: needs a C compiler")],
)
def test_no_compiler(kind: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alexnet_lit.prepare.resolve_devices", lambda *_: (kind, 1))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=line):
        prepare(compose("data=sample", "model.compile=true"), tmp_path)


def test_towers_leave_out_no_steps_of_their_own() -> None:
    line = "trainer.strategy=towers: with trainer.precision=16-mixed each part would leave out steps of its own"
    net, one = nn.Linear(1, 1), nn.Parameter(torch.zeros(1))
    with pytest.raises(UserError, match=line):
        check_strategy("towers", ranks=2, net=net, precision="16-mixed", optimizer=torch.optim.SGD([one]), callbacks=[])


@pytest.mark.parametrize(("typed", "refused"), [("optimizer=adamw", True), ("optimizer=muon", False)])
def test_half_precision_on_a_gpu_clips_what_a_scaler_frees_of_its_factor(typed: str, refused: bool) -> None:
    config = compose("data=sample", "trainer.precision=16-mixed", typed)
    module, _ = build(config)
    optimizer = module.optimizer(module.net.parameters())
    line = r"trainer\.precision=16-mixed: gradients of a fused optimizer can't be clipped there"
    with pytest.raises(UserError, match=line) if refused else nullcontext():
        check_clipping(config, optimizer)


class Reached(Exception):
    """The check was passed."""


def _reached(*_: object, **__: object) -> None:
    raise Reached


def test_the_traceback_is_there_for_who_wants_it(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match=r"model\.dropout=2"):
        train("model.dropout=2")
