"""From the files in conf/ and a person's overrides to one config. Imports no torch."""

import difflib
import functools
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString, Sweep
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from alexnet_lit.errors import UserError
from alexnet_lit.mistakes import explain, explain_override

PACKAGE = Path(__file__).resolve().parent
# In a checkout conf/ lies beside the package; a wheel carries it inside.
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
_claimed: dict[tuple[str, str, str], str] = {}
_version_lock = threading.Lock()  # Hydra keeps the version in one global place
_only_named = False


def home() -> str:
    """Where logs/ and data/ lie: beside train.py in a checkout, else in the current folder."""
    return str(PACKAGE.parent if (PACKAGE.parent / "train.py").is_file() else Path.cwd())


def run_folder(parent: str, stamp: str, name: str | None) -> str:
    """Make a folder that no other run has: <parent>/<stamp>[_<name>], with _2, _3 ... where that is taken."""
    key = (parent, stamp, str(name))
    if key not in _claimed:
        base = Path(parent).expanduser().resolve()
        stem = stamp if name is None else f"{stamp}_{safe(str(name))}"
        if _only_named:
            return str(base / stem)
        try:
            base.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            way_out = "set paths.logs to a folder that you can write to"
            raise UserError(
                f"paths.logs={Path(parent).parent}: can't be written ({error.strerror}): {way_out}"
            ) from error
        attempt, folder = 1, base / stem
        while True:
            try:
                folder.mkdir()
                break
            except FileExistsError:
                attempt += 1
                folder = base / f"{stem}_{attempt}"
        _claimed[key] = str(folder)
    return _claimed[key]


def sweep_folder(parent: str, stamp: str, *, _root_: DictConfig) -> str:
    """Make a sweep's folder, once: a config hands its cache on to those of the jobs, in other processes too, so that
    all of them lie in that one folder, even where they differ in `name`.
    """
    cache = OmegaConf.get_cache(_root_)["sweep_folder"]
    if "path" not in cache:
        cache["path"] = run_folder(parent, stamp, _root_.name)
    return str(cache["path"])


def claim_folder(folder: Path) -> None:
    """Take the folder that hydra.run.dir names for a new run. Raises: UserError if it holds one already."""
    if str(folder) in _claimed.values():
        return
    held = {path.name for path in folder.iterdir()}
    files = {".hydra", "checkpoints", "result.json", "train.log", "multirun.yaml"}
    if held & files or any(name.startswith("events.out.tfevents.") for name in held):
        raise UserError(
            f"hydra.run.dir={folder}: holds a run already: name another folder, or go on with that one by ckpt={folder}"
        )
    if not held:
        _claimed["", "", str(folder)] = str(folder)


def claim(folder: Path, key: str) -> None:
    """Make a folder that a person has named by `key`: as long as there is nothing in it, it is new.

    Raises: UserError if it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{key}={folder}: can't be made ({error.strerror}): name another folder") from error
    if {path.name for path in folder.iterdir()} <= {".hydra"}:
        _claimed[str(folder), "", ""] = str(folder)


def forget_folders(*, only_named: bool = False) -> None:
    """Let the next run in this process have a folder of its own; `only_named`: none is made, as nothing is run."""
    global _only_named
    _claimed.clear()
    _only_named = only_named


def discard_folder(folder: Path) -> None:
    """Remove a run's or a sweep's folder, but only if nothing was trained in it and it is new."""
    fresh = {".hydra", "train.log", "multirun.yaml", ".running.lock", "study.db"}
    if str(folder) in _claimed.values() and {path.name for path in folder.iterdir()} <= fresh:
        shutil.rmtree(folder)


def discard_continuation(record: Path) -> None:
    """Remove <run>/.hydra/resume_<n>, Hydra's record of a continuation, if that was refused: it has written no more."""
    if not record.name.startswith("resume_"):
        return
    began = (record / "overrides.yaml").stat().st_mtime_ns  # the last that Hydra writes
    files = (path for path in record.parents[1].rglob("*") if path.name != "train.log")  # which tells of the refusal
    if not any(path.stat().st_mtime_ns > began for path in files):
        shutil.rmtree(record)


def job_folder(number: int, overrides: str) -> str:
    """<number>_<overrides>, of characters that every shell, file system and Hydra's grammar take, at most 100 long.

    The number tells jobs apart whose overrides are cut off to the same.
    """
    typed = re.sub(r"-(True|False)(?=_|$)", lambda found: found[0].lower(), overrides)  # as Python writes them
    return safe(f"{number}_{typed}")[:100].rstrip("-_.+")


def safe(text: str) -> str:
    """A file name part: letters, digits and `._+-`; anything else becomes a hyphen."""
    return re.sub(r"-*[^\w.+-]+-*", "-", text, flags=re.ASCII)


def choose(argument: str) -> str:
    """The same override, but that null for a group with the choice `none` names that one.

    Raises: UserError for a group that is given what is no name.
    """
    group, _, typed = argument.lstrip("+").partition("=")
    if not group or not typed or not (CONF / group).is_dir():
        return argument
    try:
        value = OverridesParser.create().parse_override(argument).value()
    except HydraException as error:
        raise explain_override(argument) from error
    if isinstance(value, dict) and argument.startswith("+"):  # a node of one's own in the place of a group
        return argument
    values = value.list if isinstance(value, ChoiceSweep) else value if isinstance(value, list) else [value]
    names = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    if None in values and "none" in names and not isinstance(value, list):
        return f"{argument.partition('=')[0]}={re.sub('null', 'none', typed)}"
    if not all(isinstance(each, str | QuotedString | Sweep) for each in values):
        way_out = f"use one of {', '.join(names)}" if known().get(group) is not None else "leave it out, or see --help"
        raise UserError(f"{argument}: of a group a choice is named: {way_out}")
    return argument


def compose(*overrides: str) -> DictConfig:
    """The config as train.py would see it: `compose("model.lrn=true", "data=sample")`.

    Changes nothing of Hydra's global state: it can be called within another Hydra application, and in any thread.
    Raises: UserError for an override that names no key or choice.
    """
    if not all(isinstance(override, str) for override in overrides):
        raise TypeError(f'compose takes overrides one by one, as compose("seed=1", "data=sample"), not {overrides}')
    try:
        return _compose([choose(override) for override in overrides])
    except OverrideParseException as error:
        raise explain_override(error.override) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error, suggest) from error


def _compose(overrides: Sequence[str] = ()) -> DictConfig:
    # Not hydra.compose, which needs GlobalHydra: that belongs to the program around, which may be a Hydra application.
    with _as_of_hydra_1_3():
        loader = ConfigLoaderImpl(create_config_search_path(str(CONF)))
        config = loader.load_configuration("train", list(overrides), run_mode=RunMode.RUN, from_shell=False)
    with open_dict(config):
        del config["hydra"]
    return config


@contextmanager
def _as_of_hydra_1_3() -> Iterator[None]:
    """Compose by the rules of Hydra 1.3, whichever `version_base` the program around has chosen for itself."""
    with _version_lock:
        base = version.VersionBase.instance()
        theirs = base.version_base
        version.setbase("1.3")
        try:
            yield
        finally:
            base.version_base = theirs


@functools.cache
def known() -> DictConfig:
    """The config without any override: what keys there are. Not to be changed."""
    config = _compose()
    OmegaConf.set_readonly(config, True)
    return config


def suggest(key: str) -> str:
    """A few words on which key a person may have meant by one that does not exist."""
    if choices := _choices_with(key):
        return f"{' and '.join(choices)} {'have' if len(choices) > 1 else 'has'} it"
    names = _leaves(known())
    group, _, last = key.rpartition(".")
    if group and last in known() and (CONF / last).is_dir():
        return f"did you mean the group, {last}=...?"
    siblings = [name for name in names if group and name.startswith(f"{group}.")]
    near = [name for name in names if name.split(".")[-1] == last]
    near = near or [name for name in siblings if _close(last, [name.split(".")[-1]], 0.9)]
    if not near and (choices := _choices_taking(key)):
        return f"{' and '.join(choices)} {'take' if len(choices) > 1 else 'takes'} it: write +{key}=..."
    near = near or [f"{group}.{name}" for name in _close(last, [name[len(group) + 1 :] for name in siblings])]
    near = near or [name for name in names if len(last) > 2 and last in name.split(".")[-1]]
    near = near or _close(key, names)
    if near:
        return f"did you mean {' or '.join(near[:3])}?"
    if siblings:
        return f"there are {', '.join(siblings)}"
    return "python train.py --cfg job lists the keys"


def _choices_with(key: str) -> list[str]:
    """The choices of a group that have this key of it: optimizer=sgd for optimizer.momentum."""
    group, _, rest = key.partition(".")
    files = sorted((CONF / group).glob("*.yaml")) if rest else []
    # A file for the whole config (`@package _global_`) says data.broken where others say broken.
    return [f"{group}={file.stem}" for file in files if {key, rest} & {*_leaves(DictConfig(OmegaConf.load(file)))}]


def _choices_taking(key: str) -> list[str]:
    """The choices of a group whose class, a library's, has this argument, though its file does not list it."""
    group, _, rest = key.partition(".")
    parent, _, last = rest.rpartition(".")
    taking = []
    for file in sorted((CONF / group).glob("*.yaml")) if last else []:
        config = OmegaConf.load(file)
        node = OmegaConf.select(config, parent) if parent else config
        target = str(node.get("_target_", "")) if isinstance(node, DictConfig) else ""
        # Those of this package have no arguments but the listed ones.
        if target.partition(".")[0] not in ("", "alexnet_lit") and last in signature(get_object(target)).parameters:
            taking.append(f"{group}={file.stem}")
    return taking


def _close(word: str, known: Sequence[str], cutoff: float = 0.65) -> list[str]:
    return difflib.get_close_matches(word, known, n=2, cutoff=cutoff)


def _leaves(config: DictConfig, prefix: str = "") -> list[str]:
    names: list[str] = []
    for key, value in config.items_ex(resolve=False):
        name = prefix + str(key)
        names += _leaves(value, f"{name}.") if isinstance(value, DictConfig) else [name]
    return names


def typed_overrides(folder: Path) -> list[str]:
    """What was typed when the run in `folder` was started."""
    file = folder / ".hydra" / "overrides.yaml"
    return [str(item) for item in as_typed(OmegaConf.load(file))] if file.exists() else []


def last_record(folder: Path) -> Path:
    """Where Hydra keeps how the run in `folder` was last continued: .hydra/resume_<n>; if it never was, .hydra."""
    records = (folder / ".hydra").glob("resume_*")
    return max(records, key=lambda path: int(path.name.removeprefix("resume_")), default=folder / ".hydra")


def continued_overrides(folder: Path) -> list[str]:
    """What was typed beside ckpt= when the run in `folder` was last continued."""
    record = last_record(folder)
    file = record / "overrides.yaml"
    typed = [str(item) for item in as_typed(OmegaConf.load(file))] if record.name != ".hydra" and file.exists() else []
    return [item for item in typed if not item.startswith("ckpt=")]


def as_typed(config: Any) -> Any:
    """A config node as plain dicts and lists, interpolations as they are written."""
    return OmegaConf.to_container(config, resolve=False)


def plain(config: Any) -> Any:
    """A config node as plain dicts, lists, strings and numbers, interpolations resolved."""
    return OmegaConf.to_container(config, resolve=True)


def mode(direction: str) -> str:
    """Lightning's word for a direction: min or max."""
    return str(direction)[:3]


def register_old_resolvers(folder: Path) -> None:
    """Let the saved config of the run in `folder` say ${home:} and ${mode:...}, as it did before names had a prefix."""
    file = folder / ".hydra" / "config.yaml"
    saved = file.read_text(encoding="utf-8") if file.is_file() else ""
    for function in (home, mode):
        name = function.__name__
        if f"${{{name}:" in saved and not OmegaConf.has_resolver(name):
            OmegaConf.register_new_resolver(name, function)


# Resolvers are global: the prefix keeps those of the program around from being overwritten.
for _function in (home, mode, run_folder, job_folder, sweep_folder):
    OmegaConf.register_new_resolver(f"alexnet_lit.{_function.__name__}", _function, replace=True)
