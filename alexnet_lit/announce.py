"""What a run says of itself: on the screen and in train.log as it begins and ends, and to TensorBoard."""

import shlex

from omegaconf import OmegaConf

from alexnet_lit.callbacks.summary import closing, layers
from alexnet_lit.callbacks.tensorboard import log_run
from alexnet_lit.config import continued_overrides
from alexnet_lit.nets.kernels.native import bf16_units
from alexnet_lit.prepare import RunObjects
from alexnet_lit.result import Result, origin
from alexnet_lit.terminal import log, program, show


def log_start(parts: RunObjects) -> None:
    """What is about to happen: device, data, net."""
    config = parts.config
    strategy = "" if config.trainer.strategy == "auto" else f", {config.trainer.strategy}"
    log.info("device  %s, precision %s%s", parts.device, config.trainer.precision, strategy)
    if parts.why_precision:
        log.info("        %s", parts.why_precision)
    if config.trainer.precision.startswith("bf16") and config.trainer.accelerator == "cpu" and not bf16_units():
        log.warning("precision %s: this CPU has no units for it: it takes many times as long", config.trainer.precision)
    log_data(parts)
    if config.data.validate == "test":
        log.info("        looked at after each epoch: the test images (data.validate=test); nothing is chosen by them")
    log.info("run     %s", parts.folder)
    if parts.resume is not None:
        log.info("resume  %s", parts.resume)
        for override in continued_overrides(parts.folder):
            log.info("        with %s", override)
    size = config.data.image_size
    show(layers(parts.module.net, (parts.data.channels, size, size)))


def log_data(parts: RunObjects) -> None:
    """How many images there are, and how large."""
    sizes, px = parts.data.sizes, f"{parts.data.source_size} px -> {parts.config.data.image_size} px"
    images = f"{sizes['train']:,} training, {sizes['val']:,} validation, {sizes['test']:,} test images"
    log.info("data    %s of %d classes, %s", images, len(parts.data.classes), px)


def log_origin(parts: RunObjects) -> None:
    """Tell TensorBoard what begins here. It knows of a run that goes on."""
    if parts.resume is not None or not parts.config.get("logger"):
        return
    config, made = parts.config, origin(parts.folder)
    typed, versions = made["overrides"], made["versions"]
    about = {
        "command": " \\\n  ".join(["python train.py", *typed]),
        "device": f"{parts.device}, precision {config.trainer.precision}",
        "images": f"{parts.data.sizes['train']:,} training, {parts.data.sizes['val']:,} validation, "
        f"{parts.data.sizes['test']:,} test, from {parts.data.origin}",
        "commit": made["commit"],
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
    }
    size = config.data.image_size
    log_run(
        parts.trainer.loggers,
        about=about,
        config=OmegaConf.to_yaml(config, resolve=True),
        net=parts.module.net,
        input_shape=(parts.data.channels, size, size),
    )


def log_results(parts: RunObjects, result: Result) -> None:
    """The closing table, and how to go on."""
    checkpoints = parts.checkpoints
    last = checkpoints.last if checkpoints.last.exists() else None
    checkpoint = checkpoints.best if checkpoints.chosen else last
    logdir = shlex.quote(str(parts.folder.parent))
    board = f"{program('tensorboard')} --logdir {logdir}" if parts.config.get("logger") else None
    sizes = [path.stat().st_size for path in checkpoints.folder.glob("*.ckpt")]
    disk = f"{sum(sizes) / 1e6:,.1f} MB in {len(sizes)} file{'s' * (len(sizes) > 1)}" if sizes else None
    places = {"checkpoint": checkpoint, "disk": disk, "run_dir": parts.folder, "tensorboard": board}
    show(closing({**result, **places}))
    if result["status"] == "diverged" and checkpoints.last.exists():
        log.info("last finite weights: %s", checkpoints.last)
    if result["status"] == "interrupted" and checkpoints.last.exists():
        log.info("continue with: %s train.py %s", program("python"), shlex.quote(f"ckpt={parts.folder}"))
