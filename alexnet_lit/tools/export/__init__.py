"""`python -m alexnet_lit export`: a net as a file that is used without this package.

Names and choices are checked before torch is imported.
"""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from alexnet_lit.config import checkpoint_file
from alexnet_lit.errors import UserError, check_choice, check_free, whole

_SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
_FOR_ONNX = ("onnx", "onnxscript", "onnxruntime")  # the extra `export`


def export(ckpt: str, *, kind: str, size: int | None, out: Path | None, force: bool) -> None:
    """Write the net of `ckpt`, with all that happens to a picture before it and the softmax behind it, and check it.

    kind: "onnx" or "torch". size: px of the pictures that the file will take; None is as the data has them. Without
    `out` the file is beside the checkpoint.
    """
    check_choice("--format", kind, tuple(_SUFFIXES))
    missing = [name for name in _FOR_ONNX if find_spec(name) is None] if kind == "onnx" else []
    if missing:
        raise UserError(
            f'--format=onnx: needs {", ".join(missing)}: pip install "alexnet-lit[export]", or --format torch'
        )
    file = checkpoint_file(ckpt)
    suffix = _SUFFIXES[kind]
    out = out or file.with_suffix(suffix)
    if out.suffix != suffix:
        raise UserError(
            f"--out={out}: with --format={kind} the name should end in {suffix}, or readers refuse the file"
        )
    check_free(out, force=force)

    from alexnet_lit.tools.export.exported import check, describe, load_exported

    how = import_module(f"alexnet_lit.tools.export.{kind}_file")  # the other one's libraries need not be there
    exported = load_exported(file, size=size)
    with whole(out) as part:
        how.write(exported, part)
        difference = check(exported, how.reader(part))
    print(describe(exported, out, difference, how.EXAMPLE))
