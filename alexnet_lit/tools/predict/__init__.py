"""`python -m alexnet_lit predict`: what is on a person's own pictures.

Names and choices are checked before torch is imported.
"""

import sys
from collections.abc import Sequence

from alexnet_lit.config import checkpoint_file
from alexnet_lit.errors import UserError, check_choice
from alexnet_lit.tools.predict.picture import BACKGROUNDS
from alexnet_lit.tools.predict.sources import find


def predict(
    ckpt: str, typed: Sequence[str], *, top: int, background: str, device: str, as_json: bool, as_csv: bool
) -> int:
    """Print what the net of `ckpt` says of the pictures that were typed: a table, a list in JSON, or CSV.

    A picture that can't be read is named on stderr and left out. Returns the exit status: 1 if there was one, else 0.
    """
    check_choice("--background", background, BACKGROUNDS)
    if as_json and as_csv:
        raise UserError("--json --csv: one or the other")
    file = checkpoint_file(ckpt)
    sources = find(typed)

    from alexnet_lit.callbacks.count import Count
    from alexnet_lit.tools.predict.answers import AsCSV, AsJSON, AsTable
    from alexnet_lit.tools.predict.guess import Failure, guesses

    answers = AsJSON() if as_json else AsCSV() if as_csv else AsTable()
    failed = 0
    lines_show = as_csv and sys.stdout.isatty()
    with Count("pictures", len(sources), silent=lines_show) as count:
        for result in guesses(file, sources, top=top, background=background, device=device):
            count.add(1)
            if isinstance(result, Failure):
                failed += 1
                count.say(f"{result.file}: not a picture that can be read ({result.reason}): left out")
            else:
                answers.add(result)
    answers.end()
    return 1 if failed else 0
