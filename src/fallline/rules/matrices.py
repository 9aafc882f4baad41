"""Rules that scale a matrix from both sides, by the eigenvectors of G·Gᵀ and Gᵀ·G: Shampoo and SOAP."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..specs import Domain
from ..types import Info, Numbers, Tree
from .asking import asking, own
from .base import EPSILON, UNIT, Oracle
from .making import one
from .spectra import (
    as_matrix,
    eigen,
    inverse_power,
    is_matrix,
    wide,
)

Held = dict[str, dict[str, Tensor]]
KEPT = Domain("the share of past statistics that is kept, 1 for their plain sum", low=0.0, high=1.0)
RIDGE = Domain(
    "the damping, added to the eigenvalues of the statistics, in squared units of the gradient",
    low=0.0,
    open_low=True,
)


def _tiles(t: Tensor, size: int) -> dict[str, Tensor]:
    """A matrix in tiles of at most ``size`` rows and columns, by the place of each."""
    return {
        f"{i}.{j}": tile
        for i, band in enumerate(as_matrix(t).split(size, 0))
        for j, tile in enumerate(band.split(size, 1))
    }


def _untiled(tiles: dict[str, Tensor], like: Tensor, size: int) -> Tensor:
    rows = [
        [t for place, t in tiles.items() if place.startswith(f"{i}.")]
        for i in range(-(-like.shape[0] // size))
    ]
    return torch.cat([torch.cat(row, 1) for row in rows], 0).reshape(like.shape)


def _seen(tile: Tensor, sides: str) -> list[str]:
    """Which sides of a tile have statistics."""
    if sides == "both":
        return ["left", "right"]
    return ["left" if tile.shape[0] <= tile.shape[1] else "right"]


def _shampoo_start(params: Tree, h: Numbers, block_size: int, sides: str, graft: str) -> Held:
    held: Held = {}
    for name, p in params.items():
        held[name] = {}
        if is_matrix(p):
            for place, tile in _tiles(p, block_size).items():
                for side in _seen(tile, sides):
                    n = tile.shape[0] if side == "left" else tile.shape[1]
                    held[name][f"{side}.{place}"] = torch.zeros(n, n, dtype=wide(p), device=p.device)
        if not is_matrix(p) or graft == "adagrad":
            held[name]["total"] = torch.zeros_like(p, dtype=wide(p))
    return held


@asking(
    start=_shampoo_start,
    options={
        "block_size": (int, 1024), "sides": (("both", "smaller"), "both"), "graft": (("none", "sgd", "adagrad"), "none")
    },
    decay=KEPT,
    damping=RIDGE,
)  # fmt: skip
def scale_by_shampoo(
    direction: Tree, held: Held, params: Tree, h: Numbers, oracle: Oracle | None,
    *, block_size: int, sides: str, graft: str,
) -> tuple[Tree, Held, Info]:  # fmt: skip
    """Scale a matrix from both sides: L ← L + G·Gᵀ, R ← R + Gᵀ·G, then (L + εI)^−¼ · G · (R + εI)^−¼.

    Roots are exact, by eigenvectors, at every step. What has fewer than two axes is divided by √(Σ g² + ε).

    Args:
        decay: the share of past statistics that is kept, in [0, 1]; below 1 a running mean, L ← decay·L +
            (1 − decay)·G·Gᵀ, and 1 for their sum.
        damping: ε, in squared units of the gradient; above 0.
        block_size: rows and columns of the largest tile; larger matrices are cut into tiles, each for itself.
        sides: both, or smaller for statistics of the shorter side alone, with exponent −½.
        graft: the size of the step of each parameter: none for its own, or that of sgd (‖g‖) or adagrad
            (‖g / √(Σ g² + ε)‖, which keeps statistics as ``decay`` says).

    >>> scale_by_shampoo(decay=1.0, damping=1e-6, graft="adagrad").options["graft"]
    'adagrad'

    Source: Gupta, Koren and Singer, Shampoo: preconditioned stochastic tensor optimization, 2018, for matrices;
    blocks and grafting of Anil and others, Scalable second order optimization for deep learning, 2020. A kernel is a
    matrix of outputs by all that stands behind them, where the paper has a side for each axis.
    """
    out: Tree = {}
    after: Held = {}
    for name, g in direction.items():
        decay, damping = own(h, "decay", name), own(h, "damping", name)
        new = 1 - decay if not isinstance(decay, Tensor) else torch.where(decay < 1, 1 - decay, 1.0)
        add = _Adding(held[name], decay, new or 1.0 if not isinstance(new, Tensor) else new)
        d = g.to(wide(g))
        if not is_matrix(g):
            out[name] = d / (add("total", d * d) + damping).sqrt()
        else:
            tiles = {
                place: _scaled_tile(tile, place, sides, add, damping)
                for place, tile in _tiles(d, block_size).items()
            }
            out[name] = _untiled(tiles, g, block_size)
            if graft != "none":
                size = d if graft == "sgd" else d / (add("total", d * d) + damping).sqrt()
                out[name] = out[name] * _ratio(size, out[name])
        after[name] = add.held
    return out, after, {}


class _Adding:
    """Statistics of one parameter, and what they become: s ← decay · s + new · x."""

    def __init__(self, before: dict[str, Tensor], decay: Any, new: Any) -> None:
        self.before, self.decay, self.new = before, decay, new
        self.held: dict[str, Tensor] = {}

    def __call__(self, key: str, x: Tensor) -> Tensor:
        old = self.before[key]
        self.held[key] = (self.decay * old + self.new * x).to(old.dtype)
        return self.held[key]


def _scaled_tile(g: Tensor, place: str, sides: str, add: _Adding, damping: Any) -> Tensor:
    seen = _seen(g, sides)
    power = 0.5 / len(seen)
    if "left" in seen:
        left = inverse_power(add(f"left.{place}", g @ g.mT), power, damping)
    if "right" in seen:
        g = g @ inverse_power(add(f"right.{place}", g.mT @ g), power, damping)
    return left @ g if "left" in seen else g


def _ratio(size: Tensor, d: Tensor) -> Tensor:
    """‖size‖ / ‖d‖, and 0 where both are 0."""
    over, under = torch.linalg.vector_norm(size), torch.linalg.vector_norm(d)
    return over / torch.where(under == 0, 1.0, under)


# --- SOAP -------------------------------------------------------------------------------------------------


def _soap_start(params: Tree, h: Numbers, largest: int) -> Held:
    held: Held = {}
    for name, p in params.items():
        held[name] = {key: torch.zeros_like(p, dtype=wide(p)) for key in ("mu", "nu")}
        held[name].update(first=one(p, h), second=one(p, h))
        for side, n in _sides(p, largest).items():
            held[name][side] = torch.zeros(n, n, dtype=wide(p), device=p.device)
    return held


def _sides(p: Tensor, largest: int) -> dict[str, int]:
    """The sides of a parameter that are turned, with their lengths."""
    shape = as_matrix(p).shape if is_matrix(p) else ()
    return {side: n for side, n in zip(("left", "right"), shape, strict=False) if n <= largest}


@asking(
    start=_soap_start,
    options={"largest": (int, 10_000)},
    discontinuous=True,
    beta1=UNIT,
    beta2=UNIT,
    decay=UNIT,
    eps=EPSILON,
)
def scale_by_soap(
    direction: Tree, held: Held, params: Tree, h: Numbers, oracle: Oracle | None, *, largest: int
) -> tuple[Tree, Held, Info]:
    """Adam in the basis of Shampoo: with P, Q the eigenvectors of L and R, P · (m̂' / (√v̂ + eps)) · Qᵀ.

        L ← decay · L + (1 − decay) · G·Gᵀ     R ← decay · R + (1 − decay) · Gᵀ·G
        m ← β₁ · m + (1 − β₁) · G     m' = Pᵀ·m·Q     v ← β₂ · v + (1 − β₂) · (Pᵀ·G·Q)²

    Args:
        beta1: the share of the running mean that is kept, in [0, 1).
        beta2: the share of the running mean square, in the turned basis, that is kept, in [0, 1).
        decay: the share of L and R that is kept, in [0, 1).
        eps: added to √v̂, in the unit of the gradient; at least 0. With eps = 0, x/0 counts as 0.
        largest: a side that is longer is not turned.

    >>> scale_by_soap(0.95, 0.95, 0.95, 1e-8, largest=512).options
    {'largest': 512}

    Source: Vyas and others, SOAP: improving and stabilizing Shampoo using Adam, 2024. Eigenvectors are exact at every
    step, in rising order, where the paper follows them by one step of orthogonal iteration every 10 steps; the first
    step is taken, where the paper's code only looks at the first gradient. What has fewer than two axes has Adam.
    """
    out: Tree = {}
    after: Held = {}
    for name, g in direction.items():
        s, beta1, beta2, decay, eps = (
            held[name],
            *(own(h, k, name) for k in ("beta1", "beta2", "decay", "eps")),
        )
        d, kept, turns = as_matrix(g.to(wide(g))) if is_matrix(g) else g.to(wide(g)), {}, {}
        for side in _sides(g, largest):
            x = d @ d.mT if side == "left" else d.mT @ d
            kept[side] = decay * s[side] + (1 - decay) * x
            turns[side] = eigen(kept[side].to(s[side].dtype))[1]
        turned = _turned(d, turns)
        mu = beta1 * s["mu"] + (1 - beta1) * d.reshape(g.shape)
        nu = beta2 * s["nu"] + (1 - beta2) * (turned * turned).reshape(g.shape)
        first, second = s["first"] * beta1, s["second"] * beta2
        low = torch.finfo(d.dtype).tiny ** 0.5
        root = (nu / (1 - second)).sqrt().reshape(d.shape) + (
            torch.where(eps == 0, low, eps) if isinstance(eps, Tensor) else eps or low
        )
        step = _turned((mu / (1 - first)).to(d.dtype).reshape(d.shape), turns) / root.to(d.dtype)
        out[name] = _turned(step, {side: turn.mT for side, turn in turns.items()}).reshape(g.shape)
        after[name] = {**kept, "mu": mu, "nu": nu, "first": first, "second": second}
    return out, after, {}


def _turned(d: Tensor, turns: dict[str, Tensor]) -> Tensor:
    """Pᵀ·d·Q."""
    d = turns["left"].mT @ d if "left" in turns else d
    return d @ turns["right"] if "right" in turns else d
