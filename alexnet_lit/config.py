"""Compose conf/ and overrides into one config, explain what is wrong with them, and find runs and their checkpoints.

Imports no torch.
"""

import difflib
import functools
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from inspect import signature
from pathlib import Path
from typing import Any
from unittest import mock

from filelock import FileLock, Timeout
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Quote, QuotedString, Sweep
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from alexnet_lit.errors import UserError

PACKAGE = Path(__file__).resolve().parent
# In a checkout conf/ lies beside the package; a wheel carries it inside.
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
RESULT = "result.json"
PART = "result.json.part"  # beside the result of a run that goes on from it
PLAN = "multirun.yaml"  # what Hydra saves in a sweep's folder: its config and overrides
# What a checkpoint has the state of, or what best.ckpt was chosen by: another value would have no effect or no meaning.
_FIXED = {
    *("model", "data", "optimizer", "scheduler", "seed", "experiment", "sweep", "idea", "name"),
    *("objective", "direction", "label_smoothing", "classifier"),
}
_PLACES = {"data.dir", "data.cache", "data.search", "data.mirrors"}  # where the images are, not which ones
_made: set[Path] = set()  # folders that this process has made for the run or sweep that it starts
_only_named = False
_LOCK = ".running.lock"
_version_lock = threading.Lock()  # Hydra keeps its version_base in one global place


# ---- Composing
def compose(*overrides: str) -> DictConfig:
    """The config as train.py would see it: `compose("model.lrn=true", "data=sample")`; with `ckpt=` and a run's folder,
    that of the run, and what is given beside it.

    Changes nothing of Hydra's global state: it can be called within another Hydra application, and in any thread.
    Raises: UserError for an override that names no key or choice.
    """
    if not all(isinstance(override, str) for override in overrides):
        raise TypeError(f'compose takes overrides one by one, as compose("seed=1", "data=sample"), not {overrides}')
    try:
        typed, folder = continued_run(overrides)
        typed = [normalise_choice(override) for override in typed]
        config = _compose(typed) if folder is None else _compose(typed, hydra_folders(folder)[-1], "config")
        OmegaConf.get_cache(config)["overrides"] = overrides
        return config
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error) from error


def _compose(overrides: Sequence[str] = (), folder: Path = CONF, name: str = "train") -> DictConfig:
    # Not hydra.compose: GlobalHydra and `version_base` belong to the program around, which may be a Hydra application.
    with _version_lock, mock.patch.object(version.VersionBase.instance(), "version_base"):
        version.setbase("1.3")
        loader = ConfigLoaderImpl(create_config_search_path(str(folder)))
        config = loader.load_configuration(name, list(overrides), run_mode=RunMode.RUN, from_shell=False)
    with open_dict(config):
        del config["hydra"]
    return config


def overrides_of(config: DictConfig) -> list[str]:
    """The overrides that `compose` made the config with, and those for what was changed in it since."""
    typed = OmegaConf.get_cache(config).get("overrides", ())
    both = (config, compose(*typed))
    here, there = ([f"++{key}={as_override(OmegaConf.select(it, key))}" for key in _leaves(it)] for it in both)
    return [*typed, *(override for override in here if override not in there)]


@functools.cache
def default_config() -> DictConfig:
    """The default config, read-only: which keys exist."""
    config = _compose()
    OmegaConf.set_readonly(config, True)
    return config


def normalise_choice(argument: str) -> str:
    """The override, with group=null as group=none where the group has such a choice.

    Raises: UserError for a group whose value is not the name of a choice.
    """
    group, equals, typed = argument.lstrip("+").partition("=")
    if not equals or not (CONF / group).is_dir():
        return argument
    value = OverridesParser.create().parse_override(argument).value()
    values = value.list if isinstance(value, ChoiceSweep) else value if isinstance(value, list) else [value]
    names = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
    if None in values and "none" in names and not isinstance(value, list):
        return f"{group}={re.sub('null', 'none', typed)}"
    if not all(isinstance(each, str | QuotedString | Sweep) for each in values):
        raise UserError(f"{argument}: a group takes a choice's name: leave it out, or use one of {', '.join(names)}")
    return argument.lstrip("+")  # Hydra's sign for adding a group: all groups exist


def to_plain(config: Any, *, raw: bool = False) -> Any:
    """A config node as plain dicts, lists, strings and numbers; interpolations resolved, or raw as they are written."""
    return OmegaConf.to_container(config, resolve=not raw)


def quoted(path: str | Path) -> str:
    """A path as a value in Hydra's grammar, whatever characters it has; `${...}` is an interpolation all the same."""
    return QuotedString(str(path), Quote.single).with_quotes()


def typed_path(arguments: Sequence[str], key: str) -> str | None:
    """The path that `key` (with its "=") is given in a command line, without the quotes of Hydra's grammar."""
    values = [argument.removeprefix(key) for argument in arguments if argument.startswith(key)]
    return re.sub(r"""^(['"])(.*)\1$""", r"\2", values[-1]) if values else None


# ---- Errors of Hydra, OmegaConf and pydantic in one line

# Hydra has classes for stages of its work, not for causes: its texts tell those apart.
_NO_KEY = re.compile(r"Could not override '(?P<key>[^']+)'\.")
_NO_CHOICE = re.compile(
    r"Could not find '(?P<group>.+)/(?P<choice>[^/']+)'\s+Available options in '[^']+':\s*(?P<options>.*?)\nConfig",
    re.S,
)
_SWEEP = re.compile(r"Ambiguous value for argument '(?P<override>[^']+)'")
_NO_PLUGIN = re.compile(r"Could not find '(?P<group>hydra/(launcher|sweeper))/(sampler/)?(?P<choice>\w+)")


def explain(error: Exception) -> UserError:
    """The UserError behind an error of Hydra's composition; a UserError as it is."""
    raised: BaseException | None = error
    while raised is not None:
        if isinstance(raised, UserError):  # raised by a resolver below
            return raised
        raised = raised.__cause__ or raised.__context__
    if isinstance(error, OverrideParseException):
        typed = error.override
        key, equals, value = typed.partition("=")
        if not equals:
            return UserError(f"{key}: not of the form key=value")
        return UserError(f"{typed}: cannot be read: quote a value with special characters, as in '{key}=\"{value}\"'")
    text = str(error)
    if match := _NO_KEY.search(text):
        return UserError(f"{match['key']}: there is no such key: {suggest(match['key'])}")
    if match := _NO_PLUGIN.search(text):
        has = 'pip install "alexnet-lit[sweep]" brings joblib, submitit_local, submitit_slurm and optuna'
        return UserError(f"{match['group']}: {match['choice']} isn't there: {has}")
    if match := _NO_CHOICE.search(text):
        options = ", ".join(match["options"].split())
        return UserError(f"{match['group']}={match['choice']}: there is no such choice: use one of {options}")
    if match := _SWEEP.search(text):
        return UserError(f"{match['override']}: several values: add -m to sweep over them, or [...] around a list")
    return UserError(" ".join(text.split()))


def explain_argument(error: ValidationError, path: str) -> UserError:
    """The first wrong argument of a constructor, by its config key. `path`: of the object in the config."""
    first = _first(error)
    key = ".".join([path, *map(str, first["loc"][:1])])
    if first["type"] == "unexpected_keyword_argument":
        return UserError(f"{key}: there is no such key: {suggest(key)}")
    if first["type"] == "missing_keyword_only_argument":
        return UserError(f"{key}: this key is missing")
    return UserError(f"{key}={as_override(first['input'])}: {expected_value(error)}")


def _first(error: ValidationError) -> Any:
    """The first wrong value. Of a union's errors, one for each type, the most specific one."""
    errors = error.errors(include_url=False)
    return max((each for each in errors if each["loc"][:1] == errors[0]["loc"][:1]), key=lambda each: len(each["loc"]))


def expected_value(error: ValidationError) -> str:
    """What the first wrong value should be, in words."""
    text: str = _first(error)["msg"].replace("Input should", "should").replace("False, True", "false, true")
    return text.replace("a valid boolean", "true or false")


def as_override(value: object) -> str:
    """A value as it is typed on the command line."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def suggest(key: str) -> str:
    """A few words on which key may be meant by one that does not exist."""
    (group, _, rest), last = key.partition("."), key.rpartition(".")[2]
    files = sorted((CONF / group).glob("*.yaml")) if rest else []
    choices = {f"{group}={file.stem}": DictConfig(OmegaConf.load(file)) for file in files}
    # A file for the whole config (`@package _global_`) says data.broken where others say broken.
    if having := [choice for choice, node in choices.items() if {key, rest} & {*_leaves(node)}]:
        return f"it is one of {' and '.join(having)}"
    if rest and last in default_config() and (CONF / last).is_dir():
        return f"did you mean the group, {last}=...?"
    names = [*_leaves(default_config())]
    near = [name for name in names if name.split(".")[-1] == last]
    if not near and (taking := [choice for choice, node in choices.items() if _takes(node, rest)]):
        return f"write +{key}=..., for {' and '.join(taking)}"
    near = near or [name for name in names if len(last) > 2 and last in name.split(".")[-1]]
    near = near or difflib.get_close_matches(key, names, n=1, cutoff=0.75)
    return f"did you mean {' or '.join(near[:3])}?" if near else "python train.py --cfg job lists the keys"


def _takes(node: DictConfig, argument: str) -> bool:
    """Whether the node's class, a library's, has the argument: this package's have no others than are listed."""
    target = str(node.get("_target_", ""))
    return target.partition(".")[0] not in ("", "alexnet_lit") and argument in signature(get_object(target)).parameters


def _leaves(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key, value in config.items_ex(resolve=False):
        name = prefix + str(key)
        yield from _leaves(value, f"{name}.") if isinstance(value, DictConfig) else [name]


# ---- Folders of runs and sweeps
def home() -> str:
    """Where logs/ and data/ lie: beside train.py in a checkout, else in the current folder."""
    return str(PACKAGE.parent if (PACKAGE.parent / "train.py").is_file() else Path.cwd())


def run_folder(parent: str, stamp: str, name: str | None) -> str:
    """Make a folder that no other run has: <parent>/<stamp>[_<name>], with _2, _3 ... where that is taken."""
    if parent.rpartition("/")[0] in ("", "None"):
        raise UserError("paths.logs: is empty: name a folder, or leave it out")
    base = Path(parent).expanduser().resolve()
    stem = stamp if name is None else f"{stamp}_{file_name_part(str(name))[:100]}"
    if _only_named:
        return str(base / stem)
    attempt, folder = 1, base / stem
    while True:
        try:
            folder.mkdir(parents=True)
            _made.add(folder)
            return str(folder)
        except FileExistsError:
            attempt += 1
            folder = base / f"{stem}_{attempt}"
        except OSError as error:
            hint = "set paths.logs to a folder that you can write to"
            raise UserError(f"paths.logs={Path(parent).parent}: can't be written ({error.strerror}): {hint}") from error


def sweep_folder(parent: str, stamp: str, *, _root_: DictConfig) -> str:
    """Make a sweep's folder, once: Hydra copies a config's cache to the jobs' configs, in other processes too, so that
    all jobs lie in that one folder, even where they differ in `name`.
    """
    cache = OmegaConf.get_cache(_root_)["sweep_folder"]
    if "path" not in cache:
        cache["path"] = run_folder(parent, stamp, _root_.name)
    return str(cache["path"])


def job_folder(number: int, overrides: str) -> str:
    """<number>_<overrides>, of characters that every shell, file system and Hydra's grammar take, at most 100."""
    typed = re.sub(r"-(True|False)(?=_|$)", lambda found: found[0].lower(), overrides)  # as Python writes them
    return file_name_part(f"{number}_{typed}")[:100].rstrip("-_.+")


def file_name_part(text: str) -> str:
    """A file name part: letters, digits and `._+-`; anything else becomes a hyphen."""
    return re.sub(r"-*[^\w.+-]+-*", "-", text, flags=re.ASCII)


def forget_folders(*, only_named: bool = False) -> None:
    """Begin a new command in this process. `only_named`: it runs nothing, so that no folder is made."""
    global _only_named
    _made.clear()
    _only_named = only_named


def claim_folder(folder: Path, key: str) -> None:
    """Make the folder that `key`, hydra.run.dir or hydra.sweep.dir, names for a new run or sweep.

    Raises: UserError if it can't be made, or holds results: a new run would be mixed up with them.
    """
    if folder in _made:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{key}={folder}: can't be made ({error.strerror}): name another folder") from error
    names = {path.name for path in folder.iterdir()}
    held = f"{key}={folder}: holds {{}} already: name another folder, or resume that one with {{}}={folder}"
    if PLAN in names or any(folder.glob("*/.hydra")):
        raise UserError(held.format("a sweep", "resume_sweep"))
    if names & {".hydra", "checkpoints", RESULT, "train.log"}:
        raise UserError(held.format("a run", "ckpt"))
    if not names:
        _made.add(folder)


@contextmanager
def lock_run(folder: Path, what: str = "run") -> Iterator[None]:
    """Hold the lock of the folder: one process at a time runs the run, or sweep, in it. Raises: UserError."""
    lock = FileLock(folder / _LOCK, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder}: this {what} is still running: wait for its end, or stop it with Ctrl-C") from None
    except (OSError, NotImplementedError):  # a file system without locks
        pass
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes it with the release
            (folder / _LOCK).unlink()
        lock.release()


def remove_refused(folder: Path) -> None:
    """Remove what a refused run or sweep has left: its folder, if this process made it and nothing was trained; of a
    run that was to be resumed, the last .hydra/resume_<n>, if nothing was written since.
    """
    fresh = {".hydra", "train.log", PLAN, _LOCK, "study.db"}
    if folder in _made and {path.name for path in folder.iterdir()} <= fresh:
        shutil.rmtree(folder)
    elif (record := hydra_folders(folder)[-1]).name != ".hydra":
        began = (record / "overrides.yaml").stat().st_mtime_ns  # the last that Hydra writes
        files = (path for path in folder.rglob("*") if path.name != "train.log")  # train.log records the refusal
        if not any(path.stat().st_mtime_ns > began for path in files):
            shutil.rmtree(record)


# ---- Earlier runs and their checkpoints
def typed_overrides(folder: Path, *, last: bool = False) -> list[str]:
    """The overrides with which a run was started and, with ckpt=, resumed; `last`: those of the last time only."""
    files = [record / "overrides.yaml" for record in hydra_folders(folder)][-last:]
    typed = [(file, str(each)) for file in files if file.exists() for each in to_plain(OmegaConf.load(file), raw=True)]
    return [each for file, each in typed if not each.startswith("ckpt=") or (file == files[0] and not last)]


def hydra_folders(folder: Path) -> list[Path]:
    """Where Hydra saved how the run in `folder` was started (.hydra) and resumed (.hydra/resume_<n>)."""
    # A kill or a full disk may have cut the last one short, of which overrides.yaml is written last.
    files = (folder / ".hydra").glob("resume_*/overrides.yaml")
    records = [file.parent for file in files if file.stat().st_size]
    return [folder / ".hydra", *sorted(records, key=lambda path: int(path.name.removeprefix("resume_")))]


def next_hydra_folder(folder: Path) -> Path:
    """The .hydra/resume_<n> for resuming the run in `folder` now. Raises: UserError if it is still running."""
    with lock_run(folder):
        return folder / ".hydra" / f"resume_{len(hydra_folders(folder))}"


def typed_checkpoint(arguments: Sequence[str]) -> str | None:
    """The path that `ckpt=` is given in a command line; None where it is not typed or null."""
    return None if (value := typed_path(arguments, "ckpt=")) == "null" else value


def continued_run(arguments: Sequence[str]) -> tuple[list[str], Path | None]:
    """The arguments with the path after `ckpt=`, whatever characters it has, as Hydra's grammar takes it; and the
    folder of the run that it names, None where it names none.

    Raises: UserError for a sweep, and for a key beside it that can't be changed in a run that has begun.
    """
    if not (value := typed_checkpoint(arguments)):
        return list(arguments), None
    typed = [f"ckpt={quoted(value)}" if argument.startswith("ckpt=") else argument for argument in arguments]
    path = Path(value).expanduser()
    folder = run_of(path)
    if folder is not None and not os.path.exists(path):
        raise UserError(f"ckpt={value}: there is no such file: name a run folder, or a .ckpt file of one")
    if folder is None and os.path.isfile(path / PLAN):
        raise UserError(f"ckpt={value}: is a sweep, not a run: use resume_sweep={value}")
    for argument in arguments if folder is not None else ():
        key, _, choice = argument.lstrip("+~").partition("=")
        if key.split(".")[0] in _FIXED and key not in _PLACES:
            hint = "leave it out, or start a new run"
            raise UserError(f"{argument}: can't be changed in a run that is resumed: {hint}")
        if key in {"trainer", "callbacks", "logger"} and choice not in ("", "null"):
            hint = f"set single keys of it, {key}.<key>=..."
            raise UserError(f"{argument}: a run that is resumed has its {key} already: {hint}")
    return typed, folder


def run_of(path: Path) -> Path | None:
    """The run folder that is `path` or holds the checkpoint file `path`; None where it belongs to no run."""
    folder = path if os.path.isdir(path) else path.parent.parent  # False too for what can't be read, unlike Path.is_dir
    return folder.resolve() if os.path.isfile(folder / ".hydra" / "config.yaml") else None


def read_result(folder: Path) -> dict[str, Any]:
    """What result.json holds; empty without one, and where the run has gone on since: it still runs, or was killed."""
    return {} if (folder / PART).exists() else read_json(folder / RESULT)


def read_json(file: Path) -> dict[str, Any]:
    """A mapping in a file; empty without one, and where it was cut short, as by a power cut."""
    with suppress(FileNotFoundError, ValueError):
        return dict(json.loads(file.read_text(encoding="utf-8")))
    return {}


def checkpoint_file(place: str | Path) -> Path:
    """The .ckpt file at `place`; of a run folder, or of its checkpoints folder, best.ckpt, else last.ckpt.

    Raises: UserError if there is none.
    """
    path, hint = Path(place).expanduser(), "name a run folder, or a .ckpt file of one"
    if not os.path.exists(path):
        raise UserError(f"{place}: there is no such file or folder: {hint}")
    names = ["checkpoints/best.ckpt", "best.ckpt", "checkpoints/last.ckpt", "last.ckpt"]
    files = [path / name for name in names if os.path.isfile(path / name)] if os.path.isdir(path) else [path]
    if not files:
        raise UserError(f"{place}: there is no best.ckpt or last.ckpt in it: {hint}")
    return files[0]


# Resolvers are global: the prefix keeps those of the program around from being overwritten.
OmegaConf.register_new_resolver("alexnet_lit.home", home, replace=True)
OmegaConf.register_new_resolver("alexnet_lit.mode", lambda direction: str(direction)[:3], replace=True)  # min, max
OmegaConf.register_new_resolver("alexnet_lit.job_folder", job_folder, replace=True)
OmegaConf.register_new_resolver("alexnet_lit.sweep_folder", sweep_folder, replace=True)
# Cached, as it makes a folder: one for each config.
OmegaConf.register_new_resolver("alexnet_lit.run_folder", run_folder, replace=True, use_cache=True)
