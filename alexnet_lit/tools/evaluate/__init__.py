"""`python -m alexnet_lit evaluate`: how good the net of a checkpoint is, in figures and as a picture.

Names and choices are checked before torch is imported.
"""

from pathlib import Path

from alexnet_lit.config import checkpoint_file
from alexnet_lit.errors import check_choice, check_free, whole


def evaluate(
    ckpt: str,
    *,
    tta: str | None,
    split: str,
    dir: str | None,
    out: Path | None,
    force: bool,
    device: str,
    as_json: bool,
) -> None:
    """Print the scores of `ckpt` as tables or in JSON, and draw the confusion matrix to `out`.

    Without `out` it is beside the checkpoint: <checkpoint>_<split>[_<tta>]_confusion.png.
    """
    if tta is not None:
        check_choice("--tta", tta, ("none", "mirror", "ten_crop"))
    check_choice("--split", split, ("test", "val"))
    file = checkpoint_file(ckpt)
    name = "_".join([file.stem, split, *([tta] if tta else []), "confusion.png"])
    picture = out or file.with_name(name)
    check_free(picture, force=force)

    from alexnet_lit.callbacks.confusion import draw
    from alexnet_lit.tools.evaluate import report
    from alexnet_lit.tools.evaluate.measure import measure

    measured = measure(file, tta=tta, split=split, dir=dir, device=device)
    with whole(picture) as part:
        images = f"{measured.images:,} {report.SPLITS[split]} images"
        title = f"{file.parent.parent.name}\n{images}, accuracy {measured.acc:.4f}"
        draw(measured.scores.confusion.tolist(), list(measured.scores.classes), part, title)
    tell = report.as_json if as_json else report.as_text
    print(tell(measured, file, split, picture))
