"""From a config to objects. What a person got wrong comes out as a UserError that names the key."""

import functools
import inspect
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra.utils
import torch
from hydra.errors import HydraException, InstantiationException
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from alexnet_lit.config import explain_argument, known, plain, show, suggest, wanted
from alexnet_lit.data import ImageData
from alexnet_lit.errors import UserError
from alexnet_lit.length import run_length
from alexnet_lit.lit import Classifier
from alexnet_lit.optim import Schedule

_ANY_TYPE = ConfigDict(arbitrary_types_allowed=True)
_REFUSALS = (ValueError, TypeError, ImportError, MisconfigurationException, HydraException, OmegaConfBaseException)


def instantiate(
    config: DictConfig, path: str, *, target: Any = None, types: Mapping[str, Any] | None = None, **more: Any
) -> Any:
    """The object that the config node at `path` describes by `_target_`, with `more` arguments beside the node's.

    `target` stands in where the node needs no `_target_`, as its class is always the same. types: of arguments of
    which the target's own annotations say too little.
    Raises: UserError for a key that the target does not take or the run sets itself, a value of the wrong type, or one
    that the target refuses.
    """
    node = OmegaConf.select(config, path)
    try:
        if not isinstance(node, DictConfig) or (target is None and "_target_" not in node):
            raise UserError(f"{path}={show(node)}: has no _target_ that names a class: use one of the group's files")
        target = target or hydra.utils.get_object(node["_target_"])
        if lacking := OmegaConf.missing_keys(node):
            key = min(lacking)
            raise UserError(f"{key}: has to be given: add {key}=...")
        arguments = {key: value for key, value in plain(node).items() if not key.startswith("_")}
        if taken := sorted(arguments.keys() & more):
            way_out = f"use the group, {taken[0]}=..." if taken[0] in known() else "leave it out"
            raise UserError(f"{path}.{taken[0]}={show(arguments[taken[0]])}: the run sets it itself: {way_out}")
        check_arguments(target, arguments, path, types or {})
        if "_target_" not in node:
            return target(**arguments, **more)
        # Nested nodes are built by Hydra; the object itself here, so that `more` may hold what no config can.
        factory = hydra.utils.instantiate(node, _partial_=True, _convert_="all")
        return functools.partial(factory, **more) if node.get("_partial_") else factory(**more)
    except UserError:
        raise
    except InstantiationException as error:
        where = re.search(r"full_key: (\S+)", str(error))
        raise _mistake(error.__cause__ or error, where[1] if where else path) from error
    except Exception as error:
        raise _mistake(error, path) from error


def _mistake(error: BaseException, path: str) -> BaseException:
    """What a constructor refused as a UserError; anything else it raised is no person's doing and stays as it is."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, ValidationError):
        return explain_argument(error, path)
    if isinstance(error, _REFUSALS):
        return UserError(f"{path}: {' '.join(str(error).split())}")
    return error


def check_arguments(target: Any, arguments: dict[str, Any], path: str, types: Mapping[str, Any]) -> None:
    """Compare keys and values with the signature of any class, our own or a library's, before it is called. `types`
    go before its annotations. Raises: UserError.
    """
    parameters = inspect.signature(target).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    hints = {**_hints(target), **types}
    for key, value in arguments.items():
        if key not in parameters:
            if takes_any:
                continue  # a base class checks the rest
            raise UserError(f"{path}.{key}: there is no such key: {suggest(f'{path}.{key}')}")
        nested = isinstance(value, dict) and "_target_" in value
        if nested or (isinstance(value, dict | list) and key not in types):
            continue  # nested objects are checked when they are built, and the library knows its own lists
        try:
            TypeAdapter(hints.get(key, Any), config=_ANY_TYPE).validate_python(value, strict=True)
        except ValidationError as error:
            raise UserError(f"{path}.{key}={show(value)}: {wanted(error)}") from error
        except (PydanticSchemaGenerationError, PydanticUserError):
            continue  # a type that says nothing about plain values


def _hints(target: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    except (NameError, TypeError):
        return {}  # annotations that only a type checker can resolve


def check_root(config: DictConfig) -> None:
    """Refuse what no constructor sees: a key at the top of the config that nothing reads, and wrong values there."""
    for path, node in (("", config), ("paths.", config.paths)):
        for key in map(str, node):
            if key not in OmegaConf.select(known(), path[:-1], default=known()):
                raise UserError(f"{path}{key}: there is no such key: {suggest(f'{path}{key}')}")
    if not isinstance(config.seed, int) or isinstance(config.seed, bool) or not 0 <= config.seed < 2**32:
        raise UserError(f"seed={show(config.seed)}: should be a whole number from 0 to {2**32 - 1}")
    smoothing = config.get("label_smoothing", 0.0)
    if not isinstance(smoothing, float | int) or isinstance(smoothing, bool) or not 0 <= smoothing < 1:
        raise UserError(f"label_smoothing={show(smoothing)}: should be a number from 0 to less than 1: 0.1 is usual")


def infer_model_dims(config: DictConfig, data: ImageData) -> DictConfig:
    """The same config with what it leaves to the data filled in: data.found, model.num_classes, model.in_channels."""
    config = config.copy()
    if data.found is not None:
        config.data.found = data.found._asdict()
    there = {"num_classes": len(data.classes), "in_channels": data.channels}
    for key in _left_open(config):
        config.model[key] = there[key]
    return config


def with_model_dims(config: DictConfig) -> DictConfig:
    """As `follow`, for those who need no data: looks for them only where the net leaves something to them."""
    return infer_model_dims(config, instantiate(config, "data")) if _left_open(config) else config


def _left_open(config: DictConfig) -> list[str]:
    """What of the net follows the data."""
    model = OmegaConf.select(config, "model")
    keys = ("num_classes", "in_channels") if isinstance(model, DictConfig) else ()
    return [key for key in keys if key in model and model[key] is None]


def build_net(config: DictConfig) -> nn.Module:
    """The net alone: images (B, C, S, S) -> logits (B, classes). Reads no data."""
    net: nn.Module = instantiate(with_model_dims(config), "model")
    return net


def without_weights(config: DictConfig) -> DictConfig:
    """The same config, but a net that draws its weights: for those who bring others, or need none."""
    config = config.copy()
    if OmegaConf.select(config, "model.weights") is not None:
        config.model.weights = None
    return config


def build(config: DictConfig) -> tuple[Classifier, ImageData]:
    """The module and its data. Nothing is read before `data.prepare_data()` or `data.setup()`.

    The net's weights are drawn from torch's global generator; where model.weights names some, these take their place,
    unless config.ckpt brings the weights.
    """
    return assemble(config, fresh=config.ckpt is None)


def assemble(config: DictConfig, *, fresh: bool) -> tuple[Classifier, ImageData]:
    """As `build`. fresh: no checkpoint is to bring the weights, so model.weights counts; the config keeps it."""
    data = instantiate(config, "data")
    config = infer_model_dims(config, data)
    _check_fit(config, data)
    net = build_net(config if fresh else without_weights(config))
    optimizer = instantiate(config, "optimizer")
    schedule = _schedule(config, data)
    module = Classifier(
        net=net,
        pixels=data.pixels,
        views=data.views,
        classes=data.classes,
        channels=data.channels,
        optimizer=optimizer,
        schedule=schedule,
        label_smoothing=config.get("label_smoothing", 0.0),  # runs of before there was such a key had none
        validate=config.data.validate,
        seed=config.seed,
        config=plain(config),
    )
    _try_out(module)
    return module, data


def _check_fit(config: DictConfig, data: ImageData) -> None:
    """Refuse a net that does not take the data's images or name its classes."""
    for key, there, noun in (("num_classes", len(data.classes), "classes"), ("in_channels", data.channels, "channel")):
        if key in config.model and config.model[key] != there:
            raise UserError(
                f"model.{key}={show(config.model[key])}: the data has {there} {noun}: use model.{key}={there}"
            )
    size = config.data.image_size
    if "image_size" in config.model and config.model.image_size != size:
        raise UserError(
            f"model.image_size={show(config.model.image_size)}: the data is enlarged to data.image_size={size}: "
            "set data.image_size alone, which the net follows"
        )


def _schedule(config: DictConfig, data: ImageData) -> Schedule:
    settings = plain(config.scheduler)
    interval, monitor = settings.pop("interval", "epoch"), settings.pop("monitor", None)
    if interval not in ("step", "epoch"):
        raise UserError(f"scheduler.interval={show(interval)}: should be step or epoch")
    if monitor is not None:
        check_measured(monitor, "scheduler.monitor", config, data)
    lengths = dict(zip(("run_steps", "run_epochs"), run_length(config.trainer, data), strict=True))
    settings = {key: lengths.get(value, value) if isinstance(value, str) else value for key, value in settings.items()}
    factory = instantiate(OmegaConf.create({"scheduler": settings}), "scheduler")
    return Schedule(factory, interval=interval, monitor=monitor)


def check_measured(monitor: Any, path: str, config: DictConfig, data: ImageData) -> None:
    """Refuse to monitor what the run does not measure. Raises: UserError that names what it does."""
    validates = data.sizes[data.validate] and config.trainer.limit_val_batches != 0
    stages = [data.validate, "train"] if validates else ["train"]
    measured = [f"{stage}/{name}" for stage in stages for name in ("loss", "acc")]
    if monitor not in measured:
        raise UserError(f"{path}={show(monitor)}: the run does not measure it: use {' or '.join(measured)}")


def _try_out(module: Classifier) -> None:
    """Call the factories for once, so that what they refuse is known before any data is read."""
    path = "optimizer"
    try:
        # One parameter stands for all: optimizers look at their settings, not at the weights, when they are made.
        optimizer = module.optimizer([nn.Parameter(torch.zeros(1))])
        path = "scheduler"
        _check_monitor(module.schedule, module.schedule.factory(optimizer))
    except Exception as error:
        raise _mistake(error, path) from error


def _check_monitor(schedule: Schedule, scheduler: LRScheduler) -> None:
    """Refuse a schedule that lacks the score it looks at, or has one that it can't look at."""
    looks = isinstance(scheduler, ReduceLROnPlateau)
    if looks != (schedule.monitor is not None):
        says = "looks at a score: use val/loss or train/loss" if looks else "looks at no score: use null"
        raise UserError(f"scheduler.monitor={show(schedule.monitor)}: {type(scheduler).__name__} {says}")
    if looks and schedule.interval == "step":
        raise UserError("scheduler.interval=step: a score is looked at once an epoch: use scheduler.interval=epoch")


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """What is in a checkpoint, its tensors on the CPU unless `map_location` says otherwise, as torch.load takes it.

    Raises: UserError if it cannot be read or is none of ours.
    """
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
        if not {"state_dict", "hyper_parameters"} <= checkpoint.keys():
            raise ValueError("it has no state_dict and hyper_parameters")
    except Exception as error:  # torch.load has no error class of its own: pickle, zip, OS and runtime errors come out
        reason = " ".join(str(error).split())[:200]
        way_out = "name a run folder, or a .ckpt file of one"
        raise UserError(f"{path}: not a checkpoint of a run ({reason}): {way_out}") from error
    return dict(checkpoint)
