"""Gradients of several steps gathered into one: ``accumulate_gradients``."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import specs
from ..specs import Rule
from ..types import Info, Numbers, State, Tree
from .arguments import checking
from .arithmetic import number
from .base import RATE, Behavior, Draw, Oracle, Stage, check_trains, init, passes, update, view
from .compose import all_rules, child_state, joined_state
from .making import own
from .scaling import descend
from .views import EVERY


@checking(every=EVERY)
def accumulate_gradients(rule: Rule, every: specs.Number) -> Rule:
    """One step of a rule for k gradients: it gets g = (g₁ + … + gₖ) / k; the steps between are 0.

    Args:
        rule: the rule that trains, which sees one gradient out of k; its schedules go on counting all steps.
        every: k, how many gradients make one step; at least 1, a fraction is rounded up.

    >>> from fallline import rules
    >>> rules.accumulate_gradients(rules.sgd(lr=0.1), every=4)
    accumulate_gradients(sgd(lr=0.1), every=4)

    Source: the mean over k minibatches of one size is the gradient of their union. ``MultiSteps`` of optax does the
    same; in PyTorch it is done by hand, with ``backward()`` k times for a ``step()``. A parameter without a gradient
    does not count that step.
    """
    (inner,) = all_rules("accumulate_gradients", (rule,))
    check_trains(inner)
    return Rule("accumulate_gradients", {"every": every}, children=(inner,))


def _init(rule: Rule, params: Tree, h: Numbers) -> State:
    count = {name: torch.zeros((), dtype=torch.float64, device=p.device) for name, p in params.items()}
    mine = {name: {"sum": torch.zeros_like(p), "n": count[name]} for name, p in params.items()}
    return joined_state(params, [init(rule.children[0], params, specs.inside(h, 0)), State(mine, {})])


def _update(
    rule: Rule, direction: Tree, state: State, params: Tree, h: Numbers, oracle: Oracle | None
) -> tuple[Tree, State, Info]:
    before, mine = child_state(state, 0), child_state(state, 1).params
    n = {name: mine[name]["n"] + 1 for name in direction}
    due = {name: n[name] >= number(own({"every": h["every"]}, name).every, n[name]) for name in direction}
    gathered = {name: mine[name]["sum"] + g for name, g in direction.items()}
    mean = {name: (g / n[name]).to(g.dtype) for name, g in gathered.items()}
    step, after, info = update(rule.children[0], mean, before, params, specs.inside(h, 0), oracle)

    def chosen(name: str, new: Tensor, old: Tensor) -> Tensor:
        return torch.where(due[name], new, old)

    params_after = {
        name: {key: chosen(name, t, before.params[name][key]) for key, t in held.items()}
        for name, held in after.params.items()
    }
    one = next(iter(direction), "")  # what belongs to all moves with the first of them
    tree_after = {key: chosen(one, t, before.tree[key]) for key, t in after.tree.items()}
    counted = {
        name: {"sum": torch.where(due[name], 0.0, g).to(g.dtype), "n": torch.where(due[name], 0.0, n[name])}
        for name, g in gathered.items()
    }
    out = {name: torch.where(due[name], d, torch.zeros_like(d)) for name, d in step.items()}
    return out, joined_state(direction, [State(params_after, tree_after), State(counted, {})]), info


def _view(rule: Rule, params: Tree, state: State) -> Tree:
    return view(rule.children[0], params, child_state(state, 0))


def _passes(rule: Rule, stage: Stage) -> Stage:
    passes(rule.children[0], stage)
    return "done"


def _sample(draw: Draw) -> Rule:
    return accumulate_gradients(descend(draw(RATE)), draw(EVERY))


specs.register(
    Rule,
    "accumulate_gradients",
    Behavior(_init, _update, _passes, accumulate_gradients, _sample, view=_view, domains={"every": EVERY}),
)
