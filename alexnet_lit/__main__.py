"""The commands: `python -m alexnet_lit VERB`, also installed as `alexnet-lit VERB`."""

import math
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from alexnet_lit.config import checkpoint_file, compose, quoted
from alexnet_lit.errors import UserError, check_free
from alexnet_lit.terminal import plain_text, tolerant_output

app = typer.Typer(
    help="AlexNet (2012) as a laboratory.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    help="Train: the same as `python train.py`, with the same arguments; --help has examples, groups and keys.",
)
def train(arguments: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Hand the arguments over to Hydra."""
    from alexnet_lit.app import main as run

    sys.argv = [f"{Path(sys.argv[0]).name} train", *(arguments or ())]
    raise typer.Exit(run())


@app.command()
def data(check: Annotated[bool, typer.Option("--check", help="Only look; exit status 1 without it.")] = False) -> None:
    """Find Fashion-MNIST on this machine, or download it."""
    from alexnet_lit.data.fashion_mnist import fetch

    places = compose("data=fashion_mnist").data
    try:
        paths = fetch(dir=Path(places.dir), search=places.search, mirrors=() if check else places.mirrors)
    except UserError:
        if check:
            raise typer.Exit(1) from None
        raise
    if not check:
        print(f"Fashion-MNIST: {next(iter(paths.values())).parent}")


@app.command()
def summary(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="OVERRIDES", help="As for train: model=alexnet_2012 data.image_size=96."),
    ] = None,
    config_dir: Annotated[
        Path | None, typer.Option("--config-dir", "-cd", exists=True, file_okay=False, help="Folder with your groups.")
    ] = None,
) -> None:
    """Print the net layer by layer for one image: output shape, parameters, multiply-adds, memory of activations.

    Needs no data, except with data=image_folder the folder, which gives the number of classes.
    """
    more = [f"hydra.searchpath=[{quoted(f'file://{config_dir.resolve()}')}]"] if config_dir else []
    config = compose(*more, *overrides or ())
    from alexnet_lit.callbacks.summary import layer_table
    from alexnet_lit.factory import build_net, check_root, infer_model_dims, instantiate, without_weights

    check_root(config)
    config = infer_model_dims(without_weights(config))
    size = config.model.get("image_size", config.data.image_size)
    channels = config.model.get("in_channels") or instantiate(config, "data").channels
    print(plain_text(layer_table(build_net(config), (channels, size, size), costs=True)))


Checkpoint = Annotated[
    Path,
    typer.Argument(metavar="CKPT", callback=checkpoint_file, help="A .ckpt file, or a run folder (best, else last)."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it is there already.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda", help="auto: a GPU if there is one.")]


@app.command()
def predict(
    ckpt: Checkpoint,
    pictures: Annotated[
        list[str], typer.Argument(metavar="PICTURE|FOLDER|-", help="Files, folders of them, or - for one on stdin.")
    ],
    top: Annotated[int, typer.Option(min=1, help="Number of classes shown for each picture.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="A list in JSON instead of a table.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV instead of a table.")] = False,
    device: Device = "auto",
) -> None:
    """Classify pictures: PNG, JPEG, GIF, BMP, WebP, TIFF or PPM, of any size, grey or coloured.

    A picture is made like those of Fashion-MNIST (cropped, shrunk to 28 px, a white background made black) or, for a
    net that was trained on your own pictures, cropped to the square in the centre. The last column says what was done.
    What can't be read is named on stderr and left out; the exit status is then 1.
    """
    from alexnet_lit.tools.predict import predict as run

    raise typer.Exit(run(ckpt, pictures, top=top, device=device, as_json=as_json, as_csv=as_csv))


@app.command()
def demo(ckpt: Checkpoint, device: Device = "auto") -> None:
    """Serve a web page to drop or draw a picture on: its classes, the net's input and the first layer's feature maps.

    For the browser of this machine alone. Needs alexnet-lit[demo].
    """
    from alexnet_lit.tools.demo import demo as run

    run(ckpt, device=device)


@app.command()
def evaluate(
    ckpt: Checkpoint,
    split: Annotated[str, typer.Option(metavar="test|val", help="Choose nets by val: test is for the end.")] = "test",
    tta: Annotated[
        str | None,
        typer.Option(metavar="none|mirror|ten_crop", help="Test-time augmentation. Default: the run's; none on val."),
    ] = None,
    dir: Annotated[str | None, typer.Option(help="Folder of the data. Default: found as by a run.")] = None,
    out: Annotated[Path | None, typer.Option(help="Confusion matrix, PNG. Default: beside the checkpoint.")] = None,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,
    device: Device = "auto",
) -> None:
    """Evaluate on all test or validation images: accuracy with its interval, loss, calibration, each class.

    The checkpoint alone is enough. With the run's own split and views, accuracy and loss are those of its result.json.
    """
    from alexnet_lit.tools.evaluate import evaluate as run

    run(ckpt, tta=tta, split=split, dir=dir, out=out, force=force, device=device, table=not as_json)


@app.command()
def export(
    ckpt: Checkpoint,
    out: Annotated[Path | None, typer.Option(help="The file. Default: beside the checkpoint.")] = None,
    force: Force = False,
) -> None:
    """Write the net as one ONNX file that works without alexnet_lit: uint8 pictures in, probabilities out.

    Normalising, enlarging and the softmax are inside; names of classes, config and version are its metadata. The file
    is read back and compared with torch.
    """
    from alexnet_lit.tools.export import export as run

    run(ckpt, out=out, force=force)


@app.command()
def report(
    folders: Annotated[
        list[str], typer.Argument(metavar="FOLDER", help="A sweep, runs, or folders that have some below them.")
    ],
    baseline: Annotated[
        str | None,
        typer.Option(help="Compare with this experiment, e.g. model.lrn=false. Default: idea=base, or the first."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the report. Default: the first FOLDER.")] = None,
) -> None:
    """Compare runs in one self-contained file, report.html.

    Means over seeds and their significance, learning curves, and each of the paper's ideas beside the paper's claim.
    Reads result.json, overrides.yaml and event files alone. An earlier report is replaced.
    """
    from alexnet_lit.tools.report import report as run

    run(folders, baseline=baseline, out=out)


@app.command()
def bench(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[lrn|step|data|epoch|ddp]... | recipes [quick|fast|default|best|d2l|paper_2012]...",
            help="Default: all but recipes.",
        ),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images per step. Default: 64 on CPU, 128 on GPU.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Rounds; medians are shown.")] = 3,
    device: Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Append records to it; recipes: docs/results/recipes.jsonl.")] = None,
    minutes: Annotated[float, typer.Option(min=0, show_default=False, help="recipes: time limit.")] = math.inf,
    seeds: Annotated[int, typer.Option(min=1, help="recipes: number of seeds, from 0.")] = 3,
) -> None:
    """Measure speed and print tables in Markdown, progress on stderr: all takes about 5 minutes on two cores.

    lrn: normalisation against torch's layer. step: a training step against a plain torch loop. data, epoch: the input
    pipeline, and an epoch against the course's program. ddp: several devices against one. recipes: every recipe with
    several seeds, in minutes on a GPU and days on a CPU; stopped ones are resumed.
    """
    deadline = time.monotonic() + 60 * minutes  # before torch is imported, which takes seconds
    from alexnet_lit.tools.records import FOLDER, append, titled

    kind, *names = what or [""]
    file = FOLDER / "recipes.jsonl" if out is None and kind == "recipes" else out
    if file is not None:
        check_free(file, force=True)
    if kind == "recipes" and file is not None:
        from alexnet_lit.tools.bench.recipes import bench_recipes

        logs = Path(compose().paths.logs, "recipes", file.stem)  # apart for each file: a new one begins anew
        raise typer.Exit(bench_recipes(names, seeds=seeds, deadline=deadline, device=device, out=file, logs=logs))
    from alexnet_lit.tools.bench import measure

    for record in measure(what, batch=batch, repeats=repeats, device=device):
        if file is not None:  # each time, so that Ctrl-C keeps what is measured
            append(record, file)
        print(titled(record) + "\n", flush=True)


@tolerant_output(exits=True)
def main() -> None:
    """Run a command. A UserError prints one line and exits with status 2."""
    if "" not in sys.path:  # modules of one's own are found where one stands, as by `python -m`
        sys.path.append("")
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
