"""What torch's optimizers by torch's names have in common: each group's numbers make a rule of its own.

``foreach``, ``capturable`` and ``differentiable`` choose among torch's implementations of the same numbers. They are
accepted and have no effect where they are ``None`` or ``False``, and are refused where ``True``. ``fused=False`` keeps
a group from being stepped in one pass; without it, one pass is taken wherever it can be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import BadValue
from ..rules import add_decay, identity, numbers, shrink
from ..specs import Domain, Rule
from ..types import Tree
from .plan import Group, Part, plain_number

IMPLEMENTATIONS = ("foreach", "capturable", "differentiable")


@dataclass(frozen=True)
class Form:
    """The plan of an optimizer of torch's: each group has a rule of its own.

    Args:
        name: the optimizer's name, for messages.
        rule: from a parameter group to its rule.
        domains: what the numbers of a group may be.
    """

    name: str
    rule: Callable[[Group], Rule]
    domains: Mapping[str, Domain]

    @property
    def kind(self) -> str:
        """The optimizer's name."""
        return self.name

    def check(self, group: Group) -> None:
        """Refuse a number outside of its domain, and an implementation that is not there."""
        for key, domain in self.domains.items():
            if key == "betas":
                self._check_pair(group[key], domain)
            else:
                domain.check(self.name, key, plain_number(group[key]))
        for key in IMPLEMENTATIONS:
            if group.get(key):
                raise BadValue(
                    f"{self.name}({key}=True) is not supported here: leave {key} out, the numbers are the same"
                )
        self.rule(plain_group(group))

    def _check_pair(self, betas: Any, domain: Domain) -> None:
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise BadValue(
                f"{self.name}(betas={betas!r}): betas is a pair of numbers, as in betas=(0.9, 0.999)"
            )
        for i, beta in enumerate(betas):
            if not isinstance(plain_number(beta), (int, float)):
                raise BadValue(
                    f"{self.name}(betas={betas!r}): betas[{i}] is {domain.meaning}, a number {domain}"
                )
            domain.check(self.name, f"betas[{i}]", plain_number(beta))

    def parts(self, groups: list[Group], named: list[Tree]) -> list[Part]:
        """One part for each group."""
        found = []
        for group, params in zip(groups, named, strict=True):
            rule = self.rule(plain_group(group))
            uphill = frozenset(params if group["maximize"] else ())
            found.append(Part(rule, numbers(rule), params, uphill, group.get("fused") is not False))
        return found


def plain_group(group: Group) -> Group:
    """A group with floats where torch allows tensors."""
    plain = {key: plain_number(value) for key, value in group.items() if key != "params"}
    if "betas" in plain:
        plain["betas"] = tuple(plain_number(beta) for beta in plain["betas"])
    return plain


def decayed(group: Group) -> Rule:
    """The first place of a chain: what stands there may change in training, where the others stand may not."""
    return add_decay(group["weight_decay"]) if group["weight_decay"] else identity()


def decayed_within(group: Group) -> Rule:
    """Decay through the gradient, unless the group says that it is decoupled."""
    return identity() if group["decoupled_weight_decay"] else decayed(group)


def decayed_beside(group: Group) -> Rule:
    """Decay beside the step, where the group says that it is decoupled; the last place of a chain."""
    decay = group["weight_decay"] if group["decoupled_weight_decay"] else 0.0
    return shrink(group["lr"], decay) if decay else identity()
