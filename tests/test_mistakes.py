"""A mistake of the user costs one readable line that names the key or file, the value and the way out."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from alexnet_lit import compose
from alexnet_lit.config import checkpoint_file, run_of
from alexnet_lit.data.fashion_mnist import SAMPLE, SAMPLE_DIR, fetch
from alexnet_lit.distributed.environment import RankEnvironment
from alexnet_lit.distributed.strategy import check_strategy
from alexnet_lit.errors import UserError
from alexnet_lit.factory import build
from alexnet_lit.prepare import check_clipping, prepare, resolve_trainer
from alexnet_lit.tools.evaluate import _changes
from alexnet_lit.tools.predict import _files
from alexnet_lit.tools.report.runs import read_runs
from tests.conftest import Train

SEARCH = "-m hydra/sweeper=optuna optimizer.lr=interval(0.001,0.1)"
TWO = "trainer.accelerator=cpu trainer.devices=2"
TOWERS = "data.image_size=65 trainer.accelerator=cpu"

# What is typed, and what the line says: before a colon at its beginning stands what was typed last. {tmp} is a folder
# with a file that is no checkpoint and one that is no data set.
TYPED = {
    # Keys
    "model.lnr=true": "model.lnr: there is no such key: did you mean model.lrn",
    "modle.lrn=true": "modle.lrn: there is no such key: did you mean model.lrn",
    "+model.width=2": "model.width: there is no such key: ",
    # Choices
    "model=alexnt": ": there is no such choice: use one of alexnet, alexnet_2012, alexnet_owt, alexnet_wide_lrn, lenet",
    # Form
    "model.lrn": ": not of the form key=value",
    "model.lrn=true,false": ": several values: add -m to sweep over them, or [...]",
    "seed=1 name=a=b": ": cannot be read: quote a value with special characters",
    "epochs=3": "epochs: there is no such key: did you mean trainer.max_epochs",
    "optimizer=adamw optimizer.momentum=0.9": (
        "optimizer.momentum: there is no such key: it is one of optimizer=muon and optimizer=sgd"
    ),
    "experiment=null": ": a group takes a choice's name: leave it out, or use one of best",
    "callbacks=[ema,null]": ": a group takes a choice's name: leave it out, or use one of default, early_stopping",
    # Hydra's own options
    "--resolve": "The --resolve flag can only be used in conjunction with --cfg or --help",
    "--cfg job --info plugins": "Only one of --run, --multirun, --cfg, --info and",
    "--shell-completion": "Expecting one subcommand from ['install', 'uninstall', 'query']",
    # Sweeps
    "-m model.lnr=true,false": "model.lnr: there is no such key: did you mean model.lrn?",
    "-m sweep=lrn,seeds": ": a ready sweep is several runs already: name one of them",
    "sweep=lrn ckpt={tmp}": ": continues one run: leave out -m and sweep=",
    "-m seed=0,1 hydra/launcher=joblib hydra.launcher.n_jobs=0": ": use a number of processes, or -1 for one a core",
    "-m seed=0,1 hydra/launcher=submitit_local hydra.launcher.tasks_per_node=2": ": a job of a sweep is one task: use",
    f"{SEARCH} hydra.sweeper.n_trials=abc": ": should be a whole number from 1",
    f"{SEARCH} hydra.sweeper.n_jobs=0": ": should be a whole number from 1",
    f"{SEARCH} direction=up": ": should be maximize or minimize",
    "-m hydra/sweeper=optuna optimizer.lr=interval(1,0.1)": ": ValueError: The `low` value must be smaller than or eq",
    f"{SEARCH} objective=null": ": a search needs one: use objective=val/acc",
    f"{SEARCH} hydra.sweeper.storage=sqlite:///{{tmp}}/holiday.ckpt": ": can't be used (",
    # Schedules
    "scheduler=step scheduler.step_size=0": "scheduler: integer modulo by zero",
    "scheduler.monitor=val/loss": ": LambdaLR monitors no metric: use null",
    "+callbacks.x._target_=builtins.list": "callbacks.x: should be a lightning.pytorch.callbacks.callback.Callback, no",
    # The trainer, by Lightning's own judgement
    "~trainer._target_": "has no _target_ that names a class: use one of the group's files",
    "optimizer.fused=false trainer.accelerator=cpu trainer.precision=16-mixed": ": on a CPU Lightning takes bf16-mixed",
    "trainer.precision=fp8": ": should be 'auto', '32-true', 'bf16-mixed', '16-mixed', 'bf16-true', '16-true', ",
    "trainer.max_epochs=0": ": should be greater than or equal to 1",
    "trainer.max_time=00:00:00:00": ": leaves no time to train: use 00:01:00:00 for an",
    "trainer.max_time=5m": ": `Timer(duration='5m')` is not a valid duration",
    "data=sample data.image_size=65 trainer.limit_train_batches=0.001": ": leaves none of 25 train batches: use a ",
    "trainer.check_val_every_n_epoch=null": ": `val_check_interval` should be an integer or a time-based duration",
    "+trainer.logger=false": ": the run sets it itself: use the group, logger=...",
    "trainer.logger=false": "trainer.logger: there is no such key: did you mean the group, logger=...?",
    "trainer.min_epochs=2": "trainer.min_epochs: there is no such key: write +trainer.min_epochs=..., for trainer=",
    "scheduler=plateau trainer.limit_val_batches=0": "scheduler.monitor=val/loss: the run does not measure it: use tra",
    "callbacks=early_stopping callbacks.early_stopping.monitor=val/accuracy": ": the run does not measure it: use val/",
    "scheduler=plateau scheduler.monitor=null": ": ReduceLROnPlateau monitors a metric: use val/loss or train/loss",
    "scheduler=plateau scheduler.interval=step": ": the metric is checked once an epoch: use scheduler.interval=epoch",
    "trainer.max_time=00:01:00:00 trainer.max_epochs=-1": ": a run without an end has no length for "
    "scheduler.total_steps=run_steps: use",
    f"{TWO} trainer.val_check_interval=00:00:05:00": ": each rank has its own clock: use a number of batch",
    "trainer.max_steps=8 +trainer.min_steps=9": ": the run ends with trainer.max_steps=8: use trainer.max_steps=9 or ",
    "ckpt={tmp} trainer.fast_dev_run=true": ": tries out a new run, and ckpt={tmp} cont",
    # Budgets
    "scheduler=plateau budget=8s": ": scheduler.monitor=val/loss is checked once an epoch: use scheduler=one_cycle",
    "trainer.accumulate_grad_batches=2 budget=8s": ": can't be laid out with trainer.accumulate_grad_batches",
    "data=sample model=lenet data.image_size=28 budget=0.01s": ": beginning, validation (400 images) and test (500)",
    # Types
    "model.lrn=yes": ": should be true or false",
    "seed=abc": ": should be a whole number from 0",
    # Ranges
    "model.dropout=1.5": ": should be less than or equal to 1",
    "model.compile=fast": ": should be false, true, 'reduce-overhead', 'max-autotune' or 'max-autotune-no-cudagraphs'",
    "model=lenet data.image_size=28 model.init=caffe": "model: init=caffe: is for five convolutions and three linear l",
    "model.num_classes=5": ": the data has 10 classes",
    "model.in_channels=3": ": the data has 1 channel",
    "model.image_size=96": ": the data is enlarged to data.image_size=224: set data.image_size alone",
    "model.weights=imagenet": "model: weights=imagenet: there are none for design=course: use model=alexnet_owt",
    "optimizer=adamw optimizer.betas=[0.9]": "optimizer: list index out of range",
    "data.std=inf": ": should be a finite number",
    "data.mean=inf": ": should be a finite number",
    "model._target_=torch.nn.Foo": "model: Error loading 'torch.nn.Foo'",
    "optimizer.lr=-1": "optimizer: Invalid learning rate: -1",
    "label_smoothing=1": ": should be a number from 0 to less than 1: 0.1 is usual",
    "data.val_size=60000": " leaves none of the 60000 images for training: use at most 59999",
    "data.train_size=60000": " is more than the 55000 images",
    "data.augment.color_axes=[]": ": should be axes with a number for each channel",
    "data.augment.color=0.1 data.augment.color_axes=[[1,0,0]]": (
        "data.augment.color_axes=[[1.0, 0.0, 0.0]]: the images have 1 channel: use 1 number an axis"
    ),
    "data.augment.cutmix=1 data.batch_size=7": " does not divide into pairs for data.augment.mixup and cutmix: use a ",
    f"{TWO} data.augment.mixup=0.2 data.batch_size=6": " does not divide over trainer.devices=2 into pairs for data.au",
    "data.tta=ten_crop": ": data.augment.crop=1 leaves no margin around a crop: use data.augment.crop=0.875",
    "experiment=d2l data.tta=mirror": ": data.validate=test evaluates one view of each image",
    "data.fold=2": ": data.folds=0 splits into none: set data.folds=3 or more",
    "data.folds=1": ": should be from 2 to 60000, or 0 for a split by data.val_size",
    "experiment=d2l data.folds=5": ": with data.validate=test the fold would not be used",
    "data.folds=5 data.train_size=48001": " is more than the 48000 images that data.folds=5 leaves: use at most 48000",
    "data.image_size=40": "model: image_size=40 leaves nothing after the last pooling: use 65 or more",
    "experiment=quick data.train_size=64": "trainer.val_check_interval=40: an epoch has 2 batches: use at most 2, or 1",
    "data.broken=skip": "data.broken: there is no such key: it is one of data=image_folder",
    "direction=up": ": should be 'maximize' or 'minimize'",
    "objective=val/f1": ": should be val/acc, val/loss",
    "data.val_size=0": " leaves no validation images to choose by: use data.val_size=5000, or objective=null",
    "trainer.limit_val_batches=0": ": leaves objective=val/acc no validation images to choose by: use objective=null",
    "data.validate=test": " leaves no validation images to choose by: use data.validate=val, or objective=null",
    "objective=val/loss": "direction=maximize: would keep the worst net by val/loss: use direction=minimize",
    # Devices
    f"{TWO} data.batch_size=65": " does not divide over trainer.devices=2: use a multiple of 2",
    "trainer.devices=4096": ": this machine has",
    "trainer.num_nodes=2": ": a process can't start others on another machine: type on each",
    "trainer.strategy=fsdp": ": should be one of auto, ddp, ddp_bf16",
    "trainer.devices=0": ": use a number of devices from 1, or auto",
    "trainer.devices=true": "trainer.devices=True: use a number of devices from 1, or auto",
    "trainer.accelerator=abacus": ": use one of",
    f"{TOWERS} trainer.strategy=towers": "trainer.devices=1: trainer.strategy=towers needs two devices: use",
    f"{TOWERS} trainer=hybrid trainer.devices=1": ": trainer.strategy=hybrid needs two devices",
    f"{TOWERS} trainer=hybrid trainer.devices=3": (
        "trainer.strategy=hybrid: linear6 with its 64 outputs does not divide over 3 devices"
    ),
    f"{TOWERS} trainer=towers model.compile=reduce-overhead": (
        "towers: does not compile parts, as model.compile asks for: use model.compile=false, or trainer."
    ),
    f"{TOWERS} trainer=towers optimizer=muon": "trainer.strategy=towers: Muon has to see whole matrices of weights: us",
    f"{TOWERS} trainer=hybrid callbacks=ema": "trainer.strategy=hybrid: MovingAverage has to see the whole net: use ca",
    f"{TOWERS} trainer=towers model.lrn=true model.lrn_size=101": (
        "with model.lrn_size=101 windows of relu_lrn1 reach beyond the other tower: use trainer.strategy=auto"
    ),
    # Files
    "model=alexnet_owt model.weights={tmp}/none.pth": (
        "model: weights={tmp}/none.pth: can't be read ([Errno 2] No such file or directory"
    ),
    "hydra.run.dir=${{alexnet_lit.run_folder:/runs,now,null}}": "paths.logs: is empty: name a folder, or leave it out",
    "hydra.run.dir={tmp}/holiday.ckpt": "{tmp}/holiday.ckpt: cannot be written (File exists): make room there, or",
    f"hydra.run.dir=/tmp/{'x' * 300}": "xx: cannot be written (File name too long): make room there, or",
    "ckpt={tmp}": ": there is no {tmp}{sep}checkpoints{sep}last.ckpt: name a run folder",
    "ckpt={tmp}/holiday.ckpt": "{tmp}/holiday.ckpt: not a checkpoint of a run",
    "data.search=[] data.mirrors=[] data.dir={tmp}": "{tmp}/train-images-idx3-ubyte.gz is not the published",
}


@pytest.mark.parametrize("typed", TYPED)
def test_a_wrong_override(
    typed: str, train: Train, small_nets: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if "hydra/" in typed:
        pytest.importorskip("optuna", reason="needs alexnet-lit[sweep]")
    place = tmp_path / "place"
    place.mkdir()
    for name in ("holiday.ckpt", "train-images-idx3-ubyte.gz"):
        (place / name).write_text("<html>long enough to be taken for a database at first</html>")
    arguments, line = typed.format(tmp=place).split(), TYPED[typed].format(tmp=place, sep=os.sep)

    outcome = train(*arguments)

    refusal = replace(outcome, out="").refusal  # what is found last is found once the run has begun to talk
    assert (arguments[-1].removeprefix("+") if line[0] in ": " else "") + line in refusal
    assert not list(outcome.logs.glob("*/*")), "a mistake leaves no run behind"
    assert not [each for each in caplog.records if each.name.startswith("hydra")], "Hydra would print them"


# Of the commands; {run} is a run's folder.
COMMANDS = {
    "export nowhere": ": there is no such file or folder: name a run folder, or a .ckpt file of one",
    "export empty": ": there is no best.ckpt or last.ckpt in it: name a run folder, or a .ckpt file of one",
    "export {run} --out=no/net.onnx": "no/net.onnx: there is no folder no: make it, or name another file with --out",
    "export {run} --out=mine.txt": "mine.txt: is there already: --force replaces it, --out names another file",
    "export {run} --out=empty --force": "empty: is a folder: name a file with --out",
    f"export {{run}} --out={os.devnull} --force": f"{os.devnull}: is a device: name a file with --out",
    "evaluate {run} --split=train": ": should be test or val",
    "evaluate {run} --tta=five": ": should be none, mirror or ten_crop",
    "evaluate {run} --tta=ten_crop": ": data.augment.crop=1 leaves no margin around a crop: use",
    "evaluate {run} --dir=data": ": the images of this run are in no folder that could be named: leave it out",
    "evaluate {run} --out=no/c.png": "no/c.png: there is no folder no: make it, or name another file with --out",
    "predict {run} mine.txt nope.png": ": there is no such file or folder: name pictures, a folder of them, or -",
    "predict {run} empty": ": there is no picture in it (jpg, jpeg, jfif, png, bmp",
    "predict {run} mine.txt --json --csv": "--json --csv: one or the other",
    "predict {run} mine.txt --device=gpu": ": should be auto, cpu or cuda",
    "bench lnr": "bench, name=lnr: should be lrn, step, data, epoch or ddp",
    "bench --device=gpu": "--device=gpu: should be auto, cpu or cuda",
    "bench --out=no/bench.jsonl": "no/bench.jsonl: there is no folder no: make it, or name another file",
    "bench recipes bets": "bench recipes, name=bets: should be quick, fast, default, best, d2l or paper_2012",
    "report nowhere": ": there is no such folder: name a sweep's or a run's folder, as logs/sweeps/<sweep>",
    "report empty": ": no run in it: name a sweep's or a run's folder, as logs/sweeps/<sweep>",
}


@pytest.mark.parametrize("typed", COMMANDS)
def test_a_wrong_argument_of_a_command(typed: str, lenet: Path, verb: Train, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    arguments, line = typed.format(run=lenet).split(), COMMANDS[typed]

    refusal = verb(*arguments).refusal
    assert refusal.startswith(arguments[-1] + line if line[0] == ":" else line)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "mine.txt"]
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(("command", "needed"), [("export", "onnx, onnxscript, onnxruntime"), ("demo", "gradio")])
def test_missing_packages(command: str, needed: str, lenet: Path, verb: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"alexnet_lit.tools.{command}.find_spec", lambda name: None)
    line = f'{command}: needs {needed}: pip install "alexnet-lit[{command}]"'
    assert verb(command, str(lenet)).refusal == line


@pytest.mark.posix
@pytest.mark.parametrize("typed", [[], ["-m", "seed=0,1"]], ids=["run", "sweep"])
def test_an_output_folder_that_cannot_be_made(typed: list[str], train: Train) -> None:
    line = "paths.logs=/dev/null/logs: can't be written (Not a directory): set paths.logs to a folder"
    assert train(*typed, logs=Path("/dev/null/logs")).refusal.startswith(line)


@pytest.mark.parametrize(("mode", "refused"), [("reduce-overhead", True), ("true", False)])
def test_cuda_graphs_add_nothing_up(mode: str, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alexnet_lit.prepare.resolve_devices", lambda *_: ("cuda", 1))
    typed = ("trainer.accumulate_grad_batches=2", f"model.compile={mode}", "trainer.precision=32-true")
    line = "trainer.accumulate_grad_batches=2: model.compile=reduce-overhead can't add gradients up on a GPU: use model"
    with pytest.raises(UserError, match=line) if refused else nullcontext():
        assert resolve_trainer(compose("data=sample", "model=lenet", *typed), RankEnvironment()) == ("cuda", 1)


@pytest.mark.parametrize(("kind", "language"), [("cpu", r"C\+\+"), ("cuda", "C")])
def test_no_compiler(kind: str, language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alexnet_lit.prepare.resolve_devices", lambda *_: (kind, 1))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=rf"model\.compile=true: needs a {language} compiler"):
        prepare(compose("data=sample", "model=lenet", "model.compile=true"), tmp_path)


def test_towers_leave_out_no_steps_of_their_own() -> None:
    line = "trainer.strategy=towers: with trainer.precision=16-mixed each part would leave out steps of its own"
    net, one = nn.Linear(1, 1), nn.Parameter(torch.zeros(1))
    with pytest.raises(UserError, match=line):
        check_strategy("towers", ranks=2, net=net, precision="16-mixed", optimizer=torch.optim.SGD([one]), callbacks=[])


@pytest.mark.parametrize(("typed", "refused"), [("optimizer=adamw", True), ("optimizer=muon", False)])
def test_half_precision_on_a_gpu_clips_what_a_scaler_frees_of_its_factor(typed: str, refused: bool) -> None:
    config = compose("data=sample", "model=lenet", "trainer.precision=16-mixed", typed)
    module, _ = build(config)
    optimizer = module.optimizer(module.net.parameters())
    line = r"trainer\.precision=16-mixed: gradients of a fused optimizer can't be clipped there"
    with pytest.raises(UserError, match=line) if refused else nullcontext():
        check_clipping(config, optimizer)


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that this process may not enter, beside one with data."""
    base, root = Path(tempfile.mkdtemp()), os.geteuid() == 0
    base.chmod(0o755)
    shutil.copytree(SAMPLE_DIR, base / "data")
    (base / "closed").mkdir(mode=0)
    os.seteuid(65534 if root else os.geteuid())  # root may enter all
    yield base / "closed"
    os.seteuid(0 if root else os.geteuid())
    shutil.rmtree(base)


@pytest.mark.posix
def test_what_is_in_a_closed_folder_is_not_there(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (closed / "run", closed / "run" / "best.ckpt"):
        assert run_of(file) is None
        for look in (checkpoint_file, _files):
            with pytest.raises(UserError, match="there is no such file or folder"):
                look(str(file))
    for folder, line in ((closed / "runs", "there is no such folder"), (closed.parent, "no run in it")):
        with pytest.raises(UserError, match=line):
            read_runs([str(folder)])
    found = fetch(dir=closed / "data", search=[str(closed.parent / "data")], mirrors=(), expected=SAMPLE)
    assert {path.parent for path in found.values()} == {closed.parent / "data"}
    config = {"data": {"dir": str(closed / "data"), "mirrors": []}}
    here = SimpleNamespace(data=SimpleNamespace(dir="data"))
    monkeypatch.setattr("alexnet_lit.tools.evaluate.compose", lambda _: here)
    assert _changes(config, tta=None, dir=None) == {"data.dir": "data"}


def test_the_traceback_is_there_for_who_wants_it(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match=r"model\.dropout=2"):
        train("model.dropout=2")
