"""From a config to checked objects: net, data, module. Wrong input is a UserError that names the key."""

import functools
import inspect
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_type_hints

import hydra.utils
from hydra._internal.utils import _locate
from hydra.errors import HydraException, InstantiationException
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from alexnet_lit.config import as_override, default_config, expected_value, explain_argument, suggest, to_plain
from alexnet_lit.data import ImageData
from alexnet_lit.errors import UserError
from alexnet_lit.lit import Classifier, Stage
from alexnet_lit.optim import Schedule

# Errors by which a constructor refuses its arguments.
_LIBRARIES = (MisconfigurationException, HydraException, OmegaConfBaseException)
_REFUSALS = (ValueError, TypeError, ImportError, OSError, *_LIBRARIES)
_INVALID = (*_REFUSALS, RuntimeError, ArithmeticError, LookupError)  # torch's optimizers and schedules


def instantiate(
    config: DictConfig, path: str, kind: type = object, /, *, target: Any = None, types: Any = None, **more: Any
) -> Any:
    """The object that the config node at `path` describes by `_target_`, with `more` arguments beside the node's.

    kind: a base that its class should have. target: its class, where there is no node, or none with a `_target_`.
    types: of arguments by name, in place of the target's annotations.
    Raises: UserError for a key that the target does not take or the run sets itself, or a value that it refuses.
    """
    node = OmegaConf.select(config, path, default=target and OmegaConf.create())
    with _refusals(path):
        if not isinstance(node, DictConfig) or not isinstance(node.get("_target_", target and ""), str):
            hint = "use one of the group's files"
            raise UserError(f"{path}={as_override(node)}: has no _target_ that names a class: {hint}")
        target = _locate(node["_target_"]) if "_target_" in node else target
        if missing := OmegaConf.missing_keys(node):
            raise UserError(f"{min(missing)}: has to be given: add {min(missing)}=...")
        settings = {key: value for key, value in to_plain(node).items() if not key.startswith("_")}
        if taken := sorted(settings.keys() & more):
            hint = f"use the group, {taken[0]}=..." if taken[0] in default_config() else "leave it out"
            raise UserError(f"{path}.{taken[0]}={as_override(settings[taken[0]])}: the run sets it itself: {hint}")
        check_arguments(target, settings, path, types or {})
        if "_target_" not in node:
            return target(**settings, **more)
        # Hydra builds nested nodes; the object itself is built here, as `more` may hold what no config can.
        factory = hydra.utils.instantiate(node, _partial_=True, _convert_="all")
        built = functools.partial(factory, **more) if node.get("_partial_") else factory(**more)
        if not isinstance(built, kind):
            raise UserError(f"{path}: should be a {kind.__module__}.{kind.__name__}, not a {type(built).__name__}")
        return built


@contextmanager
def _refusals(path: str, refusals: tuple[type[Exception], ...] = _REFUSALS) -> Iterator[None]:
    """Raise a constructor's refusal of its arguments as a UserError; any other error is a bug and stays as it is."""
    try:
        yield
    except refusals as error:
        cause: BaseException = error
        if isinstance(error, InstantiationException):  # Hydra's, of a nested node
            cause, where = error.__cause__ or error, re.search(r"full_key: (\S+)", str(error))
            path = where[1] if where else path
        if isinstance(cause, ValidationError):
            raise explain_argument(cause, path) from error
        if isinstance(cause, refusals) and not isinstance(cause, UserError):
            raise UserError(f"{path}: {' '.join(str(cause).split())}") from error
        raise cause from cause.__cause__


def check_arguments(target: Any, settings: dict[str, Any], path: str, types: Mapping[str, Any]) -> None:
    """Check keys and values against the target's signature; `types` override its annotations. Raises: UserError."""
    parameters = inspect.signature(target).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    except (NameError, TypeError):  # annotations that only a type checker can resolve
        hints = {}
    for key, value in settings.items():
        if key not in parameters and not takes_any:
            raise UserError(f"{path}.{key}: there is no such key: {suggest(f'{path}.{key}')}")
        nested = isinstance(value, dict) and "_target_" in value
        if key not in parameters or nested or (isinstance(value, dict | list) and key not in types):
            continue  # checked by a base class, when it is built itself, or by the library
        try:
            adapter = TypeAdapter({**hints, **types}.get(key, Any), config=ConfigDict(arbitrary_types_allowed=True))
            adapter.validate_python(value, strict=True)
        except ValidationError as error:
            raise UserError(f"{path}.{key}={as_override(value)}: {expected_value(error)}") from error
        except (PydanticSchemaGenerationError, PydanticUserError):
            continue  # a type that says nothing about plain values


def check_root(config: DictConfig) -> None:
    """Check the keys and values at the top of the config, which no constructor sees. Raises: UserError."""
    for key in map(str, config):
        if key not in default_config() and key[0] != "_":
            raise UserError(f"{key}: there is no such key: {suggest(key)}")
    if not isinstance(config.seed, int) or isinstance(config.seed, bool) or not 0 <= config.seed < 2**32:
        raise UserError(f"seed={as_override(config.seed)}: should be a whole number from 0 to {2**32 - 1}")
    smoothing = config.get("label_smoothing", 0.0)
    if not isinstance(smoothing, float | int) or isinstance(smoothing, bool) or not 0 <= smoothing < 1:
        wants = "should be a number from 0 to less than 1: 0.1 is usual"
        raise UserError(f"label_smoothing={as_override(smoothing)}: {wants}")


def infer_model_dims(config: DictConfig, data: ImageData | None = None) -> DictConfig:
    """The config with what it leaves to the data filled in: model.num_classes, model.in_channels, data.found.

    data: the config's; None builds it where the net leaves something to it.
    """
    missing = [key for key in ("num_classes", "in_channels") if key in config.model and config.model[key] is None]
    if data is None and not missing:
        return config
    data = data or instantiate(config, "data", ImageData)
    config = config.copy()
    if data.found is not None:
        config.data.found = data.found._asdict()
    for key in missing:
        config.model[key] = len(data.classes) if key == "num_classes" else data.channels
    return config


def without_weights(config: DictConfig) -> DictConfig:
    """The config with model.weights=null: for a net whose weights come from a checkpoint, or do not matter."""
    config = config.copy()
    if config.model.get("weights") is not None:
        config.model.weights = None
    return config


def build(config: DictConfig) -> tuple[Classifier, ImageData]:
    """The module and its data. Nothing is read before `data.prepare_data()` or `data.setup()`.

    Weights are drawn from torch's global generator, or are those that model.weights names. Raises: UserError.
    """
    config, data = build_data(config)
    net = build_net(config if config.ckpt is None else without_weights(config))
    return build_module(config, net, data), data


def build_data(config: DictConfig) -> tuple[DictConfig, ImageData]:
    """The config with the net's sizes filled in, and its data. Raises: UserError for a net that does not fit them."""
    data: ImageData = instantiate(config, "data", ImageData)
    config = infer_model_dims(config, data)
    for key, value, noun in (("num_classes", len(data.classes), "classes"), ("in_channels", data.channels, "channel")):
        if key in config.model and config.model[key] != value:
            hint = f"use model.{key}={value}"
            raise UserError(f"model.{key}={as_override(config.model[key])}: the data has {value} {noun}: {hint}")
    size = config.data.image_size
    if "image_size" in config.model and config.model.image_size != size:
        reason = f"the data is enlarged to data.image_size={size}: set data.image_size alone, which the net follows"
        raise UserError(f"model.image_size={as_override(config.model.image_size)}: {reason}")
    return config, data


def build_net(config: DictConfig) -> nn.Module:
    """The net alone: images (B, C, S, S) -> logits (B, classes). Reads no data."""
    return instantiate(infer_model_dims(config), "model", nn.Module)


def build_module(config: DictConfig, net: nn.Module, data: ImageData) -> Classifier:
    """The LightningModule. Builds optimizer and schedule once to check their arguments. Raises: UserError."""
    module: Classifier = instantiate(
        config,
        "classifier",
        Classifier,
        target=Classifier,  # default for older checkpoints
        net=net,
        pixels=data.pixels,
        views=data.views,
        classes=data.classes,
        channels=data.channels,
        optimizer=instantiate(config, "optimizer"),
        schedule=_schedule(config, data),
        label_smoothing=config.get("label_smoothing", 0.0),  # older checkpoints have no such key
        validate=config.data.validate,
        seed=config.seed,
        config=to_plain(config),
    )
    with _refusals("optimizer", _INVALID):
        optimizer = module.optimizer(net.parameters())
    with _refusals("scheduler", _INVALID), warnings.catch_warnings(action="ignore"):  # no optimizer has stepped yet
        scheduler: Any = module.schedule.factory(optimizer)
        plateau, monitor = isinstance(scheduler, ReduceLROnPlateau), module.schedule.monitor
        scheduler.step(*[0.0] * plateau)
    if plateau != (monitor is not None):
        reason = "monitors a metric: use val/loss or train/loss" if plateau else "monitors no metric: use null"
        raise UserError(f"scheduler.monitor={as_override(monitor)}: {type(scheduler).__name__} {reason}")
    if plateau and module.schedule.interval == "step":
        raise UserError("scheduler.interval=step: the metric is checked once an epoch: use scheduler.interval=epoch")
    return module


def _schedule(config: DictConfig, data: ImageData) -> Schedule:
    settings = to_plain(config.scheduler)
    interval, monitor = settings.pop("interval", "epoch"), settings.pop("monitor", None)
    if interval not in ("step", "epoch"):
        raise UserError(f"scheduler.interval={as_override(interval)}: should be step or epoch")
    lengths = dict(zip(("run_steps", "run_epochs"), run_length(config.trainer, data), strict=True))
    taken = {key: lengths[value] for key, value in settings.items() if isinstance(value, str) and value in lengths}
    factory = instantiate(OmegaConf.create({"scheduler": settings | taken}), "scheduler")
    return Schedule(factory, interval=interval, monitor=monitor, lengths=taken)


def check_monitor(monitor: Any, path: str, config: DictConfig, data: ImageData) -> None:
    """Refuse a monitored score that the run does not measure. Raises: UserError that names those that it does."""
    validates = data.sizes[data.validate] and config.trainer.limit_val_batches != 0
    stages = [data.validate, "train"] if validates else ["train"]
    measured = [f"{stage}/{name}" for stage in stages for name in ("loss", "acc")]
    if monitor not in measured:
        raise UserError(f"{path}={as_override(monitor)}: the run does not measure it: use {' or '.join(measured)}")


def limited_images(data: ImageData, split: Stage, limit: float | int | None) -> int:
    """Images in the batches of a split that one of Lightning's limit_*_batches leaves."""
    return min(data.sizes[split], data.batches(split, limit) * data.batch_size)


def epoch_batches(trainer: DictConfig, data: ImageData) -> int:
    """Training batches of an epoch."""
    limit = int(trainer.fast_dev_run) or trainer.overfit_batches or trainer.limit_train_batches
    return data.batches("train", limit)


def run_length(trainer: DictConfig, data: ImageData) -> tuple[int, int]:
    """Optimizer steps and epochs of a run, at least one each, from settings alone: schedules are made before data."""
    batches = epoch_batches(trainer, data)
    if trainer.fast_dev_run:
        return batches, 1
    endless = trainer.max_epochs in (None, -1)
    epochs = 1 if endless else trainer.max_epochs
    steps = -(-batches // trainer.accumulate_grad_batches) * epochs
    if trainer.max_steps != -1:
        steps = trainer.max_steps if endless else min(steps, trainer.max_steps)
    return max(1, steps), epochs
