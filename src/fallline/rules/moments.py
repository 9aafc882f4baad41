"""Rules that scale a gradient entry by entry by running moments, in other ways than Adam does."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..specs import Domain
from .arithmetic import left, never_zero, number, running, signs
from .base import EPSILON, UNIT
from .making import count, one, per_tensor, zeros

INSIDE = Domain("added under a root, in squared units", low=0.0)
SLOWER = Domain("how fast the momentum comes up to beta1, per step", low=0.0)


@per_tensor(state={"nu": zeros, "moved": zeros}, rho=UNIT, eps=INSIDE)
def scale_by_adadelta(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Steps in the unit of the weights: d = g · √(u + eps) / √(v + eps), v and u the running means of g² and d².

        v ← ρ · v + (1 − ρ) · g²      then d      then u ← ρ · u + (1 − ρ) · d²

    Args:
        rho: the share of the running means that is kept, in [0, 1).
        eps: added to both running means, in squared units; at least 0. With eps = 0 the first step, and so every
            step, is 0.

    >>> scale_by_adadelta(rho=0.9, eps=1e-6)
    scale_by_adadelta(rho=0.9, eps=1e-06)

    Source: Zeiler, ADADELTA: an adaptive learning rate method, 2012.
    """
    nu = running(s.nu, g * g, h.rho)
    d = g * ((s.moved + h.eps).sqrt() / (nu + h.eps).sqrt().clamp(min=never_zero(0.0, g)))
    return d, {"nu": nu, "moved": running(s.moved, d * d, h.rho)}


@per_tensor(
    state={"mu": zeros, "nu": zeros, "product": one, "t": count},
    beta1=UNIT,
    beta2=UNIT,
    eps=EPSILON,
    momentum_decay=SLOWER,
)
def scale_by_nadam(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Adam that looks one step ahead: (μ' · m / (1 − Π · μ') + (1 − μ) · g / (1 − Π)) / (√v̂ + eps).

    m and v̂ are those of Adam; μ = β₁ · (1 − ½ · 0.96^(t · ψ)) is the momentum of step t (from 1), μ' that of the
    next step, Π the product of all μ so far, and ψ the ``momentum_decay``.

    Args:
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the running mean square that is kept, in [0, 1).
        eps: added to √v̂, in the unit of the gradient; at least 0. With eps = 0, 0/0 counts as 0.
        momentum_decay: ψ, how fast μ comes up from β₁/2 to β₁, per step; at least 0.

    >>> scale_by_nadam(0.9, 0.999, 1e-8, 0.004)
    scale_by_nadam(beta1=0.9, beta2=0.999, eps=1e-08, momentum_decay=0.004)

    Source: Dozat, Incorporating Nesterov momentum into Adam, 2016; ``torch.optim.NAdam``, whose β₂ᵗ is the power
    of the β at this step.
    """
    t = s.t + 1
    mu, nu = running(s.mu, g, h.beta1), running(s.nu, g * g, h.beta2)
    now, after = (_warmed(h.beta1, step * h.momentum_decay) for step in (t, t + 1))
    product = s.product * now
    root = (nu / left(h.beta2, t)).sqrt() + never_zero(h.eps, g)
    d = (mu * (after / (1 - product * after)) + g * ((1 - now) / (1 - product))) / root
    return d, {"mu": mu, "nu": nu, "product": product, "t": t}


def _warmed(beta: Any, times: Tensor) -> Tensor:
    """β · (1 − ½ · 0.96^times)."""
    return beta * 0.5 * (1 - torch.expm1(times * math.log(0.96)))


@per_tensor(state={"mu": zeros, "nu": zeros, "t": count}, beta1=UNIT, beta2=UNIT, eps=EPSILON)
def scale_by_radam(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Adam that waits for its variance: r · m̂ · √(1 − β₂ᵗ) / (√v + eps), and m̂ alone while ρ ≤ 5.

        ρ∞ = 2 / (1 − β₂) − 1      ρ = ρ∞ − 2 · t · β₂ᵗ / (1 − β₂ᵗ)      t from 1
        r = √((ρ − 4)(ρ − 2) · ρ∞ / ((ρ∞ − 4)(ρ∞ − 2) · ρ))

    Args:
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the running mean square that is kept, in [0, 1).
        eps: added to √v, in the unit of the gradient; at least 0. With eps = 0, 0/0 counts as 0.

    >>> scale_by_radam(0.9, 0.999, 1e-8)
    scale_by_radam(beta1=0.9, beta2=0.999, eps=1e-08)

    Source: Liu et al., On the variance of the adaptive learning rate and beyond, 2020, whose bound is ρ > 4;
    ``torch.optim.RAdam``, and the authors' code, have ρ > 5 and eps beside the root of the uncorrected v.
    """
    t = s.t + 1
    mu, nu = running(s.mu, g, h.beta1), running(s.nu, g * g, h.beta2)
    left2 = left(h.beta2, t)
    most = 2 / (1 - h.beta2) - 1
    length = most - 2 * t * (1 - left2) / left2
    trusted = length > 5
    share = (length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)
    rectified = torch.where(trusted, share * left2, 1.0).sqrt()
    root = torch.where(trusted, nu.sqrt() + never_zero(h.eps, g), 1.0)
    return mu * (rectified / left(h.beta1, t)) / root, {"mu": mu, "nu": nu, "t": t}


@per_tensor(state={"mu": zeros, "largest": zeros, "t": count}, beta1=UNIT, beta2=UNIT, eps=EPSILON)
def scale_by_adamax(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Divide the running mean by a maximum that forgets: u ← max(β₂ · u, |g| + eps), then m̂ / u.

    Args:
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the maximum that is kept, in [0, 1).
        eps: added to |g|, in the unit of the gradient; at least 0. With eps = 0, 0/0 counts as 0.

    >>> scale_by_adamax(0.9, 0.999, 1e-8)
    scale_by_adamax(beta1=0.9, beta2=0.999, eps=1e-08)

    Source: Kingma and Ba, Adam: a method for stochastic optimization, 2015, section 7.1, which has no eps;
    ``torch.optim.Adamax`` has it inside of the maximum.
    """
    t = s.t + 1
    mu = running(s.mu, g, h.beta1)
    largest = torch.maximum(s.largest * h.beta2, g.abs() + h.eps)
    d = mu / (largest.clamp(min=never_zero(0.0, g)) * left(h.beta1, t))
    return d, {"mu": mu, "largest": largest, "t": t}


@per_tensor(state={"mu": zeros}, discontinuous=True, beta1=UNIT, beta2=UNIT)
def scale_by_lion(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The sign of a mixture, and a slower memory: sign(β₁ · m + (1 − β₁) · g), m ← β₂ · m + (1 − β₂) · g.

    Args:
        beta1: the share of the memory in the mixture whose sign is taken, in [0, 1).
        beta2: the share of the memory that is kept, in [0, 1).

    >>> scale_by_lion(0.9, 0.99)
    scale_by_lion(beta1=0.9, beta2=0.99)

    Source: Chen et al., Symbolic discovery of optimization algorithms, 2023.
    """
    return signs(running(s.mu, g, h.beta1)), {"mu": running(s.mu, g, h.beta2)}


@per_tensor(state={"mu": zeros, "nu": zeros, "t": count}, beta1=UNIT, beta2=UNIT, eps=EPSILON)
def scale_by_belief(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Adam by what was not expected: m̂ / (√ŝ + eps), with s ← β₂ · s + (1 − β₂) · (g − m)² + eps.

    Args:
        beta1: the share of the running mean m that is kept, in [0, 1).
        beta2: the share of the running square deviation s that is kept, in [0, 1).
        eps: added to s at each step and to √ŝ, as the paper has it; at least 0. With eps = 0, 0/0 counts as 0.

    >>> scale_by_belief(0.9, 0.999, 1e-16)
    scale_by_belief(beta1=0.9, beta2=0.999, eps=1e-16)

    Source: Zhuang et al., AdaBelief optimizer: adapting stepsizes by the belief in observed gradients, 2020.
    """
    t = s.t + 1
    mu = running(s.mu, g, h.beta1)
    nu = running(s.nu, (g - mu) ** 2, h.beta2) + h.eps
    root = (nu / left(h.beta2, t)).sqrt() + never_zero(h.eps, g)
    return mu / (root * left(h.beta1, t)), {"mu": mu, "nu": nu, "t": t}


@per_tensor(state={"mu": zeros, "nu": zeros, "t": count}, beta1=UNIT, beta2=UNIT, eps=EPSILON)
def scale_by_adopt(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Normalize by the past alone, then average: m ← β₁ · m + (1 − β₁) · clip(g / max(√v, eps), ±t^¼), gives m.

    v ← β₂ · v + (1 − β₂) · g² comes after. The first gradient only starts v (v = g², no step); t counts from 0.

    Args:
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the running mean square that is kept, in [0, 1).
        eps: the least √v that is divided by, in the unit of the gradient; at least 0. With eps = 0, 0/0 counts as 0.

    >>> scale_by_adopt(0.9, 0.9999, 1e-6)
    scale_by_adopt(beta1=0.9, beta2=0.9999, eps=1e-06)

    Source: Taniguchi et al., ADOPT: modified Adam can converge with any β₂ with the optimal rate, 2024,
    algorithm 2 with the clipping that its text recommends.
    """
    first, limit = s.t == 0, number(s.t.sqrt().sqrt(), g)
    scaled = g / s.nu.sqrt().clamp(min=never_zero(0.0, g)).maximum(number(h.eps, g))
    mu = running(s.mu, torch.where(first, 0.0, scaled.maximum(-limit).minimum(limit)), h.beta1)
    nu = torch.where(first, g * g, running(s.nu, g * g, h.beta2))
    return mu, {"mu": mu, "nu": nu, "t": s.t + 1}


@per_tensor(state={"nu": zeros, "t": count}, beta=UNIT, eps=EPSILON)
def scale_by_corrected_rms(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Divide by the root of the running mean square, corrected for its start at 0: g / (√(v / (1 − βᵗ)) + eps).

    Args:
        beta: the share of the running mean square v that is kept, in [0, 1).
        eps: added to the root, in the unit of the gradient; at least 0. With eps = 0, 0/0 counts as 0.

    >>> scale_by_corrected_rms(beta=0.999, eps=1e-8)
    scale_by_corrected_rms(beta=0.999, eps=1e-08)

    Source: Adam with β₁ = 0 (Kingma and Ba, 2015), without the memory for its mean.
    """
    t = s.t + 1
    nu = running(s.nu, g * g, h.beta)
    return g / ((nu / left(h.beta, t)).sqrt() + never_zero(h.eps, g)), {"nu": nu, "t": t}
