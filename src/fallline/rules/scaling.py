"""Rules that scale a gradient: by the rate, and entry by entry by the sizes of past gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..specs import Domain
from .arithmetic import corrected, left, never_zero, running, signs
from .base import EITHER, EPSILON, RATE, UNIT
from .making import count, one, per_tensor, zeros

START = Domain("what the sum of squares starts from, in squared units of the gradient", low=0.0)
SLOWING = Domain("how fast the rate falls, per step", low=0.0)


@per_tensor(gives="step", lr=RATE)
def descend(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Turn a direction uphill into a step downhill: d = −lr · g.

    Args:
        lr: the learning rate, the step for a direction of size 1; at least 0.

    >>> descend(lr=0.1)
    descend(lr=0.1)

    Source: Cauchy, Méthode générale pour la résolution des systèmes d'équations simultanées, 1847.
    """
    return g * -h.lr, {}


@per_tensor(discontinuous=True)
def scale_by_sign(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The sign of each entry: g ← sign(g), with sign(0) = 0.

    >>> from fallline import rules
    >>> rules.chain(scale_by_sign(), rules.descend(0.1))
    chain(scale_by_sign(), descend(lr=0.1))

    Source: Bernstein, Wang, Azizzadenesheli and Anandkumar, signSGD, 2018.
    """
    return signs(g), {}


@per_tensor(takes=EITHER)
def identity(d: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Give what comes in: d = d, a place in a chain where nothing happens.

    >>> identity()
    identity()

    Source: the neutral element of :func:`chain`.
    """
    return d, {}


@per_tensor(takes=EITHER, state={"t": count}, decay=SLOWING)
def slow_down(d: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Less and less of what comes in: d / (1 + decay · t), t from 0, counting each parameter's own steps.

    Args:
        decay: how fast the rate falls, per step; at least 0.

    >>> slow_down(decay=0.01)
    slow_down(decay=0.01)

    Source: ``lr_decay`` of ``torch.optim.Adagrad``. A parameter that had no gradient does not age; as a
    schedule of all parameters together, this is ``schedules.inverse_time``.
    """
    return d / (1 + h.decay * s.t), {"t": s.t + 1}


@per_tensor(state={"total": lambda p, h: torch.zeros_like(p) + h.start}, eps=EPSILON, start=START)
def scale_by_adagrad(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Divide by the root of the sum of squares so far: G ← G + g², then g / (√G + eps).

    Args:
        eps: added to √G, in the unit of the gradient; at least 0. With eps = 0, 0/0 counts as 0.
        start: G before the first step, in squared units of the gradient; at least 0.

    >>> scale_by_adagrad(eps=1e-10, start=0.0)
    scale_by_adagrad(eps=1e-10, start=0)

    Source: Duchi, Hazan and Singer, Adaptive subgradient methods, 2011.
    """
    total = s.total + g * g
    return g / (total.sqrt() + never_zero(h.eps, g)), {"total": total}


@per_tensor(state={"nu": zeros}, gamma=UNIT, eps=EPSILON)
def scale_by_rms(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Divide by the root of the running mean square: v ← γ v + (1 − γ) g², then g / (√v + eps).

    Args:
        gamma: the share of the running mean square that is kept, in [0, 1).
        eps: added to √v, in the unit of the gradient; at least 0. With eps = 0, 0/0 counts as 0.

    >>> scale_by_rms(gamma=0.9, eps=1e-8)
    scale_by_rms(gamma=0.9, eps=1e-08)

    Source: Tieleman and Hinton, Lecture 6.5 of Neural networks for machine learning, 2012.
    """
    nu = running(s.nu, g * g, h.gamma)
    return g / (nu.sqrt() + never_zero(h.eps, g)), {"nu": nu}


@per_tensor(state={"nu": zeros, "mean": zeros}, gamma=UNIT, eps=EPSILON)
def scale_by_stddev(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Divide by the running standard deviation: m ← γ m + (1 − γ) g, then g / (√(v − m²) + eps), v as in the rms.

    Args:
        gamma: the share of the running means that is kept, in [0, 1).
        eps: added to the root, in the unit of the gradient; at least 0. With eps = 0, 0/0 counts as 0.

    >>> scale_by_stddev(gamma=0.9, eps=1e-8)
    scale_by_stddev(gamma=0.9, eps=1e-08)

    Source: Graves, Generating sequences with recurrent neural networks, 2013; ``torch.optim.RMSprop(centered=True)``.
    Where rounding makes v − m² negative (a gradient that hardly changes), torch gives NaN, and this takes 0.
    """
    nu, mean = running(s.nu, g * g, h.gamma), running(s.mean, g, h.gamma)
    spread = (nu - mean * mean).clamp(min=0).sqrt()
    return g / (spread + never_zero(h.eps, g)), {"nu": nu, "mean": mean}


@per_tensor(
    state={"mu": zeros, "nu": zeros, "power1": one, "power2": one}, beta1=UNIT, beta2=UNIT, eps=EPSILON
)  # fmt: skip
def scale_by_adam(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Divide the running mean by the root of the running mean square, both corrected for their start at 0.

        m ← β₁ · m + (1 − β₁) · g      m̂ = m / (1 − β₁ᵗ)
        v ← β₂ · v + (1 − β₂) · g²     v̂ = v / (1 − β₂ᵗ)      then m̂ / (√v̂ + eps)

    βᵗ is carried as the product of the β's so far. That is also the right correction when β follows a schedule,
    and its digits do not depend on a run's place in a fleet, as those of ``torch.pow`` do.

    Args:
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the running mean square that is kept, in [0, 1).
        eps: added to √v̂, in the unit of the gradient; at least 0. With eps = 0, 0/0 counts as 0.

    >>> scale_by_adam(beta1=0.9, beta2=0.999, eps=1e-8)
    scale_by_adam(beta1=0.9, beta2=0.999, eps=1e-08)

    Source: Kingma and Ba, Adam: a method for stochastic optimization, 2015.
    """
    power1, power2 = s.power1 * h.beta1, s.power2 * h.beta2
    mu, nu = _moments(g, s, h)
    kept = {"mu": mu, "nu": nu, "power1": power1, "power2": power2}
    return corrected(mu, nu, 1 - power1, 1 - power2, h.eps), kept


def _moments(g: Tensor, s: Any, h: Any) -> tuple[Tensor, Tensor]:
    return running(s.mu, g, h.beta1), running(s.nu, g * g, h.beta2)


@per_tensor(state={"mu": zeros, "nu": zeros, "t": count}, beta1=UNIT, beta2=UNIT, eps=EPSILON)
def scale_by_adam_power(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """As ``scale_by_adam``, with βᵗ = the power of the β at this step, as torch has it; equal while β is constant.

    Args:
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the running mean square that is kept, in [0, 1).
        eps: added to √v̂, in the unit of the gradient; at least 0. With eps = 0, 0/0 counts as 0.

    >>> scale_by_adam_power(beta1=0.9, beta2=0.999, eps=1e-8)
    scale_by_adam_power(beta1=0.9, beta2=0.999, eps=1e-08)

    Source: ``torch.optim.Adam``; the difference shows when ``OneCycleLR`` turns its β₁.
    """
    t = s.t + 1
    mu, nu = _moments(g, s, h)
    step = corrected(mu, nu, left(h.beta1, t), left(h.beta2, t), h.eps)
    return step, {"mu": mu, "nu": nu, "t": t}


@per_tensor(
    state={"mu": zeros, "nu": zeros, "largest": zeros, "t": count}, beta1=UNIT, beta2=UNIT, eps=EPSILON
)
def scale_by_amsgrad(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """As ``scale_by_adam_power``, with the largest v so far in the place of v: L ← max(L, v).

    Args:
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the running mean square that is kept, in [0, 1).
        eps: added to the root, in the unit of the gradient; at least 0. With eps = 0, 0/0 counts as 0.

    >>> scale_by_amsgrad(beta1=0.9, beta2=0.999, eps=1e-8)
    scale_by_amsgrad(beta1=0.9, beta2=0.999, eps=1e-08)

    Source: Reddi, Kale and Kumar, On the convergence of Adam and beyond, 2018, who leave out the correction for
    the start at 0; it is here as in ``torch.optim.Adam(amsgrad=True)``.
    """
    t = s.t + 1
    mu, nu = _moments(g, s, h)
    largest = torch.maximum(s.largest, nu)
    step = corrected(mu, largest, left(h.beta1, t), left(h.beta2, t), h.eps)
    return step, {"mu": mu, "nu": nu, "largest": largest, "t": t}
