"""Each parameter to the rule for its name, shape or type: ``route``; and which that is: ``explain``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from torch import nn

from .. import specs
from ..errors import BadRule, NotFound
from ..specs import Rule
from ..types import Info, Numbers, State, Tree
from .base import EPSILON, RATE, UNIT, Behavior, Draw, Oracle, Stage, behavior, init, passes, update, view
from .compose import all_rules, chain, child_state, joined_state
from .conditions import Fact, facts, holds, is_condition, where
from .scaling import descend, scale_by_rms

Pattern: TypeAlias = "str | Callable[[str, tuple[int, ...]], bool]"


def route(parts: Mapping[Pattern, Rule], otherwise: Rule | None = None) -> Rule:
    """Give each parameter to the first rule whose pattern matches it: step[name] = parts[pattern](g)[name].

    A pattern that meets no parameter is an error, and so is a parameter that meets no pattern when there is no
    ``otherwise``: a rule that silently does nothing is the commonest mistake with parameter groups.

    Args:
        parts: rules by pattern of the name, with ``*`` and ``?`` as in file names; by a condition,
            ``fl.rules.where(ndim=2)``; or, in ``fl.optim`` alone, by a function ``(name, shape) → bool``, which no
            store can hold. A rule that acts on the whole tree (``clip_norm``) acts on its part here.
        otherwise: the rule for all parameters that no pattern matches.

    >>> from fallline import rules
    >>> route({"*.bias": rules.sgd(lr=0.1)}, otherwise=rules.adam(lr=0.01)).options["patterns"]
    ('*.bias', '*')

    Source: parameter groups as in ``torch.optim``, by name.
    """
    given: dict[Any, Rule] = dict(parts) if otherwise is None else {**parts, "*": otherwise}
    if not given:
        raise BadRule("route needs at least one pattern with its rule, got none")
    rule = Rule(
        "route", options={"patterns": tuple(given)}, children=all_rules("route", tuple(given.values()))
    )
    passes(rule, "gradient")
    return rule


def parts_of(rule: Rule, params: Tree) -> tuple[tuple[str, ...], ...]:
    """Which parameters each part of a :func:`route` gets."""
    return _matched(
        tuple(rule.options["patterns"]), tuple(Fact(n, tuple(p.shape)) for n, p in params.items())
    )


@functools.lru_cache(maxsize=64)
def _matched(patterns: tuple[Any, ...], known: tuple[Fact, ...]) -> tuple[tuple[str, ...], ...]:
    left, found = known, []
    for pattern in patterns:
        mine = {fact.name for fact in left if holds(pattern, fact)}
        if not mine:
            raise NotFound(_unmatched(pattern, [fact.name for fact in left]))
        found.append(tuple(fact.name for fact in left if fact.name in mine))
        left = tuple(fact for fact in left if fact.name not in mine)
    if left:
        raise NotFound(
            f"no pattern of route matches the parameters {[fact.name for fact in left]}: add otherwise=…"
        )
    return tuple(found)


def _unmatched(pattern: Any, left: list[str]) -> str:
    if not left:
        what = "otherwise" if pattern == "*" else f"the pattern {pattern!r}"
        return f"{what} of route is left with no parameter, as the patterns before it match all of them: take it out"
    told = f"the pattern {pattern!r} of route matches no parameter that is left; left: {left}"
    numbered = all(name.isdigit() for name in left)
    return f"{told}: these have no names, give model.named_parameters()" if numbered else told


def branches(rule: Rule, params: Tree) -> dict[str, tuple[int, ...]]:
    """Which part of each :func:`route` inside a rule each parameter goes to; equal for all where there is none."""
    if rule.kind == "route":
        return {
            name: (i, *inner)
            for i, (child, mine) in enumerate(zip(rule.children, parts_of(rule, params), strict=True))
            for name, inner in branches(child, {name: params[name] for name in mine}).items()
        }
    found: dict[str, tuple[int, ...]] = dict.fromkeys(params, ())
    for part in behavior(rule).parts(rule):
        for name, inner in branches(part, params).items():
            found[name] += inner
    return found


def check_names(rule: Rule, params: Tree) -> None:
    """Refuse a rule with a :func:`route` that does not fit the parameters."""
    if rule.kind == "route":
        for child, mine in zip(rule.children, parts_of(rule, params), strict=True):
            check_names(child, {name: params[name] for name in mine})
        return
    for part in behavior(rule).parts(rule):
        check_names(part, params)


# --- conditions, settled by a model -----------------------------------------------------------------------------


def fit(rule: Rule, model: nn.Module | Iterable[Fact], *, stored: bool = False) -> Rule:
    """The same rule for one model, each condition replaced by the names of the parameters that it holds for.

    Args:
        rule: the rule; conditions are found in ``route`` and among the options of any rule.
        model: the model, or what is known of its parameters.
        stored: whether functions among the patterns are refused, as no store can hold them.

    >>> from fallline import rules
    >>> rule = route({where(type="matrix"): rules.sgd(lr=0.1)}, otherwise=rules.adam(lr=0.01))
    >>> fit(rule, nn.Linear(3, 2)).options["patterns"]
    ("where(names=('weight',))", '*')
    """
    known = facts(dict(model.named_parameters()), model) if isinstance(model, nn.Module) else tuple(model)
    children = tuple(fit(child, known, stored=stored) for child in rule.children)
    options = {name: _settled(option, known, stored) for name, option in rule.options.items()}
    same = children == rule.children and options == dict(rule.options)
    return rule if same else replace(rule, children=children, options=options)


def _settled(option: Any, known: tuple[Fact, ...], stored: bool) -> Any:
    if isinstance(option, tuple):
        return tuple(_settled(one, known, stored) for one in option)
    if stored and callable(option):
        raise BadRule(
            f"route has the function {option!r} as a pattern, which no store can hold and no worker can be sent: name "
            "it by fl.rules.where(predicate=…), or train with fl.optim"
        )
    if not (is_condition(option) or callable(option)):
        return option
    names = [fact.name for fact in known if holds(option, fact)]
    if not names:
        raise NotFound(
            f"the condition {option!r} holds for no parameter of the model, which has {[f.name for f in known]}"
        )
    return where(names=names)


def conditional(rule: Rule) -> bool:
    """Whether a rule has conditions or functions that :func:`fit` would look at."""
    own = [
        one for option in rule.options.values() for one in (option if isinstance(option, tuple) else [option])
    ]
    return any(is_condition(one) or callable(one) for one in own) or any(map(conditional, rule.children))


# --- which rule meets which parameter -----------------------------------------------------------------------------


def explain(rule: Rule, model: nn.Module | Iterable[Fact]) -> str:
    """A table: each parameter with its shape and type, and the rules that it meets in their order, with their numbers.

    Args:
        rule: the rule.
        model: the model, or what is known of its parameters.

    >>> from fallline import rules
    >>> split = route({"bias": rules.sgd(lr=0.1)}, otherwise=rules.adam(lr=0.01, eps=0.0))
    >>> for line in explain(rules.chain(rules.clip_norm(1.0), split), nn.Linear(3, 2)).splitlines():
    ...     print(line)
    parameter  shape  type    rules
    weight     2 × 3  matrix  clip_norm(max_norm=1) → adam(lr=0.01, beta1=0.9, beta2=0.999, eps=0)
    bias       2      bias    clip_norm(max_norm=1) → sgd(lr=0.1)
    """
    known = facts(dict(model.named_parameters()), model) if isinstance(model, nn.Module) else tuple(model)
    found = met(fit(rule, known), known)
    return table([(fact, found[fact.name]) for fact in known])


def table(rows: Iterable[tuple[Fact, str]]) -> str:
    """Rows of parameters and their rules, as text."""
    cells = [("parameter", "shape", "type", "rules")]
    cells += [
        (f.name, " × ".join(map(str, f.shape)) or "one number", f.type or "—", text) for f, text in rows
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in cells
    )


Split: TypeAlias = Callable[[Rule, tuple[Fact, ...]], Iterable[Iterable[str]]]
SPLITS: dict[str, Split] = {"route": lambda rule, known: _matched(tuple(rule.options["patterns"]), known)}
"""How the kinds of rules that give each parameter to one of their children do that: the names for each child."""


def met(rule: Rule, known: tuple[Fact, ...]) -> dict[str, str]:
    """The rules that each parameter meets, in words."""
    if rule.kind in SPLITS:
        found: dict[str, str] = {}
        for child, names in zip(rule.children, SPLITS[rule.kind](rule, known), strict=True):
            mine = set(names)
            found |= met(child, tuple(fact for fact in known if fact.name in mine))
        return found
    if rule.kind == "chain":
        parts = [met(child, known) for child in rule.children if child.kind != "identity"] or [{}]
        return {fact.name: " → ".join(part.get(fact.name, "identity()") for part in parts) for fact in known}
    if len(rule.children) == 1:
        inner, around = met(rule.children[0], known), repr(replace(rule, children=()))
        return {name: f"{text}, inside {around}" for name, text in inner.items()}
    split = [part for part in behavior(rule).parts(rule) if _splits(part)]
    if len(split) == 1 and not rule.children:
        return met(split[0], known)
    return dict.fromkeys([fact.name for fact in known], repr(rule))


def _splits(rule: Rule) -> bool:
    return rule.kind in SPLITS or any(map(_splits, behavior(rule).parts(rule)))


# --- what a route does ----------------------------------------------------------------------------------------


def _part(state: State, i: int, names: Iterable[str]) -> State:
    """The state of one part of a route; a parameter that never had a gradient has none."""
    held = child_state(state, i)
    return State({name: held.params[name] for name in names if name in held.params}, held.tree)


def _route_init(rule: Rule, params: Tree, h: Numbers) -> State:
    states = [
        init(child, {n: params[n] for n in names}, specs.inside(h, i))
        for i, (child, names) in enumerate(zip(rule.children, parts_of(rule, params), strict=True))
    ]
    return joined_state(params, states)


def _route_update(
    rule: Rule, direction: Tree, state: State, params: Tree, h: Numbers, oracle: Oracle | None
) -> tuple[Tree, State, Info]:
    out, states, told = {}, [], {}
    for i, (child, names) in enumerate(zip(rule.children, parts_of(rule, params), strict=True)):
        given = {n: direction[n] for n in names if n in direction}
        own = {n: params[n] for n in names}
        stepped, after, info = update(child, given, _part(state, i, given), own, specs.inside(h, i), oracle)
        out.update(stepped)
        states.append(after)
        told.update({f"{i}.{key}": value for key, value in info.items()})
    return {n: out[n] for n in direction}, joined_state(direction, states), told


def _route_passes(rule: Rule, stage: Stage) -> Stage:
    after = {passes(child, stage) for child in rule.children}
    if "gradient" in after and len(after) > 1:
        raise BadRule(f"the parts of {rule!r} must all give a step, or none of them")
    return "done" if "done" in after else after.pop()


def _route_view(rule: Rule, params: Tree, state: State) -> Tree:
    out = dict(params)
    for i, (child, names) in enumerate(zip(rule.children, parts_of(rule, params), strict=True)):
        out.update(view(child, {n: params[n] for n in names}, _part(state, i, names)))
    return out


def _route_sample(draw: Draw) -> Rule:
    return route(
        {"weight": chain(scale_by_rms(draw(UNIT), draw(EPSILON)), descend(draw(RATE)))},
        otherwise=descend(draw(RATE)),
    )


specs.register(
    Rule, "route", Behavior(_route_init, _route_update, _route_passes, route, _route_sample, view=_route_view)
)  # fmt: skip
