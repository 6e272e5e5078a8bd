"""`python -m alexnet_lit evaluate`: accuracy, loss, calibration and confusion of a checkpoint's net."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from scipy.stats import binomtest
from torch import Tensor
from torchmetrics.functional import classification as metrics

from alexnet_lit.callbacks.figures import confusion, style
from alexnet_lit.callbacks.progress import TASK, counter
from alexnet_lit.checkpoint import read_checkpoint
from alexnet_lit.config import compose
from alexnet_lit.data import Batch
from alexnet_lit.distributed.devices import describe_devices, device_type
from alexnet_lit.errors import UserError, check_choice, check_free, exits_raised, replacing
from alexnet_lit.nets.kernels.native import bf16_units
from alexnet_lit.prepare import restore
from alexnet_lit.terminal import close_log, open_log, plain_text, quiet_libraries

_BINS = 15  # confidence bins, the usual number for the calibration error (Guo et al. 2017, section 2)
_SPLITS = {"test": "test", "val": "validation"}
_VIEWS = {"none": "", "mirror": ", mean of 2 views each", "ten_crop": ", mean of 10 views each"}


def evaluate(
    ckpt: Path, *, tta: str | None, split: str, dir: str | None, out: Path | None, force: bool, device: str, table: bool
) -> None:
    """Print the scores of `ckpt` as tables or in JSON, and draw the confusion matrix to `out`.

    Without `out` it is beside the checkpoint: <checkpoint>_<split>[_<tta>]_confusion.png.
    Raises: UserError before data is read.
    """
    if tta is not None:
        check_choice("--tta", tta, tuple(_VIEWS))
    check_choice("--split", split, tuple(_SPLITS))
    picture = out or ckpt.with_name("_".join([ckpt.stem, split, *([tta] if tta else []), "confusion.png"]))
    check_free(picture, force=force)
    found = measure(ckpt, tta=tta, split=split, dir=dir, device=device)
    found = {"checkpoint": str(ckpt), **found, "picture": str(picture)}
    with replacing(picture, "name another file with --out") as part, style():
        images = f"{found['images']:,} {_SPLITS[split]} images"
        title = f"{ckpt.parent.parent.name}\n{images}, accuracy {found[f'{split}/acc']:.4f}"
        confusion(found["confusion"], [*found["classes"]], title, dpi=120).savefig(part, format="png")
    print(_tables(found) if table else json.dumps(found, indent=2))


def measure(ckpt: Path, *, tta: str | None, split: str, dir: str | None, device: str) -> dict[str, Any]:
    """Scores on all images of the split, "test" or "val", by the code that a run tests with; where images came from.

    tta: None is as the run tested; on "val", without. Raises: UserError before data is read.
    """
    kind = device_type(device)
    checkpoint = read_checkpoint(ckpt)
    config = checkpoint["hyper_parameters"]["config"]
    changes = _changes(config, tta=tta if tta or split == "test" else "none", dir=dir)
    # The run's own precision on its kind of device, else full, and where a CPU without units for bf16 would crawl.
    accelerator, precision = config["trainer"]["accelerator"], config["trainer"]["precision"]
    if accelerator != kind or (kind == "cpu" and "16" in precision and not bf16_units()):
        precision = "32-true"
    quiet_libraries()
    open_log(None, speak=True, screen=Console(stderr=True))  # stdout is for the answer
    try:
        module, data = restore(checkpoint, changes)
        if not data.sizes["val" if split == "val" else "test"]:
            other = "test" if split == "val" else "val"
            raise UserError(f"--split={split}: the data has no such images: use --split {other}")
        data.prepare_data()
        data.setup("test")
    except UserError as error:  # names what is wrong by the option that was typed
        raise UserError(str(error).replace("data.dir=", "--dir=").replace("data.tta=", "--tta=")) from error
    finally:
        close_log()
    if split == "val":
        data.images["test"] = data.images["val"]

    outputs: list[tuple[Tensor, Tensor]] = []  # logits and labels of each batch
    with counter("images", len(data.images["test"][1])) as bar, exits_raised():

        def keep(_: Trainer, __: LightningModule, logits: Any, batch: Batch, *___: int) -> None:
            outputs.append((logits.float().cpu(), batch.labels.cpu()))
            bar.advance(TASK, len(batch.labels))

        unused = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
        off: dict[str, Any] = dict.fromkeys((*unused, "use_distributed_sampler"), False)
        trainer = Trainer(
            accelerator=kind, devices=1, precision=precision, callbacks=[LambdaCallback(on_test_batch_end=keep)], **off
        )
        trainer.test(module, datamodule=data, verbose=False)
    logits, labels = (torch.cat(parts) for parts in zip(*outputs, strict=True))
    if not logits.isfinite().all():
        hint = "it diverged; name another checkpoint"
        raise UserError(f"{ckpt}: the net's outputs are not finite: {hint}")
    acc, loss = (module.published[f"test/{name}"] for name in ("acc", "loss"))
    interval = binomtest(round(acc * len(labels)), len(labels)).proportion_ci(method="wilson")  # 95% (Wilson 1927)
    return {
        "split": split,
        "images": len(labels),
        "origin": data.origin,
        "tta": module.views.tta,
        "device": describe_devices(kind, 1),
        "precision": str(precision),
        f"{split}/acc": acc,
        "acc_interval": [float(interval.low), float(interval.high)],
        f"{split}/loss": loss,
        **class_scores(logits, labels, data.classes),
    }


def _changes(config: Mapping[str, Any], *, tta: str | None, dir: str | None) -> dict[str, Any]:
    """Keys of the run's config that get other values for its evaluation here."""
    data, changes = config["data"], dict[str, Any]()
    if dir is not None:
        if "dir" not in data:
            raise UserError(f"--dir={dir}: the images of this run are in no folder that could be named: leave it out")
        changes["data.dir"] = dir
    elif "mirrors" in data and not os.path.exists(Path(data["dir"]).expanduser()):
        changes["data.dir"] = compose("data=fashion_mnist").data.dir  # trained elsewhere: where a run here would look
    if data.get("found") is not None:
        # The folder may be another one, or have changed. Nothing is trained on, and the classes are compared.
        changes |= {"data.found.earlier": True, "data.train_size": None, "model.num_classes": None}
        if data["found"].get("held_out") is not None:  # it decides, whatever `folds` was
            changes |= {"data.folds": 0, "data.fold": 0}
    if tta is not None:
        changes["data.tta"] = tta
    if tta in ("mirror", "ten_crop"):
        changes["data.validate"] = "val"  # no matter here
    return changes


def class_scores(logits: Tensor, labels: Tensor, names: Sequence[str]) -> dict[str, Any]:
    """Scores of logits (N, classes) for labels (N,), as `evaluate --json` names them.

    calibration_error: expected calibration error, the mean distance between confidence and accuracy (0..1).
    classes: precision, recall, f1 and images of each; a class that was never predicted has precision 0.
    confusion: counts, true class by row, predicted class by column.
    """
    count = len(names)
    precision, recall, f1 = (
        metric(logits, labels, num_classes=count, average="none").tolist()
        for metric in (metrics.multiclass_precision, metrics.multiclass_recall, metrics.multiclass_f1_score)
    )
    rows = zip(precision, recall, f1, torch.bincount(labels, minlength=count).tolist(), strict=True)
    keys = ("precision", "recall", "f1", "images")
    error = metrics.multiclass_calibration_error(logits.softmax(1), labels, num_classes=count, n_bins=_BINS)
    return {
        "calibration_error": float(error),
        "classes": {name: dict(zip(keys, row, strict=True)) for name, row in zip(names, rows, strict=True)},
        "confusion": metrics.multiclass_confusion_matrix(logits, labels, num_classes=count).tolist(),
    }


def _tables(found: Mapping[str, Any]) -> str:
    """What holds for all images, and a table of the classes."""
    split, (low, high), classes = found["split"], found["acc_interval"], found["classes"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    table.add_column("class", footer="mean of classes")
    for key in ("precision", "recall", "f1"):
        mean = fmean(row[key] for row in classes.values() if row["images"])
        table.add_column(key, footer=f"{mean:.3f}", justify="right")
    table.add_column("images", footer=f"{found['images']:,}", justify="right")
    for name, row in classes.items():
        *scores, images = row.values()
        table.add_row(Text(name), *(f"{value:.3f}" if images else "-" for value in scores), f"{images:,}")
    lines = {
        "checkpoint": found["checkpoint"],
        "images": f"{found['images']:,} {_SPLITS[split]} images{_VIEWS[found['tta']]}, from {found['origin']}",
        "device": f"{found['device']}, precision {found['precision']}",
        "accuracy": f"{found[f'{split}/acc']:.4f} (95% confidence interval {low:.4f} to {high:.4f})",
        "loss": f"{found[f'{split}/loss']:.4f}",
        "calibration error": f"{found['calibration_error']:.4f} (expected calibration error, {_BINS} bins)",
        "confusion matrix": found["picture"],
    }
    return "\n".join([*(f"{name:19}{value}" for name, value in lines.items()), plain_text(table)])
