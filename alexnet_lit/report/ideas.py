"""The ideas of the paper that can be switched, what it says each is worth, and which experiments have them.

Krizhevsky, Sutskever and Hinton 2012, "ImageNet Classification with Deep Convolutional Neural Networks".
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple


class Idea(NamedTuple):
    """`name` is what words.toml knows it by; what the paper says of it is there too.

    choices: the two of `idea=` to compare, and which of them has it. key: the key that switches it alone. states: what
    a value of the key says, None where it is neither. two_valued: whether the key has no other values, so that where
    nothing is typed it is the opposite of what is. points: what it is worth in the paper, percentage points of top-1
    accuracy on ImageNet; None where it does not say.
    """

    name: str
    section: str
    choices: dict[str, bool]
    key: str
    states: Callable[[str], bool | None]
    two_valued: bool = False
    points: float | None = None


def _one_of(on: str, off: str) -> Callable[[str], bool | None]:
    return {on: True, off: False}.get


def _number(on: Callable[[float], bool]) -> Callable[[str], bool | None]:
    def state(value: str) -> bool | None:
        try:
            return on(float(value))
        except ValueError:
            return None

    return state


def _brings(choice: str) -> dict[str, bool]:
    return {choice: True, "base": False}


def _takes(choice: str) -> dict[str, bool]:
    return {"base": True, choice: False}


_switch = _one_of("true", "false")
_positive = _number(lambda value: value > 0)
IDEAS = (
    Idea("relu", "3.1", _takes("tanh"), "model.activation", _one_of("relu", "tanh")),
    Idea("not_sigmoid", "3.1", _takes("sigmoid"), "model.activation", _one_of("relu", "sigmoid")),
    Idea("lrn", "3.3", _brings("lrn"), "model.lrn", _switch, two_valued=True, points=1.4),
    Idea("overlap", "3.4", _takes("no_overlap"), "model.overlapping_pool", _switch, two_valued=True, points=0.4),
    Idea("towers", "3.5", {"towers": True, "half": False}, "model.design", _one_of("paper", "half"), points=1.7),
    Idea("mirror", "4.1", _takes("no_mirror"), "data.augment.mirror", _switch, two_valued=True),
    Idea("crop", "4.1", _brings("crop"), "data.augment.crop", _number(lambda share: share < 1)),
    Idea("color", "4.1", _brings("color"), "data.augment.color", _positive, points=1.0),
    Idea("dropout", "4.2", _takes("no_dropout"), "model.dropout", _positive),
    Idea("momentum", "5", _takes("no_momentum"), "optimizer.momentum", _positive),
    Idea("weight_decay", "5", _takes("no_weight_decay"), "optimizer.weight_decay", _positive),
    Idea("alexnet", "-", _takes("lenet"), "model", _one_of("alexnet", "lenet")),
)


def has(idea: Idea, one: Mapping[str, str], other: Mapping[str, str]) -> bool | None:
    """Whether the experiment with the overrides `one` has the idea, and `other` hasn't: True; the other way round:
    False. None if they don't differ in the idea, or in something else too.
    """
    differing = {key for key in {*one, *other} if one.get(key) != other.get(key)}
    if differing == {"idea"}:
        mine, its = (idea.choices.get(each.get("idea", "base")) for each in (one, other))
    elif differing == {idea.key}:
        mine, its = (idea.states(each[idea.key]) if idea.key in each else None for each in (one, other))
        if idea.two_valued:
            mine = not its if idea.key not in one and its is not None else mine
            its = not mine if idea.key not in other and mine is not None else its
    else:
        return None
    return mine if mine is not None and its is not None and mine != its else None
