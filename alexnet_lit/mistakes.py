"""What Hydra, OmegaConf and pydantic have to say about a person's input, in one readable line."""

import re
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from alexnet_lit.errors import UserError

# Hydra has classes for stages of its work, not for faults; its texts are what tells faults apart.
_NO_KEY = re.compile(r"Could not override '(?P<key>[^']+)'\.")
_NO_CHOICE = re.compile(
    r"Could not find '(?P<group>.+)/(?P<choice>[^/']+)'\s+Available options in '[^']+':\s*(?P<options>.*?)\nConfig",
    re.S,
)
_SWEEP = re.compile(r"Ambiguous value for argument '(?P<override>[^']+)'")
_NO_PLUGIN = re.compile(r"Could not find '(?P<group>hydra/(launcher|sweeper))/(sampler/)?(?P<choice>\w+)")
_TWICE = re.compile(r"Multiple values for (?P<group>\w+)\.")


def explain(error: Exception, suggest: Callable[[str], str]) -> UserError:
    """The mistake behind an error of Hydra's composition; `suggest` says what a wrong key may have meant."""
    text = str(error)
    raised: BaseException | None = error
    while raised is not None:
        if isinstance(raised, UserError):  # by a resolver of ours
            return raised
        raised = raised.__cause__ or raised.__context__
    if match := _NO_KEY.search(text):
        cause = str(error.__cause__ or "")
        if "is not in struct" in cause or "is not a valid" not in cause:
            return UserError(f"{match['key']}: there is no such key: {suggest(match['key'])}")
    if match := _NO_PLUGIN.search(text):
        has = 'pip install "alexnet-lit[sweep]" brings joblib, submitit_local, submitit_slurm and optuna'
        return UserError(f"{match['group']}: {match['choice']} isn't there: {has}")
    if match := _NO_CHOICE.search(text):
        options = ", ".join(match["options"].split())
        return UserError(f"{match['group']}={match['choice']}: there is no such choice: use one of {options}")
    if match := _SWEEP.search(text):
        override = match["override"]
        key, _, values = override.partition("=")
        way_out = "add -m to sweep over them" + (f", or write {key}=[{values}] for a list" if "." in key else "")
        return UserError(f"{override}: several values: {way_out}")
    if match := _TWICE.search(text):
        return UserError(f"+{match['group']}=...: {match['group']} has a place already: leave out the +")
    return UserError(" ".join(text.split()))


def explain_override(override: str) -> UserError:
    """The mistake in an override that Hydra's grammar cannot read."""
    if "=" not in override:
        return UserError(f"{override}: not of the form key=value")
    key, _, value = override.partition("=")
    return UserError(f"{override}: cannot be read: quote a value with special characters, as in '{key}=\"{value}\"'")


def explain_argument(error: ValidationError, path: str) -> UserError:
    """The first wrong argument of a checked constructor, named as the config key that a person types."""
    first = _first(error)
    name = ".".join(str(part) for part in first["loc"][:1])
    key = f"{path}.{name}" if path else name
    if first["type"] == "unexpected_keyword_argument":
        return UserError(f"{key}: there is no such key")
    if first["type"] == "missing_keyword_only_argument":
        return UserError(f"{key}: this key is missing")
    return UserError(f"{key}={show(first['input'])}: {wanted(error)}")


def _first(error: ValidationError) -> Any:
    """The first wrong value. Of several types that it might have, each has something to say: the one that fits best."""
    errors = error.errors(include_url=False)
    return max((each for each in errors if each["loc"][:1] == errors[0]["loc"][:1]), key=lambda each: len(each["loc"]))


def wanted(error: ValidationError) -> str:
    """What the first wrong value should be, in words."""
    text: str = _first(error)["msg"]
    for theirs, typed in (
        ("Input should", "should"),
        ("a valid boolean", "true or false"),
        ("False, True", "false, true"),
    ):
        text = text.replace(theirs, typed)
    return text


def show(value: object) -> str:
    """A value as a person types it on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
