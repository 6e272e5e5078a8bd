"""The ideas of the paper that can be switched, what it says each is worth, and which experiments have them.

Krizhevsky, Sutskever and Hinton 2012, "ImageNet Classification with Deep Convolutional Neural Networks".
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple


class Idea(NamedTuple):
    """`name` is what words.py knows it by; what the paper claims in words is there too.

    switch: its choice of `idea=`, which switches it on or, of what is on by default, off (`switches_on`).
    key: the key that switches it alone. states: what a value of the key says, None where it is neither on nor off.
    two_valued: whether the key has no other values, so that where nothing is typed it is the opposite of what is.
    points: what it is worth in the paper, percentage points of top-1 accuracy on ImageNet; None where it does not say.
    """

    name: str
    section: str
    switch: str
    switches_on: bool
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


_switch = _one_of("true", "false")
IDEAS = (
    Idea("relu", "3.1", "tanh", False, "model.activation", _one_of("relu", "tanh")),
    Idea("lrn", "3.3", "lrn", True, "model.lrn", _switch, two_valued=True, points=1.4),
    Idea("overlap", "3.4", "no_overlap", False, "model.overlapping_pool", _switch, two_valued=True, points=0.4),
    Idea("towers", "3.5", "towers", True, "model.design", _one_of("paper", "course"), points=1.7),
    Idea("mirror", "4.1", "no_mirror", False, "data.augment.mirror", _switch, two_valued=True),
    Idea("crop", "4.1", "crop", True, "data.augment.crop", _number(lambda share: share < 1)),
    Idea("color", "4.1", "color", True, "data.augment.color", _number(lambda noise: noise > 0), points=1.0),
    Idea("dropout", "4.2", "no_dropout", False, "model.dropout", _number(lambda share: share > 0)),
)


def has(idea: Idea, one: Mapping[str, str], other: Mapping[str, str]) -> bool | None:
    """Whether the experiment with the overrides `one` has the idea, and `other` hasn't: True; the other way round:
    False. None if they don't differ in the idea, or in something else too.
    """
    differing = {key for key in {*one, *other} if one.get(key) != other.get(key)}
    if differing == {"idea"}:
        states = {idea.switch: idea.switches_on, "base": not idea.switches_on}
        mine, its = (states.get(each.get("idea", "base")) for each in (one, other))
    elif differing == {idea.key}:
        mine, its = (idea.states(each[idea.key]) if idea.key in each else None for each in (one, other))
        if idea.two_valued:
            mine = not its if idea.key not in one and its is not None else mine
            its = not mine if idea.key not in other and mine is not None else its
    else:
        return None
    return mine if mine is not None and its is not None and mine != its else None
