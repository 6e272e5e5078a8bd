"""Puts a checkpoint's net to the test, by the code that a run tests with."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from alexnet_lit.callbacks.count import Count
from alexnet_lit.callbacks.quiet import quiet_libraries
from alexnet_lit.checkpoint import read_checkpoint, restore
from alexnet_lit.config import compose
from alexnet_lit.console import on_stderr
from alexnet_lit.data import Batch, ImageData
from alexnet_lit.distributed.devices import describe, pick
from alexnet_lit.errors import UserError
from alexnet_lit.tools.evaluate.scores import Scores, score


class Measured(NamedTuple):
    """What came out, and by which means."""

    acc: float
    loss: float
    scores: Scores
    images: int
    origin: str
    tta: str
    device: str
    precision: str


class _Outputs(Callback):
    """Keeps the logits and labels of a test."""

    def __init__(self, count: Count) -> None:
        self.count = count
        self.logits: list[Tensor] = []
        self.labels: list[Tensor] = []

    def on_test_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        self.logits.append(outputs.float().cpu())
        self.labels.append(batch.labels.cpu())
        self.count.add(len(batch.labels))


def measure(ckpt: Path, *, tta: str | None, split: str, dir: str | None, device: str) -> Measured:
    """Evaluate on all images of the split, "test" or "val". tta: None is as the run tested; on "val", without.

    Raises: UserError before data is read.
    """
    kind = pick(device)
    checkpoint = read_checkpoint(ckpt)
    config = checkpoint["hyper_parameters"]["config"]
    changes = _changes(config, tta=tta if tta or split == "test" else "none", dir=dir)
    precision = _precision(config["trainer"], kind)
    quiet_libraries()
    with on_stderr(), _named_as_typed():
        module, data = restore(checkpoint, changes, compiled=True)
        _look_at(data, split)
        data.prepare_data()
        data.setup("test")
    if split == "val":
        data.images["test"] = data.images["val"]
    with Count("images", len(data.images["test"][1]), silent=False) as count:
        outputs = _Outputs(count)
        trainer = Trainer(
            accelerator=kind,
            devices=1,
            precision=precision,
            callbacks=[outputs],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        _test(trainer, module, data)
    logits, labels = torch.cat(outputs.logits), torch.cat(outputs.labels)
    if not logits.isfinite().all():
        raise UserError(
            f"{ckpt}: its net gives values that are no finite numbers: it diverged; name another checkpoint"
        )
    acc, loss = (module.published[f"test/{name}"] for name in ("acc", "loss"))
    scores = score(logits, labels, data.classes)
    how = describe(kind, 1), str(precision)
    return Measured(acc, loss, scores, len(labels), data.origin, module.views.tta, *how)


def _changes(config: Mapping[str, Any], *, tta: str | None, dir: str | None) -> dict[str, Any]:
    """What is to be otherwise than in the run's config."""
    data, changes = config["data"], dict[str, Any]()
    if dir is not None:
        if "dir" not in data:
            raise UserError(f"--dir={dir}: the images of this run are in no folder that could be named: leave it out")
        changes["data.dir"] = dir
    elif "mirrors" in data and not Path(data["dir"]).expanduser().exists():
        changes["data.dir"] = compose("data=fashion_mnist").data.dir  # trained elsewhere: where a run here would look
    if data.get("found") is not None:
        # The folder may be another one, or have changed. Nothing is trained on, and the classes are compared.
        changes |= {"data.found.earlier": True, "data.train_size": None, "model.num_classes": None}
    if tta == "ten_crop" and data["augment"]["crop"] == 1:
        raise UserError("--tta=ten_crop: this net saw whole images (data.augment.crop=1), without a margin: use mirror")
    if tta is not None:
        changes["data.tta"] = tta
    if tta in ("mirror", "ten_crop"):
        changes["data.validate"] = "val"  # what is looked at between epochs is no matter here
    return changes


@contextmanager
def _named_as_typed() -> Iterator[None]:
    """In a mistake, call the folder of the data what it is called here."""
    try:
        yield
    except UserError as mistake:
        raise UserError(str(mistake).replace("data.dir=", "--dir=")) from mistake


def _test(trainer: Trainer, module: LightningModule, data: ImageData) -> None:
    try:
        trainer.test(module, datamodule=data, verbose=False)
    except SystemExit as error:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from error


def _look_at(data: ImageData, split: str) -> None:
    """Make sure that there are such images."""
    if not data.sizes["val" if split == "val" else "test"]:
        other = "test" if split == "val" else "val"
        raise UserError(f"--split={split}: the data has no such images: use --split {other}")


def _precision(trainer: Mapping[str, Any], kind: str) -> Any:
    """The run's own where this is its kind of device, else full: a CPU without units for bf16 crawls."""
    return trainer["precision"] if trainer["accelerator"] == kind else "32-true"
