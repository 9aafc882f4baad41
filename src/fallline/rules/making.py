"""The ways to make a rule: from the arithmetic of one tensor, of all of them together, or from other rules."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeAlias

import torch
from torch import Tensor

from .. import specs
from ..errors import BadRule
from ..specs import Domain, Rule
from ..types import Info, Numbers, State, Tree
from .arguments import bound, checked, signature_of
from .base import (
    EITHER,
    Behavior,
    Draw,
    Huge,
    Oracle,
    PerParameter,
    Stage,
    init,
    passes,
    refusal,
    update,
    view,
)

P = ParamSpec("P")

# --- from the arithmetic of one tensor --------------------------------------------------------------------

Start: TypeAlias = Callable[[Tensor, Any], Tensor]
One: TypeAlias = Callable[[Tensor, Any, Tensor, Any], tuple[Tensor, dict[str, Tensor]]]


def zeros(p: Tensor, h: Any) -> Tensor:
    """A state tensor that starts at zero."""
    return torch.zeros_like(p)


def count(p: Tensor, h: Any) -> Tensor:
    """A number of steps that starts at zero; float64, so that it counts on past 2**24."""
    return torch.zeros((), dtype=torch.float64, device=p.device)


def one(p: Tensor, h: Any) -> Tensor:
    """A product that starts at one; float64, so that 1 − βᵗ keeps its digits."""
    return torch.ones((), dtype=torch.float64, device=p.device)


def per_tensor(
    *,
    takes: tuple[Stage, ...] = ("gradient",),
    gives: Stage | None = None,
    state: Mapping[str, Start] | None = None,
    elementwise: bool = True,
    discontinuous: bool = False,
    shaped: bool = False,
    **domains: Domain,
) -> Callable[[One], Callable[..., Rule]]:
    """Make a rule from ``update_one(d, s, p, h) → (d, s)``, written for one tensor.

    What it returns is brought back to the dtypes that came in: a 0-d parameter times a number in float64 is
    float64, where a larger one keeps its dtype.

    Args:
        takes: what may come in.
        gives: what goes out (``None``: the same as came in).
        state: how each state tensor ``s.name`` starts, as a function of the parameter and ``h``.
        elementwise: whether each entry is treated alone.
        discontinuous: whether a small change of the gradient can change the step by much (a sign).
        shaped: whether a step depends on the tensor's shape, so that zeros around it would change it (a mean).
        **domains: the hyperparameters ``h.name``, in order, with what they may be.
    """
    starts = dict(state or {})

    def begin(rule: Rule, params: Tree, h: Numbers) -> State:
        def of(name: str, p: Tensor) -> dict[str, Tensor]:
            mine = own(h, name)
            return {key: start(p, mine) for key, start in starts.items()}

        return State({name: of(name, p) for name, p in params.items()}, {})

    def decorate(update_one: One) -> Callable[..., Rule]:
        def step(
            rule: Rule, direction: Tree, state: State, params: Tree, h: Numbers, oracle: Oracle | None
        ) -> tuple[Tree, State, Info]:
            out, after = {}, {}
            for name, d in direction.items():
                held = state.params[name]
                new, kept = update_one(d, held_by(held), params[name], own(h, name))
                out[name] = new.to(d.dtype)
                after[name] = {key: value.to(held[key].dtype) for key, value in kept.items()}
            return out, State(after, {}), {}

        known = functools.partial(
            Behavior, begin, step, elementwise=elementwise, discontinuous=discontinuous, shaped=shaped
        )
        return _primitive(update_one, domains, takes, gives, known)

    return decorate


def own(h: Numbers, name: str) -> SimpleNamespace:
    """The hyperparameters as one parameter sees them."""
    return SimpleNamespace(**{k: v.values[name] if isinstance(v, PerParameter) else v for k, v in h.items()})


def held_by(state: Mapping[str, Tensor]) -> Any:
    """State tensors as ``s.name``."""
    return SimpleNamespace(**state)


# --- from the arithmetic of the whole tree ----------------------------------------------------------------

Whole: TypeAlias = Callable[[Tree, Any, Tree, Any], tuple[Tree, dict[str, Any], Info]]


def whole_tree(
    *,
    takes: tuple[Stage, ...] = EITHER,
    gives: Stage | None = None,
    state: Mapping[str, Callable[[Tree, Any], Tensor]] | None = None,
    each: Mapping[str, Start] | None = None,
    sums: int = 0,
    discontinuous: bool = False,
    **domains: Domain,
) -> Callable[[Whole], Callable[..., Rule]]:
    """Make a rule from ``update_all(tree, s, params, h) → (tree, s, info)``, written for all parameters together.

    The whole tree means all parameter groups of an optimizer; inside :func:`route`, it means the rule's part.

    Args:
        takes: what may come in.
        gives: what goes out (``None``: the same as came in).
        state: how each state tensor ``s.name`` of the whole tree starts, as a function of the parameters and ``h``.
        each: how each state tensor of a parameter starts; these are trees, ``s.name[parameter]``, too.
        sums: how many sums (or norms) it takes over all entries, where beside them it treats each entry alone:
            cutting a tensor in two then changes nothing, and an optimizer can take the step in one pass.
        discontinuous: whether a small change of the gradient can change the step by much.
        **domains: the hyperparameters ``h.name``, in order, with what they may be.
    """
    starts, own_starts = dict(state or {}), dict(each or {})

    def begin(rule: Rule, params: Tree, h: Numbers) -> State:
        mine = shared(rule, h, params)
        return State(
            {name: {key: start(p, mine) for key, start in own_starts.items()} for name, p in params.items()},
            {key: start(params, mine) for key, start in starts.items()},
        )

    def decorate(update_all: Whole) -> Callable[..., Rule]:
        def step(
            rule: Rule, direction: Tree, state: State, params: Tree, h: Numbers, oracle: Oracle | None
        ) -> tuple[Tree, State, Info]:
            trees = {key: {name: state.params[name][key] for name in direction} for key in own_starts}
            s = SimpleNamespace(**state.tree, **trees)
            new, kept, info = update_all(direction, s, params, shared(rule, h, params))
            out = {name: new[name].to(d.dtype) for name, d in direction.items()}
            own_after = {
                name: {key: kept[key][name].to(trees[key][name].dtype) for key in trees} for name in direction
            }
            after = {key: kept[key].to(value.dtype) for key, value in state.tree.items() if key in starts}
            return out, State(own_after, after), info

        known = functools.partial(
            Behavior, begin, step, sums=sums, elementwise=False, discontinuous=discontinuous
        )
        return _primitive(update_all, domains, takes, gives, known)

    return decorate


def shared(rule: Rule, h: Numbers, params: Tree) -> SimpleNamespace:
    """The hyperparameters of a rule that acts on all these parameters at once."""
    found = {}
    for name, value in h.items():
        if isinstance(value, PerParameter):
            distinct = {value.values[key] for key in params}
            if len(distinct) > 1:
                raise BadRule(
                    f"{rule.kind} acts on all parameters together, so {name} must be one number for all "
                    f"parameter groups, got {sorted(distinct)}: use fl.route to treat groups apart"
                )
            value = distinct.pop() if distinct else next(iter(value.values.values()))
        found[name] = value
    return SimpleNamespace(**found)


def _primitive(
    function: Callable[..., Any],
    domains: Mapping[str, Domain],
    takes: tuple[Stage, ...],
    gives: Stage | None,
    known: Callable[..., Behavior],
) -> Callable[..., Rule]:
    kind = function.__name__
    signature = signature_of(*domains)

    @functools.wraps(function, assigned=("__module__", "__name__", "__qualname__", "__doc__"), updated=())
    def make(*args: Any, **given: Any) -> Rule:
        return Rule(kind, checked(kind, domains, bound(kind, signature, args, given)))

    make.__signature__ = signature  # type: ignore[attr-defined]
    del make.__wrapped__

    def flows(rule: Rule, stage: Stage) -> Stage:
        if stage not in takes:
            raise BadRule(refusal(rule, stage))
        return gives or stage

    def sample(draw: Draw) -> Rule:
        return make(**{name: draw(domain) for name, domain in domains.items()})

    specs.register(Rule, kind, known(passes=flows, make=make, sample=sample, domains=dict(domains)))
    return make


# --- from an expression over other rules ------------------------------------------------------------------


def recipe(
    *,
    search: Mapping[str, tuple[float, float]] | None = None,
    invariances: Mapping[str, Mapping[str, float]] | None = None,
    limits: Mapping[str, str] | None = None,
    huge: Huge | None = None,
    budget: int = 1000,
    **domains: Domain,
) -> Callable[[Callable[P, Rule]], Callable[P, Rule]]:
    """Make a named rule from a function that returns an expression over other rules.

    Args:
        search: the hyperparameters to tune when nothing else is said, and the range (low, high) to start from.
        invariances, limits, huge, budget: what the contract holds it to (see :class:`Behavior`).
        **domains: which arguments are numbers, with what they may be; the other arguments are options.
    """

    def decorate(body: Callable[P, Rule]) -> Callable[P, Rule]:
        kind, signature = body.__name__, inspect.signature(body)

        @functools.wraps(body)
        def make(*args: P.args, **given: P.kwargs) -> Rule:
            values = checked(kind, domains, bound(kind, signature, args, given))
            options = {name: values.pop(name) for name in list(values) if name not in domains}
            rule = Rule(kind, values, options)
            passes(expand(rule, values), "gradient")
            return rule

        def expand(rule: Rule, h: Numbers) -> Rule:
            return body(**{**h, **rule.options})  # type: ignore[call-arg]

        def begin(rule: Rule, params: Tree, h: Numbers) -> State:
            inner = expand(rule, h)
            return init(inner, params, dict(specs.flatten(inner)))

        def step(
            rule: Rule, direction: Tree, state: State, params: Tree, h: Numbers, oracle: Oracle | None
        ) -> tuple[Tree, State, Info]:
            inner = expand(rule, h)
            return update(inner, direction, state, params, dict(specs.flatten(inner)), oracle)

        def flows(rule: Rule, stage: Stage) -> Stage:
            try:
                return passes(expand(rule, rule.numbers), stage)
            except BadRule:
                raise BadRule(refusal(rule, stage)) from None

        def sees(rule: Rule, params: Tree, state: State) -> Tree:
            return view(expand(rule, rule.numbers), params, state)

        def sample(draw: Draw) -> Rule:
            return make(**{name: draw(domain) for name, domain in domains.items()})  # type: ignore[call-arg]

        known = Behavior(
            begin, step, flows, make, sample, view=sees, domains=dict(domains), named=True,
            parts=lambda rule: (expand(rule, rule.numbers),), search=dict(search or {}),
            invariances=dict(invariances or {}), limits=dict(limits or {}), huge=huge, budget=budget,
        )  # fmt: skip
        specs.register(Rule, kind, known)
        return make

    return decorate
