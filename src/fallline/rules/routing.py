"""Each parameter to the rule for its name: ``route``."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Iterable, Mapping

from .. import specs
from ..errors import BadRule, NotFound
from ..specs import Rule
from ..types import Info, Numbers, State, Tree
from .base import EPSILON, RATE, UNIT, Behavior, Draw, Oracle, Stage, behavior, init, passes, update, view
from .compose import all_rules, chain, child_state, joined_state
from .scaling import descend, scale_by_rms


def route(parts: Mapping[str, Rule], otherwise: Rule | None = None) -> Rule:
    """Give each parameter to the first rule whose pattern matches its name: step[name] = parts[pattern](g)[name].

    A pattern that meets no parameter is an error, and so is a parameter that meets no pattern when there is no
    ``otherwise``: a rule that silently does nothing is the commonest mistake with parameter groups.

    Args:
        parts: rules by pattern, with ``*`` and ``?`` as in file names. A rule that acts on the whole tree
            (``clip_norm``) acts on its part here.
        otherwise: the rule for all parameters that no pattern matches.

    >>> from fallline import rules
    >>> route({"*.bias": rules.sgd(lr=0.1)}, otherwise=rules.adam(lr=0.01)).options["patterns"]
    ('*.bias', '*')

    Source: parameter groups as in ``torch.optim``, by name.
    """
    given = dict(parts) if otherwise is None else {**parts, "*": otherwise}
    if not given:
        raise BadRule("route needs at least one pattern with its rule, got none")
    rule = Rule(
        "route", options={"patterns": tuple(given)}, children=all_rules("route", tuple(given.values()))
    )
    passes(rule, "gradient")
    return rule


def parts_of(rule: Rule, names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Which parameters each part of a :func:`route` gets."""
    return _matched(tuple(rule.options["patterns"]), tuple(names))


@functools.lru_cache(maxsize=64)
def _matched(patterns: tuple[str, ...], names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    left, found = names, []
    for pattern in patterns:
        mine = tuple(name for name in left if fnmatch.fnmatchcase(name, pattern))
        if not mine:
            raise NotFound(
                f"the pattern {pattern!r} of route matches no parameter that is left; left: {list(left)}"
            )
        taken = set(mine)
        left = tuple(name for name in left if name not in taken)
        found.append(mine)
    if left:
        raise NotFound(f"no pattern of route matches the parameters {list(left)}: add otherwise=…")
    return tuple(found)


def branches(rule: Rule, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Which part of each :func:`route` inside a rule each parameter goes to; equal for all where there is none."""
    if rule.kind == "route":
        parts = zip(rule.children, parts_of(rule, names), strict=True)
        return {
            name: (i, *inner)
            for i, (child, mine) in enumerate(parts)
            for name, inner in branches(child, mine).items()
        }
    found: dict[str, tuple[int, ...]] = dict.fromkeys(names, ())
    for part in behavior(rule).parts(rule):
        for name, inner in branches(part, tuple(found)).items():
            found[name] += inner
    return found


def check_names(rule: Rule, names: Iterable[str]) -> None:
    """Refuse a rule with a :func:`route` that does not fit the names of the parameters."""
    if rule.kind == "route":
        for child, mine in zip(rule.children, parts_of(rule, names), strict=True):
            check_names(child, mine)
        return
    names = tuple(names)
    for part in behavior(rule).parts(rule):
        check_names(part, names)


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
