"""What TAB offers behind `alexnet-lit train` and `summary`: the groups, choices and keys that Hydra knows.

Imports no torch: an answer takes half a second.
"""

import io
import os
import re
import sys
from contextlib import redirect_stderr, redirect_stdout

from alexnet_lit.app import main

_VERB = 2  # words: the program and the verb


def overrides(incomplete: str) -> list[str]:
    """What `incomplete`, the end of the line that the shell is asked to complete, may become.

    bash takes "=" for the border of a word: it asks for what is behind that alone, and gets no more. Where there is but
    one key its value comes along, so that no shell ends the word with a space.
    """
    typed = _typed()
    word = typed[-1]
    found = _ask(typed)
    if len(found) == 1 and found[0].endswith(("=", ".")):
        found += _ask([*typed[:-1], found[0]]) or [f"{found[0]}null"]
    return [one.removeprefix(word.removesuffix(incomplete)) for one in found]


def _typed() -> list[str]:
    """The words of the line behind the verb, up to the one to be completed, as Typer's scripts hand them over."""
    if "COMP_WORDS" in os.environ:  # bash
        words = os.environ["COMP_WORDS"].split("\n")[: int(os.environ["COMP_CWORD"]) + 1]
        return re.sub(" ?= ?", "=", " ".join(words)).split(" ")[_VERB:]
    return os.environ.get("_TYPER_COMPLETE_ARGS", "").split(" ")[_VERB:]


def _ask(typed: list[str]) -> list[str]:
    """Hydra's own completion of the last of these words. It takes its question from the environment."""
    with redirect_stdout(io.StringIO()) as answer, redirect_stderr(io.StringIO()):
        arguments, sys.argv = sys.argv, ["train.py", "-sc", "query=bash"]
        os.environ["COMP_LINE"] = " ".join(["train.py", *typed])
        try:
            main()
        finally:
            sys.argv = arguments
    return answer.getvalue().split()
