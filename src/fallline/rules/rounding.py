"""Parameters of bfloat16 trained in float32: ``round_at_random``."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import specs
from ..rng import fold, uniform
from ..specs import Domain, Rule
from ..types import Info, Numbers, State, Tree
from .arguments import checking
from .base import RATE, Behavior, Draw, Oracle, Stage, check_trains, init, passes, update, view
from .compose import all_rules, child_state, joined_state
from .scaling import descend

SEED = Domain("which noise the rounding draws", low=0.0, high=2.0**50)


@checking(seed=SEED)
def round_at_random(rule: Rule, seed: specs.Number = 0) -> Rule:
    """Round new weights up or down by chance, in proportion: E[round(w + d)] = w + d.

    A bfloat16 weight has 8 significant bits: a step below 1/512 of it is lost when the sum is rounded to the nearest,
    at each step anew. Here the rule trains in float32 (its state too), and w + d goes to the lower or upper neighbor
    with the probability that makes the mean right. Parameters of float32 and float64 are trained as they would be.

    Args:
        rule: the rule that trains; it sees weights and gradients in float32.
        seed: which noise is drawn, a whole number (a fraction is cut off); it is data, so that each run of a fleet may have its own.

    >>> from fallline import rules
    >>> rules.round_at_random(rules.sgd(lr=0.1), seed=1)
    round_at_random(sgd(lr=0.1), seed=1)

    Source: Gupta, Agrawal, Gopalakrishnan and Narayanan, Deep learning with limited numerical precision, 2015. The
    noise is a function of (seed, the parameter's place, its step, the entry), so that it is the same alone, in any
    fleet, and after a resume. What is given is the difference of two bfloat16 numbers, as one: it is exact unless a
    step is larger than half of its weight, where it is rounded by up to half a unit in its last place.
    """
    (inner,) = all_rules("round_at_random", (rule,))
    check_trains(inner)
    return Rule("round_at_random", {"seed": seed}, children=(inner,))


def _wide(tree: Tree) -> Tree:
    return {name: t.float() if t.dtype == torch.bfloat16 else t for name, t in tree.items()}


def _init(rule: Rule, params: Tree, h: Numbers) -> State:
    t = {name: {"t": torch.zeros((), dtype=torch.float64, device=p.device)} for name, p in params.items()}
    return joined_state(params, [init(rule.children[0], _wide(params), specs.inside(h, 0)), State(t, {})])


def _update(
    rule: Rule, direction: Tree, state: State, params: Tree, h: Numbers, oracle: Oracle | None
) -> tuple[Tree, State, Info]:
    mine = child_state(state, 1).params
    wide, numbers = _wide(params), specs.inside(h, 0)
    step, after, info = update(
        rule.children[0], _wide(direction), child_state(state, 0), wide, numbers, oracle
    )
    out = dict(step)
    for place, (name, p) in enumerate(params.items()):
        if name in step and p.dtype == torch.bfloat16:
            seed = torch.as_tensor(h["seed"], device=p.device).to(torch.int64)
            key = fold(fold(seed, place), mine[name]["t"].to(torch.int64))
            rounded = at_random(wide[name] + step[name], key)
            out[name] = (rounded.float() - wide[name]).to(p.dtype)
    counted = State({name: {"t": mine[name]["t"] + 1} for name in direction}, {})
    return out, joined_state(direction, [after, counted]), info


def at_random(x: Tensor, key: Tensor) -> Tensor:
    """float32 numbers as bfloat16, each at one of its two neighbors, whose mean is the number itself.

    A bfloat16 number is the upper half of a float32 one: noise in the lower half carries over as often as it should.

    >>> drawn = at_random(torch.full((10_000,), 1 + 2**-9), torch.tensor(0))
    >>> sorted(set(drawn.tolist())), bool((drawn.double().mean() - (1 + 2**-9)).abs() < 2**-13)
    ([1.0, 1.0078125], True)
    """
    noise = (uniform(key, tuple(x.shape), torch.float32) * 2**16).to(torch.int32)
    rounded = ((x.view(torch.int32) + noise) & -(2**16)).view(torch.float32)
    return torch.where(x.isfinite(), rounded, x).to(torch.bfloat16)


def _view(rule: Rule, params: Tree, state: State) -> Tree:
    seen = view(rule.children[0], params, child_state(state, 0))
    return {name: t if t is params[name] else t.to(params[name].dtype) for name, t in seen.items()}


def _passes(rule: Rule, stage: Stage) -> Stage:
    passes(rule.children[0], stage)
    return "done"


def _sample(draw: Draw) -> Rule:
    return round_at_random(descend(draw(RATE)), draw(SEED))


specs.register(
    Rule,
    "round_at_random",
    Behavior(_init, _update, _passes, round_at_random, _sample, view=_view, domains={"seed": SEED}, elementwise=False, rounds=True),
)  # fmt: skip
