"""An optimizer around one rule, which sees all parameters of all groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from .. import rules, specs
from ..errors import BadRule
from ..rules.base import behavior
from ..specs import Rule
from ..types import Tree
from .closure import TOLD
from .loading import kind_of
from .plan import Group, Part, plain_number
from .shell import Shell


class Optimizer(Shell):
    """Train with any rule that turns a gradient into a step: w ← w + rule(∇w).

    A parameter group holds the rule's numbers, each by its own name where only one number of the rule has it
    (``group["lr"]``), and by its path where several do (``group["0.lr"]``). Torch's schedulers find ``lr`` there.
    A rule over the whole tree (``clip_norm``) acts over all groups, so its numbers must be one for all of them.

    Args:
        params: parameters, parameter groups (dicts with ``params`` and numbers), ``model.named_parameters()``, or the
            model itself. ``fl.route`` matches the names; without names, parameters are called "0", "1", …. Conditions
            on the type or the module of a parameter need the model.
        rule: the rule; its numbers may be schedules.
        maximize: whether to climb instead of descend.
        fused: ``False`` keeps the step from being taken in one pass; where it can be is said in ``note``.

    >>> import torch
    >>> from fallline import rules
    >>> model = torch.nn.Linear(2, 1)
    >>> rule = rules.chain(rules.clip_norm(1.0), rules.adam(lr=0.01))
    >>> optimizer = Optimizer(model.named_parameters(), rule)
    >>> model(torch.ones(2)).sum().backward()
    >>> optimizer.step()
    >>> optimizer.param_groups[0]["lr"], round(float(optimizer.info["norm"]), 3)
    (0.01, 1.732)
    """

    def __init__(self, params: Any, rule: Rule, *, maximize: bool = False, fused: bool | None = None) -> None:
        _check_rule(rule)
        if isinstance(params, nn.Module):
            known = rules.facts(dict(params.named_parameters()), params)
            self._known = {fact.name: fact for fact in known}
            rule, params = rules.fit(rule, known), params.named_parameters()
        keys = keys_of(rule)
        numbers = dict(specs.flatten(rule))
        given = {key: numbers[path] for key, path in keys.items()}
        super().__init__(params, {**given, "maximize": maximize}, Whole(rule, keys, fused is not False))
        rules.check_names(rule, {name: p for named in self._named() for name, p in named.items()})

    @property
    def rule(self) -> Rule:
        """The rule as it was given; the numbers in force stand in the parameter groups."""
        plan = self._plan
        assert isinstance(plan, Whole)
        return plan.rule


@dataclass(frozen=True)
class Whole:
    """The plan of one rule for all groups together.

    Args:
        rule: the rule.
        keys: the path of each number, by its key in a parameter group.
        fused: whether a step may be taken in one pass.
    """

    rule: Rule
    keys: Mapping[str, str]
    fused: bool = True

    @property
    def kind(self) -> str:
        """The rule without its numbers."""
        return kind_of(self.rule)

    def check(self, group: Group) -> None:
        """Refuse a number outside of its domain."""
        for key, path in self.keys.items():
            owner, name = _owner(self.rule, path)
            behavior(owner).domains[name].check(owner.kind, key, plain_number(group[key]))

    def parts(self, groups: list[Group], named: list[Tree]) -> list[Part]:
        """One part: all parameters."""
        for group in groups:
            self.check(group)
        h = {}
        for key, path in self.keys.items():
            values = [plain_number(group[key]) for group in groups]
            if any(value != values[0] for value in values):
                by_name = {name: v for v, mine in zip(values, named, strict=True) for name in mine}
                h[path] = rules.PerParameter(by_name)
            else:
                h[path] = values[0]
        uphill = frozenset(n for g, mine in zip(groups, named, strict=True) if g["maximize"] for n in mine)
        return [
            Part(self.rule, h, {name: p for mine in named for name, p in mine.items()}, uphill, self.fused)
        ]


def keys_of(rule: Rule) -> dict[str, str]:
    """The path of each number of a rule, by its key in a parameter group: its name, or its path if it shares that.

    >>> from fallline import rules
    >>> keys_of(rules.chain(rules.clip_norm(1.0), rules.sgd(lr=0.1)))
    {'max_norm': '0.max_norm', 'lr': '1.lr'}
    """
    paths = [path for path, _ in specs.flatten(rule)]
    shared = Counter(path.rpartition(".")[2] for path in paths)
    return {path if shared[name := path.rpartition(".")[2]] > 1 else name: path for path in paths}


def _owner(rule: Rule, path: str) -> tuple[Rule, str]:
    """The rule that has a number, and the number's name there."""
    *children, name = path.split(".")
    for i in children:
        rule = rule.children[int(i)]
    return rule, name


def _check_rule(rule: Any) -> None:
    if not isinstance(rule, Rule):
        hint = f": call it, as in {rule.__name__}()" if hasattr(rule, "__name__") else ""
        raise BadRule(f"an optimizer takes a rule such as fl.rules.adam(lr=1e-3), got {rule!r}{hint}")
    rules.check_trains(rule)
    for path, number in specs.flatten(rule):
        if isinstance(number, specs.Axis):
            raise BadRule(
                f"{path}={number!r} is an axis of a fleet: make one optimizer for each of its values"
            )
    beyond = rules.needs(rule) - TOLD
    if beyond:
        raise BadRule(
            f"{rule!r} needs {', '.join(sorted(beyond))} beside the gradient, which a torch loop does not give: train it "
            "with fl.fleet.run"
        )
