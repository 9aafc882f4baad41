"""Sharpness-aware minimization: a wrapper that takes its gradient from uphill."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import specs
from ..errors import BadRule
from ..specs import Domain, Rule
from ..tree import norm
from ..types import Info, Numbers, State, Tree
from .asking import check_option
from .base import RATE, Behavior, Draw, Oracle, Stage, check_trains, init, passes, update, view
from .compose import all_rules, child_state, joined_state
from .making import bound, checked, shared, signature_of
from .scaling import descend

RADIUS = Domain("the radius of the ball, in the unit of the parameters (ASAM: relative to them)", low=0.0)
AROUND_ZERO = 0.01
"""ASAM's |w| counts as this much more, so that weights of zero move, too."""
DOMAINS = {"rho": RADIUS}
_TAKES, _DEFAULTS = signature_of("rule", "rho", "adaptive"), {"rho": 0.05, "adaptive": False}


def sam(*args: Any, **given: Any) -> Rule:
    left = {
        name: default
        for name, default in _DEFAULTS.items()
        if name not in list(_TAKES.parameters)[: len(args)]
    }
    values = bound("sam", _TAKES, args, {**left, **given})
    (child,) = all_rules("sam", (values.pop("rule"),))
    check_trains(child)
    adaptive = values.pop("adaptive")
    check_option("sam", "adaptive", adaptive, (False, True))
    return Rule("sam", checked("sam", DOMAINS, values), {"adaptive": adaptive}, (child,))


sam.__doc__ = """Take the gradient where the loss is about highest nearby: g(w + ρ · g / ‖g‖), for the rule inside.

    Adaptive (ASAM), the ball is one of relative changes: ρ · T²g / ‖T·g‖ with T = |w| + 0.01, entry by entry. The norm
    is that of all parameters together. Each step costs two gradients, on the same batch and with the same noise.

    Args:
        rule: the rule that trains, as in ``sgd(lr=0.1)``. What changes the gradient (a clip) belongs inside.
        rho: the radius, in the unit of the parameters; at least 0. Where it is 0, nothing changes.
        adaptive: whether the ball is relative to the parameters.

    >>> from fallline import rules
    >>> sam(rules.sgd(lr=0.1), rho=0.05)
    sam(sgd(lr=0.1), rho=0.05, adaptive=False)

    Source: Foret and others, Sharpness-aware minimization for efficiently improving generalization, 2021; Kwon and
    others, ASAM, 2021, with their η = 0.01 for all parameters, biases and norms too. Running statistics of BatchNorm
    are those of the first of the two passes.
    """
sam.__signature__ = _TAKES  # type: ignore[attr-defined]


def _sam_init(rule: Rule, params: Tree, h: Numbers) -> State:
    return joined_state(params, [init(rule.children[0], params, specs.inside(h, 0))])


def _sam_update(
    rule: Rule, direction: Tree, state: State, params: Tree, h: Numbers, oracle: Oracle | None
) -> tuple[Tree, State, Info]:
    if oracle is None or oracle.grad_at is None:
        raise BadRule(
            f"{rule!r} needs grad_at beside the gradient, and nobody gives it here: train it with fl.fleet.run, call "
            "optimizer.step(closure) in a loop of your own, or give rules.update an Oracle"
        )
    rho = shared(rule, {"rho": h["rho"]}, params).rho
    up = _uphill(direction, params, rho, adaptive=rule.options["adaptive"])
    gradient, _ = oracle.grad_at({name: p + up[name] if name in up else p for name, p in params.items()})
    given = {name: gradient[name] for name in direction}
    step, after, info = update(
        rule.children[0], given, child_state(state, 0), params, specs.inside(h, 0), oracle
    )
    return step, joined_state(direction, [after]), info


def _uphill(g: Tree, params: Tree, rho: Any, *, adaptive: bool) -> Tree:
    """ρ · g / ‖g‖, or ρ · T²g / ‖T·g‖; zero where the gradient is."""
    sizes = {name: params[name].abs() + AROUND_ZERO for name in g} if adaptive else {}
    scaled = {name: sizes[name] * x if adaptive else x for name, x in g.items()}
    length = norm({name: x.double() for name, x in scaled.items()})
    times = rho / torch.where(length == 0, 1.0, length)

    def moved(name: str, x: Tensor) -> Tensor:
        return (times * (sizes[name] * x if adaptive else x)).to(params[name].dtype)

    return {name: moved(name, x) for name, x in scaled.items()}


def _sam_view(rule: Rule, params: Tree, state: State) -> Tree:
    return view(rule.children[0], params, child_state(state, 0))


def _sam_passes(rule: Rule, stage: Stage) -> Stage:
    if stage != "gradient":
        raise BadRule(
            f"{rule!r} takes a gradient of its own, so no step may come in: put what comes before it inside"
        )
    passes(rule.children[0], stage)
    return "done"


def _sam_sample(draw: Draw) -> Rule:
    return sam(descend(draw(RATE)), rho=draw(RADIUS))


specs.register(
    Rule,
    "sam",
    Behavior(
        _sam_init, _sam_update, _sam_passes, sam, _sam_sample, view=_sam_view, domains=DOMAINS,
        needs=frozenset({"grad_at"}), elementwise=False, as_vector=True, discontinuous=True,
    ),
)  # fmt: skip
