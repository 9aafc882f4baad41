"""Whose state a state dict is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor

from .. import rules
from ..errors import BadValue
from .plan import Group, Part


def refuse_foreign(
    given: dict[str, Any], groups: list[Group], numbers: list[str], parts: Iterable[Part]
) -> None:
    """Refuse a state that another optimizer left, before anything is changed."""
    for group in given["param_groups"]:
        missing = [key for key in numbers if key not in group]
        if missing:
            raise BadValue(
                f"the state dict is not of this optimizer: its parameter groups have no {missing}, only "
                f"{sorted(set(group) - {'params', 'param_names'})}"
            )
    needed: dict[Tensor, set[str]] = {}
    for part in parts:
        start = rules.init(part.rule, part.params, part.h).params
        needed.update({p: set(start[name]) for name, p in part.params.items()})
    for saved, p in paired(given, groups):
        held = set(given["state"].get(saved, {}))
        if held and needed[p] and not held & needed[p]:
            raise BadValue(
                f"the state dict is not of this optimizer: parameter {saved} has {sorted(held)}, "
                f"and {sorted(needed[p])} was expected"
            )


def paired(saved: dict[str, Any], groups: list[Group]) -> Iterator[tuple[Any, Tensor]]:
    """The number under which each parameter was saved, and the parameter."""
    for old, new in zip(saved["param_groups"], groups, strict=False):
        yield from zip(old["params"], new["params"], strict=False)
