"""From the files in conf/ and a person's overrides to one config. Imports no torch."""

import difflib
import functools
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alexnet_lit.errors import Mistake
from alexnet_lit.mistakes import explain, explain_override

PACKAGE = Path(__file__).resolve().parent
# In a checkout conf/ lies beside the package; a wheel carries it inside.
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
_claimed: dict[tuple[str, str, str], str] = {}
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
            raise Mistake(
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


def claim(folder: Path, key: str) -> None:
    """Make a folder that a person has named by `key`: as long as there is nothing in it, it is new.

    Raises: Mistake if it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Mistake(f"{key}={folder}: can't be made ({error.strerror}): name another folder") from error
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


def job_folder(number: int, overrides: str) -> str:
    """<number>_<overrides>, of characters that every shell, file system and Hydra's grammar take, at most 100 long.

    The number tells jobs apart whose overrides are cut off to the same.
    """
    typed = re.sub(r"-(True|False)(?=_|$)", lambda found: found[0].lower(), overrides)  # as Python writes them
    return safe(f"{number}_{typed}")[:100].rstrip("-_.+")


def safe(text: str) -> str:
    """A file name part: letters, digits and `._+-`; anything else becomes a hyphen."""
    return re.sub(r"-*[^\w.+-]+-*", "-", text, flags=re.ASCII)


def compose(*overrides: str) -> DictConfig:
    """The config as train.py would see it: `compose("model.lrn=true", "data=sample")`.

    Raises: Mistake for an override that names no key or choice.
    """
    try:
        return _compose(overrides)
    except OverrideParseException as error:
        raise explain_override(error.override) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error, suggest) from error


def _compose(overrides: Sequence[str] = ()) -> DictConfig:
    # Hydra keeps its state in one global place; a run that is under way has to find its own again.
    state = GlobalHydra.instance()
    running = state.hydra
    state.clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra_compose("train", overrides=list(overrides))
    finally:
        state.hydra = running


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
    siblings = [name for name in names if group and name.startswith(f"{group}.")]
    near = [name for name in names if name.split(".")[-1] == last]
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


def _close(word: str, known: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(word, known, n=2, cutoff=0.65)


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


def continued_overrides(folder: Path) -> list[str]:
    """What was typed beside ckpt= when the run in `folder` was last continued."""
    resumes = {int(path.name.removeprefix("resume_")): path for path in (folder / ".hydra").glob("resume_*")}
    file = resumes[max(resumes)] / "overrides.yaml" if resumes else None
    typed = [str(item) for item in as_typed(OmegaConf.load(file))] if file and file.exists() else []
    return [item for item in typed if not item.startswith("ckpt=")]


def as_typed(config: Any) -> Any:
    """A config node as plain dicts and lists, interpolations as they are written."""
    return OmegaConf.to_container(config, resolve=False)


def plain(config: Any) -> Any:
    """A config node as plain dicts, lists, strings and numbers, interpolations resolved."""
    return OmegaConf.to_container(config, resolve=True)


OmegaConf.register_new_resolver("home", home, replace=True)
OmegaConf.register_new_resolver("mode", lambda direction: str(direction)[:3], replace=True)  # Lightning's max and min
OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
OmegaConf.register_new_resolver("sweep_folder", sweep_folder, replace=True)
