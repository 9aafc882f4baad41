"""Curiosity about what a network gets wrong."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import grad

from ...specs import Domain
from .base import Curiosity, States, Transition, check_whole

FIXED = "fixed."
"""How the names of networks begin that are never trained."""

RATE = Domain("the step size of gradient descent", low=0.0, open_low=True)
SIZE = Domain("the size of the bonus", low=0.0)
SHARE = Domain("the share of the forward model in what is learned", low=0.0, high=1.0)


def rnd(width: int, *, features: int = 16, hidden: tuple[int, ...] = (64,), lr: float = 0.1) -> Curiosity:
    """Random network distillation: b(s') = ‖f(s') − g(s')‖² / d, where g is random and fixed, and f learns to be like it.

    Learning is a step of gradient descent on the mean bonus. The paper divides observations and bonuses by their
    running deviations; here observations should come with entries of about 1.

    Args:
        width: numbers in an observation [n, width].
        features: d, the outputs of both networks.
        hidden: units of their hidden layers (ReLU); none makes them linear.
        lr: the step size.

    >>> world = rnd(2)
    >>> seen = Transition(torch.ones(3, 2), torch.zeros(3), torch.ones(3, 2))
    >>> state = world.init(seed=0)
    >>> bool((world.bonus(world.learn(state, seen), seen) < world.bonus(state, seen)).all())
    True

    Source: Burda, Edwards, Storkey and Klimov, "Exploration by random network distillation" (2018), equation 1.
    """
    check_whole("rnd", width=width, features=features)
    sizes = (width, *hidden, features)

    def start(seed: int) -> States:
        draw = torch.Generator().manual_seed(seed)
        return {**_network(FIXED + "random", sizes, draw), **_network("learner", sizes, draw)}

    def judge(state: States, seen: Transition, h: Any) -> Tensor:
        gap = _apply(state, "learner", seen.after) - _apply(state, FIXED + "random", seen.after)
        return (gap**2).mean(1)

    renew = _descends(lambda state, seen, h: judge(state, seen, h).mean())
    return Curiosity("rnd", start, judge, renew, {"lr": lr}, {"lr": RATE}, width)


def icm(
    width: int, actions: int, *, features: int = 16, hidden: tuple[int, ...] = (64,), size: float = 1.0,
    beta: float = 0.2, lr: float = 0.01,
) -> Curiosity:  # fmt: skip
    """Prediction error in learned features (ICM): b = η/2 · ‖f(φ(s), a) − φ(s')‖².

    The features φ learn what tells actions apart, so that what no action changes leaves them. Learning is a step of
    gradient descent on (1 − β) · L_inverse + β · L_forward: the cross-entropy of the action from (φ(s), φ(s')),
    and ½‖f(φ(s), a) − φ(s')‖², both as means over transitions.

    Args:
        width: numbers in an observation [n, width].
        actions: how many actions there are; an action is a number from 0 to actions − 1.
        features: outputs of φ.
        hidden: units of the hidden layers (ReLU) of φ and f; none makes them linear. The inverse model is linear in
            (φ(s), φ(s')).
        size: η, at least 0.
        beta: β in [0, 1].
        lr: the step size.

    >>> world = icm(2, actions=3)
    >>> seen = Transition(torch.zeros(5, 2), torch.arange(5) % 3, torch.ones(5, 2))
    >>> world.bonus(world.init(seed=0), seen).shape
    torch.Size([5])

    Source: Pathak, Agrawal, Efros and Darrell, "Curiosity-driven exploration by self-supervised prediction" (ICML
    2017), equations 2 to 7.
    """
    check_whole("icm", width=width, actions=actions, features=features)

    def start(seed: int) -> States:
        draw = torch.Generator().manual_seed(seed)
        return {
            **_network("features", (width, *hidden, features), draw),
            **_network("forward", (features + actions, *hidden, features), draw),
            **_network("inverse", (2 * features, actions), draw),
        }

    def parts(state: States, seen: Transition) -> tuple[Tensor, Tensor, Tensor]:
        before, after = (_apply(state, "features", s) for s in (seen.before, seen.after))
        chosen = seen.action.long().unsqueeze(1) == torch.arange(actions, device=seen.action.device)
        return before, torch.cat([before, chosen.to(before.dtype)], 1), after

    def forward(state: States, seen: Transition) -> Tensor:
        _, given, after = parts(state, seen)
        return 0.5 * ((_apply(state, "forward", given) - after) ** 2).sum(1)

    def error(state: States, seen: Transition, h: Any) -> Tensor:
        before, _, after = parts(state, seen)
        log_p = _apply(state, "inverse", torch.cat([before, after], 1)).log_softmax(1)
        inverse = -log_p.gather(1, seen.action.long().unsqueeze(1)).mean()
        return (1 - h.beta) * inverse + h.beta * forward(state, seen).mean()

    def judge(state: States, seen: Transition, h: Any) -> Tensor:
        return h.size * forward(state, seen)

    numbers, domains = {"size": size, "beta": beta, "lr": lr}, {"size": SIZE, "beta": SHARE, "lr": RATE}
    return Curiosity("icm", start, judge, _descends(error), numbers, domains, width)


def _descends(error: Callable[[States, Transition, Any], Tensor]) -> Callable[..., States]:
    """A step of gradient descent on an error, in all networks that are not fixed."""

    def renew(state: States, seen: Transition, h: Any) -> States:
        trained = {name: t for name, t in state.items() if not name.startswith(FIXED)}
        slopes = grad(lambda trained: error({**state, **trained}, seen, h))(trained)
        return {**state, **{name: (t - h.lr * slopes[name]).to(t.dtype) for name, t in trained.items()}}

    return renew


def _network(name: str, sizes: tuple[int, ...], draw: torch.Generator) -> States:
    """Weights of variance 2/inputs (He), biases 0."""
    found: States = {}
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        found[f"{name}.{i}.weight"] = torch.randn(outputs, inputs, generator=draw) * math.sqrt(2 / inputs)
        found[f"{name}.{i}.bias"] = torch.zeros(outputs)
    return found


def _apply(state: States, name: str, x: Tensor) -> Tensor:
    layers = sum(key.startswith(f"{name}.") and key.endswith(".weight") for key in state)
    for i in range(layers):
        x = (x if i == 0 else x.relu()).to(state[f"{name}.{i}.weight"].dtype)
        x = x @ state[f"{name}.{i}.weight"].T + state[f"{name}.{i}.bias"]
    return x
