"""How soon validation accuracy comes to a level: this project's recipe beside the course's, by what runs log."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from lightning.pytorch.callbacks import EarlyStopping

from alexnet_lit.callbacks.quiet import quiet_libraries
from alexnet_lit.config import compose
from alexnet_lit.data import fetch
from alexnet_lit.errors import UserError
from alexnet_lit.prepare import prepare
from alexnet_lit.tools.bench.limits import precisions
from alexnet_lit.tools.bench.timing import Report, conditions, spread

_OURS, _COURSE = "experiment=fast", "the course's recipe (experiment=d2l)"
_RECIPES = {_OURS: ("experiment=fast",), _COURSE: ("experiment=d2l", "data.validate=val")}
_LOOKS = {"cpu": 5, "cuda": 10}  # at validation images, in a run
_LOOKED_AT = {"cpu": 256, "cuda": 2048}  # validation images
_LEVELS = {"cpu": [0.6, 0.7, 0.75], "cuda": [0.8, 0.85, 0.883]}  # the last is the course's published accuracy
_HELD_OUT = {"fashion_mnist": 5000, "sample": 400}


class _Run(NamedTuple):
    """What a run came to: level -> training images and seconds of fit, where it got there; its best accuracy.

    most: training images that it was given at most.
    """

    reached: dict[float, tuple[int, float]]
    best: float
    most: int


def bench_reach(*, batch: int, repeats: int, device: str) -> Report:
    """Training images and seconds of fit, validation included, until validation accuracy comes to a level.

    On a CPU one run each of at most 30 batches' images, in float32; where it has instructions for bf16, ours in it too.
    On cuda `repeats` seeds, of at most 20,000 images (which is
    what experiment=fast takes) and, with the course's recipe, 550,000, its ten epochs. A run ends at the last level.
    """
    data, on_gpu = _data(), device == "cuda"
    first, *others = (f"trainer.precision={precision}" for precision in precisions(device))
    recipes = {_OURS: (*_RECIPES[_OURS], first), **{f"{_OURS} {each}": (*_RECIPES[_OURS], each) for each in others}}
    recipes |= {name: recipe for name, recipe in _RECIPES.items() if name != _OURS}
    most = {_OURS: 20_000, _COURSE: 550_000} if on_gpu else dict.fromkeys(recipes, 30 * batch)
    seeds = repeats if on_gpu else 1
    rows = []
    for name, recipe in recipes.items():
        runs = [_run(recipe, data, device, seed, images=most[name]) for seed in range(seeds)]
        rows += [_row(name, level, runs) for level in _LEVELS[device]]
    images = f"{_LOOKED_AT[device]} validation images at most, {_LOOKS[device]} looks a run, n = {seeds}"
    lacking = "" if data == "fashion_mnist" else ", as Fashion-MNIST isn't on this machine"
    return Report("Images and seconds to an accuracy", conditions(device, f"data={data}{lacking}", images), rows)


def _row(name: str, level: float, runs: list[_Run]) -> dict[str, str]:
    there = [run.reached[level] for run in runs if level in run.reached]
    words = [spread([images for images, _ in there], 0)] if there else []
    if missing := len(runs) - len(there):
        words.append(f"not within {runs[0].most}" + (f" in {missing} of {len(runs)}" if there else ""))
    return {
        "recipe": name,
        "accuracy": f"{level:g}",
        "images": ", ".join(words),
        "seconds": spread([seconds for _, seconds in there], 1) if there else "",
        "best accuracy seen": f"{median(run.best for run in runs):.3f}",
    }


def _data() -> str:
    """Fashion-MNIST where this machine has it; a measurement downloads nothing."""
    places = compose("data=fashion_mnist").data
    try:
        fetch(dir=Path(places.dir), search=places.search, mirrors=())
    except UserError:
        return "sample"
    return "fashion_mnist"


def _run(recipe: Sequence[str], data: str, device: str, seed: int, *, images: int) -> _Run:
    """Train on so many images or a little less, but no longer than to the last level."""
    levels = _LEVELS[device]
    config = compose(
        *(*recipe, f"data={data}", f"data.val_size={_HELD_OUT[data]}", f"seed={seed}", "logger=none"),
        *(f"callbacks.milestones.levels={levels}", "trainer.max_epochs=-1", "trainer.limit_train_batches=1.0"),
        *(
            "trainer.check_val_every_n_epoch=null",
            "trainer.enable_checkpointing=false",
            f"trainer.accelerator={device}",
        ),
        "trainer.enable_progress_bar=false",
    )
    size: int = config.data.batch_size
    steps = max(1, images // size)
    interval = max(1, steps // _LOOKS[device])
    steps -= steps % interval  # the last step is looked at
    config.trainer.max_steps, config.trainer.val_check_interval = steps, interval
    config.trainer.limit_val_batches = max(1, _LOOKED_AT[device] // size)
    quiet_libraries()
    with TemporaryDirectory() as scratch:
        parts = prepare(config, Path(scratch))
        stop = EarlyStopping("val/acc", mode="max", patience=10**9, stopping_threshold=levels[-1])
        parts.trainer.callbacks.append(stop)  # type: ignore[attr-defined] # set by Lightning's callback connector
        parts.trainer.fit(parts.module, datamodule=parts.data)
    points = parts.picture.history.points
    train = parts.data.sizes["train"]

    def seen(step: int) -> int:
        epochs, steps = divmod(step, -(-train // size))
        return epochs * train + steps * size  # the last batch of an epoch may be smaller

    came = {level: points.get(f"seconds_to_acc/{level:g}") for level in levels}
    reached = {level: (seen(curve[0][0]), curve[0][1]) for level, curve in came.items() if curve}
    return _Run(reached, max(value for _, value in points["val/acc"]), seen(steps))
