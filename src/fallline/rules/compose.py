"""Rules made of rules: one after another (``chain``), and one around another (``wrap``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from .. import specs
from ..errors import BadRule
from ..specs import Domain, Rule
from ..types import Info, Numbers, State, Tree
from .arguments import bound, checked, signature_of
from .base import (
    EPSILON,
    RATE,
    UNIT,
    Behavior,
    Draw,
    Oracle,
    Stage,
    check_trains,
    init,
    passes,
    update,
    view,
)
from .making import shared
from .scaling import descend, scale_by_rms

# --- one after another ------------------------------------------------------------------------------------


def chain(*rules: Rule) -> Rule:
    """Apply rules one after another, each to what the one before it gives: chain(a, b)(g) = b(a(g)).

    Args:
        *rules: at least one; what flows must fit, from a gradient to a step (``descend`` turns one into the other).

    >>> from fallline import rules
    >>> chain(rules.clip_norm(1.0), rules.adam(lr=0.01))
    chain(clip_norm(max_norm=1), adam(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-08))

    Source: the algebra of gradient transformations of optax, 2020.
    """
    if not rules:
        raise BadRule("a chain needs at least one rule, got none")
    rule = Rule("chain", children=all_rules("chain", rules))
    try:
        passes(rule, "gradient")
    except BadRule as refused:
        try:
            passes(rule, "step")
        except BadRule:
            raise refused from None
    return rule


def all_rules(owner: str, rules: tuple[Any, ...]) -> tuple[Rule, ...]:
    """Refuse what is not a rule."""
    for rule in rules:
        if not isinstance(rule, Rule):
            hint = (
                f": call it, as in {rule.__name__}()" if callable(rule) and hasattr(rule, "__name__") else ""
            )
            raise BadRule(f"{owner} takes rules such as fl.rules.adam(lr=1e-3), got {rule!r}{hint}")
    return rules


def child_state(state: State, i: int) -> State:
    """The state of child ``i``, out of the state of all."""
    return State(
        {name: specs.inside(held, i) for name, held in state.params.items()}, specs.inside(state.tree, i)
    )


def joined_state(names: Iterable[str], states: list[State]) -> State:
    """The states of children as one, each key with its child's number in front."""

    def merged(held: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {f"{i}.{key}": value for i, part in enumerate(held) for key, value in part.items()}

    return State(
        {name: merged([s.params.get(name, {}) for s in states]) for name in names},
        merged([s.tree for s in states]),
    )


def _chain_init(rule: Rule, params: Tree, h: Numbers) -> State:
    return joined_state(params, [init(c, params, specs.inside(h, i)) for i, c in enumerate(rule.children)])


def _chain_update(
    rule: Rule, direction: Tree, state: State, params: Tree, h: Numbers, oracle: Oracle | None
) -> tuple[Tree, State, Info]:
    states, told = [], {}
    for i, child in enumerate(rule.children):
        direction, after, info = update(
            child, direction, child_state(state, i), params, specs.inside(h, i), oracle
        )
        states.append(after)
        told.update(info)
    return direction, joined_state(direction, states), told


def _chain_passes(rule: Rule, stage: Stage) -> Stage:
    for child in rule.children:
        stage = passes(child, stage)
    return stage


def _chain_view(rule: Rule, params: Tree, state: State) -> Tree:
    for i, child in enumerate(rule.children):
        params = view(child, params, child_state(state, i))
    return params


def _chain_sample(draw: Draw) -> Rule:
    return chain(scale_by_rms(draw(UNIT), draw(EPSILON)), descend(draw(RATE)))


# --- one around another -----------------------------------------------------------------------------------

Held = dict[str, dict[str, Tensor]]


def wrap(
    kind: str,
    *,
    start: Callable[[Tree, Any], Held],
    after: Callable[[Tree, Held, Tree, Any], tuple[Tree, Held]],
    evaluate: Callable[[Tree, Held], Tree] | None = None,
    elementwise: bool = False,
    each: bool = False,
    doc: str = "",
    **domains: Domain,
) -> Callable[..., Rule]:
    """Make a wrapper: a rule around another rule, which sees the step that the inner one takes.

    Args:
        kind: its name.
        start: ``(params, h) → own state``: what the wrapper itself keeps for each parameter, before the first step.
        after: ``(step, own state, params, h) → (step, own state)``, called with the inner rule's step.
        evaluate: ``(params, own state) → params``: what to evaluate, where that is not what is trained.
        elementwise: whether the wrapper treats each entry alone.
        each: whether ``h`` comes as it is, with numbers that may differ from parameter to parameter.
        doc: its docstring.
        **domains: its hyperparameters, with what they may be.
    """
    signature = signature_of("rule", *domains)

    def make(*args: Any, **named: Any) -> Rule:
        values = bound(kind, signature, args, named)
        (inner,) = all_rules(kind, (values.pop("rule"),))
        check_trains(inner)
        return Rule(kind, checked(kind, domains, values), children=(inner,))

    make.__name__ = make.__qualname__ = kind
    make.__doc__, make.__signature__ = doc, signature  # type: ignore[attr-defined]

    def given(rule: Rule, h: Numbers, params: Tree) -> Any:
        return _top(h) if each else shared(rule, _top(h), params)

    def begin(rule: Rule, params: Tree, h: Numbers) -> State:
        inner = init(rule.children[0], params, specs.inside(h, 0))
        return joined_state(params, [inner, State(start(params, given(rule, h, params)), {})])

    def step(
        rule: Rule, direction: Tree, state: State, params: Tree, h: Numbers, oracle: Oracle | None
    ) -> tuple[Tree, State, Info]:
        inner, held, info = update(
            rule.children[0], direction, child_state(state, 0), params, specs.inside(h, 0), oracle
        )  # fmt: skip
        before = child_state(state, 1).params
        new, own = after(inner, before, params, given(rule, h, params))
        out = {name: new[name].to(d.dtype) for name, d in inner.items()}
        own = {
            name: {key: t.to(before[name][key].dtype) for key, t in kept.items()}
            for name, kept in own.items()
        }
        return out, joined_state(direction, [held, State(own, {})]), info

    def sees(rule: Rule, params: Tree, state: State) -> Tree:
        params = view(rule.children[0], params, child_state(state, 0))
        return evaluate(params, child_state(state, 1).params) if evaluate else params

    def flows(rule: Rule, stage: Stage) -> Stage:
        passes(rule.children[0], stage)
        return "done"

    def sample(draw: Draw) -> Rule:
        return make(descend(draw(RATE)), **{name: draw(domain) for name, domain in domains.items()})

    known = Behavior(
        begin, step, flows, make, sample, view=sees, domains=dict(domains), elementwise=elementwise
    )
    specs.register(Rule, kind, known)
    return make


def _top(h: Numbers) -> dict[str, Any]:
    return {name: value for name, value in h.items() if "." not in name}


specs.register(
    Rule, "chain", Behavior(_chain_init, _chain_update, _chain_passes, chain, _chain_sample, view=_chain_view)
)  # fmt: skip
