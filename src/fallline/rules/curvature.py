"""Rules that divide by the Fisher matrix: whole, by conjugate gradients, and as Kronecker products, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..errors import BadRule
from ..specs import Domain
from ..tree import map_tree
from ..types import Info, Numbers, Tree
from .asking import FISHERS, asking
from .base import UNIT, Oracle
from .making import count
from .selecting import pairs
from .spectra import inverse_power, wide

Held = dict[str, dict[str, Tensor]]
DAMPING = Domain("the damping λ, added to the eigenvalues of the Fisher matrix", low=0.0, open_low=True)


def inner(a: Tree, b: Tree) -> Tensor:
    """The inner product of two trees, as if they were vectors: 0-d."""
    return torch.stack([(a[name] * b[name]).sum() for name in a]).sum()


# --- the whole Fisher matrix ------------------------------------------------------------------------------


@asking(
    start=lambda params, h, **options: {},
    needs=("fisher_vp",),
    together=True,
    options={"fisher": (FISHERS, "exact"), "iterations": (int, 10)},
    damping=DAMPING,
)
def precondition_by_fisher(
    direction: Tree, held: Held, params: Tree, h: Any, oracle: Oracle, *, fisher: str, iterations: int
) -> tuple[Tree, Held, Info]:
    """The natural gradient: d with (F + λI)·d = g, by conjugate gradients from 0.

    Args:
        damping: λ; above 0.
        fisher: the targets that F = E[∇ℓ·∇ℓᵀ] is an average over: exact (all that the model thinks possible, in closed
            form), sampled (one for each example, drawn from the model) or empirical (those of the data).
        iterations: of conjugate gradients; as many as there are distinct eigenvalues solve it exactly.

    >>> precondition_by_fisher(0.1, fisher="empirical").options
    {'fisher': 'empirical', 'iterations': 10}

    Source: Amari, Natural gradient works efficiently in learning, 1998; by conjugate gradients as in Martens, Deep
    learning via Hessian-free optimization, 2010, without its warm start. For losses that are no likelihood in natural
    parameters, the exact F is the generalized Gauss–Newton matrix.
    """
    if not direction:
        return {}, {}, {}
    assert oracle.fisher_vp is not None
    times_f = oracle.fisher_vp(fisher)

    def times(v: Tree) -> Tree:
        every = {name: v.get(name, torch.zeros_like(p)) for name, p in params.items()}
        fv = times_f(every)
        return {name: (fv[name] + h.damping * x).to(x.dtype) for name, x in v.items()}

    d, residual = conjugate_gradients(times, direction, iterations)
    size = inner(residual, residual) / inner(direction, direction)
    return d, {}, {"residual": size.sqrt()}


def conjugate_gradients(times: Callable[[Tree], Tree], g: Tree, iterations: int) -> tuple[Tree, Tree]:
    """What d solves M·d = g, by a fixed number of iterations from 0, and what is left of g."""
    d, residual, toward = map_tree(torch.zeros_like, g), g, g
    size = inner(g, g)
    for _ in range(iterations):
        moved = times(toward)
        step = _ratio(size, inner(toward, moved))
        d = _plus(d, step, toward)
        residual = _plus(residual, -step, moved)
        before, size = size, inner(residual, residual)
        toward = _plus(residual, _ratio(size, before), toward)
    return d, residual


def _plus(a: Tree, times: Tensor, b: Tree) -> Tree:
    return {name: x + times * b[name] for name, x in a.items()}


def _ratio(over: Tensor, under: Tensor) -> Tensor:
    """over / under, and 0 where there is nothing left to divide."""
    return torch.where(under == 0, torch.zeros_like(over), over / torch.where(under == 0, 1.0, under))


# --- Kronecker factors, layer by layer --------------------------------------------------------------------


def _kfac_start(params: Tree, h: Numbers, fisher: str) -> Held:
    held: Held = {name: {} for name in params}
    for name in pairs(params):
        p = params[name]
        outputs, inputs = p.shape[0], p[0].numel()
        for key, n in (("inputs", inputs + 1), ("outputs", outputs)):
            held[name][key] = torch.zeros(n, n, dtype=wide(p), device=p.device)
        held[name]["t"] = count(p, h)
    return held


@asking(
    start=_kfac_start,
    needs=("kron_factors",),
    together=True,
    options={"fisher": (FISHERS, "sampled")},
    discontinuous=True,
    damping=DAMPING,
    decay=UNIT,
)
def precondition_by_kfac(
    direction: Tree, held: Held, params: Tree, h: Any, oracle: Oracle, *, fisher: str
) -> tuple[Tree, Held, Info]:
    """The natural gradient, layer by layer, with F ≈ A ⊗ G: D = (G + √λ/π · I)⁻¹ · ∇W̄ · (A + π√λ · I)⁻¹.

        A ← ε·A + (1 − ε)·E[ā·āᵀ]     G ← ε·G + (1 − ε)·E[g·gᵀ]     ε = min(1 − 1/t, decay)
        π = √((tr A / dim A) / (tr G / dim G))

    ā are the inputs of a layer with a 1 behind them, g the gradients of its outputs for each example, W̄ its weight
    with the bias behind it. Tokens and places of a picture count as inputs of their own, whose Gs add up.

    Args:
        damping: λ; above 0.
        decay: the share of A and G that is kept at most, in [0, 1).
        fisher: the targets that G is an average over: exact, sampled or empirical.

    >>> precondition_by_kfac(0.01, 0.95, fisher="exact").options
    {'fisher': 'exact'}

    Source: Martens and Grosse, Optimizing neural networks with Kronecker-factored approximate curvature, 2015;
    Grosse and Martens, A Kronecker-factored approximate Fisher matrix for convolution layers, 2016. Without the
    paper's rescaling of the step by the whole Fisher matrix, its momentum of the same kind and its search for λ. What is
    neither the weight nor the bias of a layer keeps its gradient: ``select("layers", …)`` gives it to another rule.
    """
    mine = pairs(params)
    assert oracle.kron_factors is not None
    factors = oracle.kron_factors(fisher) if direction else {}
    out = dict(direction)
    after: Held = {name: {} for name in direction}
    for name, bias in mine.items():
        if name not in direction:
            continue
        if name not in factors:
            raise BadRule(
                f"{name!r} is a matrix that no linear layer, convolution or attention uses, so it has no Kronecker "
                f"factors: give it to another rule, as in fl.route({{{name!r}: fl.rules.adam()}}, otherwise=…)"
            )
        s, t = held[name], held[name]["t"] + 1
        keep = torch.minimum(1 - 1 / t, torch.as_tensor(h.decay, dtype=t.dtype, device=t.device))
        a, g = (
            keep * s[key] + (1 - keep) * x.to(s[key].dtype)
            for key, x in zip(("inputs", "outputs"), factors[name], strict=True)
        )
        a, g = a.to(s["inputs"].dtype), g.to(s["outputs"].dtype)
        after[name] = {"inputs": a, "outputs": g, "t": t}
        whole = direction[name].reshape(len(g), -1).to(g.dtype)
        if bias is None or bias not in direction:
            out[name] = _divided(whole, a[:-1, :-1], g, h.damping).reshape(direction[name].shape)
        else:
            both = torch.cat([whole, direction[bias].to(g.dtype)[:, None]], 1)
            d = _divided(both, a, g, h.damping)
            out[name], out[bias] = d[:, :-1].reshape(direction[name].shape), d[:, -1]
    return out, after, {}


def _divided(d: Tensor, a: Tensor, g: Tensor, damping: Tensor | float) -> Tensor:
    """(G + √λ/π · I)⁻¹ · D · (A + π√λ · I)⁻¹, π = 1 where A or G is zero."""
    ratio = (a.trace() / len(a)) / (g.trace() / len(g))
    balance = torch.where((ratio > 0) & torch.isfinite(ratio), ratio, 1.0).sqrt()
    root = damping**0.5
    return inverse_power(g, 1.0, root / balance) @ d @ inverse_power(a, 1.0, root * balance)
