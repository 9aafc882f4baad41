"""Arms: what a comparison compares, a task and a rule each, with at most one number to be tuned."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .. import rules, specs
from ..errors import BadRule, BadTask, BadValue
from ..rules.parse import parse, to_tune
from ..specs import Axis, Rule, Run
from ..tasks.base import Task


@dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    Args:
        label: its name in tables; unlike all others.
        task: the number of its task.
        rule: its rule; an axis in it is what is tuned.
        given: what else its runs ask for, as :class:`fallline.specs.Run` takes it: loss, model, data and batch. Data
            that is drawn is drawn anew for each replicate, and alike for all arms.
    """

    label: str
    task: int
    rule: Rule
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str | None:
        """The path of the number that is tuned; None where all are fixed."""
        return next(iter(specs.axes(self.rule)), None)

    @property
    def axis(self) -> Axis | None:
        """The values that are tried."""
        return next(iter(specs.axes(self.rule).values()), None)

    def settings(self) -> list[dict[str, float]]:
        """Every setting that is tried; one without numbers where nothing is tuned."""
        return [{self.path: v} for v in self.axis.values] if self.path and self.axis else [{}]

    def at(self, settings: dict[str, float]) -> Rule:
        """The rule at a setting."""
        return specs.settle(self.rule, settings)

    def grown(self, values: Sequence[float]) -> Arm:
        """The arm with more values on its axis."""
        assert self.path is not None
        assert self.axis is not None
        axis = Axis(tuple(sorted({*self.axis.values, *values})), log=self.axis.log)
        return replace(self, rule=_with_axis(self.rule, self.path, axis))

    def plain(self) -> dict[str, Any]:
        """For the store."""
        own = {"label": self.label, "task": self.task, "rule": specs.plain(self.rule)}
        return {**own, "given": specs.plain(self.given)} if self.given else own

    def run(self, setting: dict[str, float], seed: int, replicate: int, tags: Mapping[str, Any]) -> Run:
        """A run of the arm at a setting, in one replicate."""
        given = dict(self.given)
        if given.get("data"):
            given["data"] = {"draw": replicate, **given["data"]}
        return Run(self.at(setting), seed, tags=tags, **given)


def _with_axis(rule: Rule, path: str, axis: Axis) -> Rule:
    return specs.settle(rule, {path: axis})  # type: ignore[dict-item]


def check_tasks(tasks: Sequence[Task]) -> None:
    """Refuse tasks that one metric cannot score."""
    if not tasks:
        raise BadTask("a comparison needs at least one task, got none")
    for task in tasks:
        if not isinstance(task, Task):
            raise BadTask(f"a comparison takes tasks such as fl.tasks.digits(), got a {type(task).__name__}")
    metrics = {task.metric for task in tasks}
    if len(metrics) > 1:
        told = ", ".join(f"{task.name} by {task.metric.name}" for task in tasks)
        raise BadTask(f"all arms are scored by one metric, but these tasks are scored differently: {told}")
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise BadTask(f"tasks need names that tell them apart, got {names}: pass name=… to Task.supervised")


def rule_of(given: Any, points: int) -> Rule:
    """A rule from a rule, a name, a text or a function such as ``fl.rules.adam``."""
    if isinstance(given, str):
        rule = parse(given, points)
    elif isinstance(given, Rule):
        rule = given
    elif callable(given) and getattr(given, "__name__", "") in specs.kinds(Rule):
        rule = to_tune(given(), points)
    else:
        raise BadRule(f"a rule is a name, or a value such as fl.rules.adam(lr=1e-3); got {given!r}")
    rules.check_trains(rule)
    found = specs.axes(rule)
    if len(found) > 1:
        raise BadValue(
            f"{rule.kind} has {len(found)} axes ({', '.join(found)}): a comparison tunes one number of each arm; fix "
            "the others"
        )
    return rule


def arms(tasks: Sequence[Task], given: Sequence[Any], points: int) -> list[Arm]:
    """Every task with every rule, labeled by what tells them apart."""
    chosen = [rule_of(one, points) for one in given]
    if not chosen:
        raise BadValue("a comparison needs at least one rule, got none")
    names = _rule_names(chosen)
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise BadValue(f"the rule {twice} is given twice: give each arm once")
    several = len(tasks) > 1
    return [
        Arm(" / ".join([task.name] * several + [name] * (len(names) > 1 or not several)), t, rule)
        for t, task in enumerate(tasks)
        for name, rule in zip(names, chosen, strict=True)
    ]


def _rule_names(chosen: Sequence[Rule]) -> list[str]:
    """The kind where it tells rules apart, else all numbers."""
    kinds = Counter(rule.kind for rule in chosen)
    return [rule.kind if kinds[rule.kind] == 1 and rule.kind != "chain" else _text(rule) for rule in chosen]


def _text(rule: Rule) -> str:
    """A rule with what is not as usual in it: parts, numbers that are not tuned, options."""
    if rule.kind == "chain":
        return " → ".join(_text(child) for child in rule.children)
    usual = {n: p.default for n, p in inspect.signature(rules.base.behavior(rule).make).parameters.items()}
    named = dict(rule.options)
    patterns = [f"{pattern}: " for pattern in named.pop("patterns", ())] or [""] * len(rule.children)
    told = [pattern + _text(child) for pattern, child in zip(patterns, rule.children, strict=True)]
    told += [
        f"{k}={v:.6g}" if isinstance(v, (int, float)) and not isinstance(v, bool) else f"{k}={v!r}"
        for k, v in {**rule.numbers, **named}.items()
        if not isinstance(v, Axis) and usual.get(k) != v
    ]
    return f"{rule.kind}({', '.join(told)})" if told else rule.kind
