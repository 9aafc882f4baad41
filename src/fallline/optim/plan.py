"""What a shell is put around: which rules advance which parameters, with which numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from ..specs import Rule
from ..types import Tree

Group: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """Parameters that one rule advances together, and its numbers at this step.

    Args:
        rule, h: the rule and its numbers by path.
        params: the parameters by name.
        uphill: the names of those whose objective is maximized.
        fused: whether the step may be taken in one pass.
    """

    rule: Rule
    h: Mapping[str, Any]
    params: Tree
    uphill: frozenset[str]
    fused: bool = True


class Plan(Protocol):
    """What the shell asks of the thing that it is put around."""

    def check(self, group: Group) -> None:
        """Refuse a parameter group with a number outside of its domain."""

    def parts(self, groups: list[Group], named: list[Tree]) -> list[Part]:
        """What is advanced together, by which rule."""
