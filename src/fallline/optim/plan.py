"""What a shell is put around: which rules advance which parameters, with which numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from .. import rules
from ..specs import Rule
from ..types import Tree

Group: TypeAlias = dict[str, Any]

TREE = "__tree__"
"""Where a parameter group holds what belongs to all parameters together: whose state it is, the number of steps, and
what the rule keeps for the tree. All groups hold the same. It is not in ``state``, as those who read that
(``torch.distributed.checkpoint``) take every key there for a parameter."""


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
    """What the shell asks of the thing that it is put around.

    ``kind`` is the rule without its numbers: a state dict says whose it is by it.
    """

    @property
    def kind(self) -> str: ...

    def check(self, group: Group) -> None:
        """Refuse a parameter group with a number outside of its domain."""

    def parts(self, groups: list[Group], named: list[Tree]) -> list[Part]:
        """What is advanced together, by which rule."""


def named(groups: list[Group]) -> list[Tree]:
    """The parameters of each group by name; where they were given without names, by number."""
    numbers = itertools.count()
    names = [group.get("param_names") or [str(next(numbers)) for _ in group["params"]] for group in groups]
    if len({name for mine in names for name in mine}) < sum(len(mine) for mine in names):
        names = [[f"group {i}: {name}" for name in mine] for i, mine in enumerate(names)]
    return [dict(zip(mine, group["params"], strict=True)) for mine, group in zip(names, groups, strict=True)]


def explained(parts: Iterable[Part], known: Mapping[str, rules.Fact]) -> str:
    """A table of the parameters of all parts, and the rules that they meet with the numbers of this step.

    Args:
        parts: what is advanced together.
        known: what is known of a parameter by its name, beside its shape.
    """
    rows = []
    for part in parts:
        facts = tuple(known.get(fact.name, fact) for fact in rules.facts(part.params))
        for fact in facts:
            h = {
                k: v.values[fact.name] if isinstance(v, rules.PerParameter) else v for k, v in part.h.items()
            }
            rows.append((fact, rules.met(part.rule.replace(**h), facts)[fact.name]))
    return rules.table(rows)


def plain_number(value: Any) -> Any:
    """A number of a parameter group as a float where it is a tensor (torch allows a learning rate to be one)."""
    return value.item() if isinstance(value, Tensor) and value.numel() == 1 else value


def real(t: Tensor) -> Tensor:
    """Complex numbers as pairs of real ones in the same memory; real numbers as they are."""
    return torch.view_as_real(t.resolve_conj()) if t.is_complex() else t


def wide(t: Tensor) -> Tensor:
    """What a rule sees: numbers of 16 bits as float32, so that its moments keep what such numbers would round off."""
    return t.float() if t.dtype in (torch.bfloat16, torch.float16) else real(t)
