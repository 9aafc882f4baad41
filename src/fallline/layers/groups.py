"""Reflections and quarter turns of pictures, as groups."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

from ..errors import BadTask
from .declared import Action, Symmetry, commutes

Element: TypeAlias = tuple[int, bool]
"""Quarter turns, after a reflection from left to right or none."""

GROUPS: dict[str, tuple[Element, ...]] = {
    "left_right": ((0, False), (0, True)),
    "top_bottom": ((0, False), (2, True)),
    "reflections": ((0, False), (0, True), (2, False), (2, True)),
    "p4": tuple((turns, False) for turns in range(4)),
    "p4m": tuple((turns, flip) for flip in (False, True) for turns in range(4)),
}


def act(element: Element, x: Tensor) -> Tensor:
    """A picture [..., height, width], or a kernel, as an element of a group moves it."""
    turns, flip = element
    return torch.rot90(x.flip(-1) if flip else x, turns, (-2, -1))


def product(g: Element, h: Element) -> Element:
    """First h, then g."""
    return (g[0] + (-h[0] if g[1] else h[0])) % 4, g[1] != h[1]


def inverse(g: Element) -> Element:
    """What undoes it: a reflection is its own inverse."""
    return (g[0] if g[1] else -g[0] % 4), g[1]


def places(group: str, g: Element) -> list[int]:
    """For each h of a group, where g⁻¹ h stands in it."""
    elements = GROUPS[group]
    return [elements.index(product(inverse(g), h)) for h in elements]


def move(group: str, g: Element, y: Tensor) -> Tensor:
    """How an element acts on features of a group [examples, channels · elements, height, width]: (g y)[h] = g(y[g⁻¹ h])."""
    return act(g, y.unflatten(1, (-1, len(GROUPS[group])))[:, :, places(group, g)].flatten(1, 2))


def check_picture(group: str, x: Tensor) -> None:
    """Refuse what a group cannot act on."""
    if x.ndim != 4:
        raise BadTask(f"symmetries of pictures need [examples, channels, height, width], got {list(x.shape)}")
    if any(g[0] % 2 for g in GROUPS[group]) and x.shape[-1] != x.shape[-2]:
        raise BadTask(
            f"a picture that is turned by 90° must be square for the group {group}, got {list(x.shape)}: take "
            "reflections, or crop it"
        )


# --- what layers declare ------------------------------------------------------------------------------------

_WORDS = {
    "left_right": "reflection left-right",
    "top_bottom": "reflection top-bottom",
    "reflections": "both reflections",
    "p4": "rotation by 90°",
    "p4m": "rotation by 90° and reflections",
}


def _acting(on: str, group: str, g: Element) -> Action:
    """How an element acts on pictures, on features of the group, or not at all."""
    return {
        "nothing": lambda y: y,
        "pictures": lambda y: act(g, y),
        "features": lambda y: move(group, g, y),
    }[on]


def kept(group: str, inputs: str, outputs: str) -> tuple[Symmetry, ...]:
    """The symmetries of a layer that reads and gives pictures or features; it is invariant if it gives what never moves."""
    kind = "invariant" if outputs == "nothing" else "equivariant"
    return tuple(
        commutes(f"{_WORDS[group]}: {kind}", _acting(inputs, group, g), _acting(outputs, group, g))
        for g in GROUPS[group]
        if g != (0, False)
    )
