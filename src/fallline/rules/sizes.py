"""Rules that look at one tensor as a whole: at its mean, its norm, its rows and columns."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..specs import Domain
from .arithmetic import never_zero, number, running
from .base import EITHER, EPSILON, RATE
from .making import count, per_tensor

GROWTH = Domain("how fast the memory grows longer: β₂ = 1 − t^(−growth)", low=0.0)
SQUARE = Domain("added to squares, in squared units of the gradient", low=0.0)
LEAST = Domain("the least size that a tensor of weights counts as, as a root mean square", low=0.0)
BOUND = Domain("the largest root mean square of a tensor that is let through", low=0.0, open_low=True)


@per_tensor(elementwise=False, shaped=True)
def centralize(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Take its mean off the gradient of each output: g ← g − mean(g) over all axes but the first.

    Biases and scales, which have one axis or none, pass as they are.

    >>> from fallline import rules
    >>> rules.chain(centralize(), rules.sgd(lr=0.1))
    chain(centralize(), sgd(lr=0.1))

    Source: Yong, Huang, Hua and Zhang, Gradient centralization: a new optimization technique for deep neural
    networks, 2020.
    """
    return (g - g.mean(tuple(range(1, g.dim())), keepdim=True) if g.dim() > 1 else g), {}


@per_tensor(elementwise=False, discontinuous=True)
def scale_by_trust(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Give a direction the size of its tensor of weights: g · ‖w‖ / ‖g‖; as it is where either norm is 0.

    >>> from fallline import rules
    >>> rules.chain(scale_by_trust(), rules.descend(0.1))
    chain(scale_by_trust(), descend(lr=0.1))

    Source: You et al., Large batch optimization for deep learning: training BERT in 76 minutes, 2020, with φ(x) = x.
    """
    weight, size = (torch.linalg.vector_norm(t, dtype=torch.float64) for t in (p, g))
    both = (weight > 0) & (size != 0)  # a NaN is not 0, and stays
    return g * torch.where(both, weight / torch.where(both, size, 1.0), 1.0), {}


# --- the parts of Adafactor -------------------------------------------------------------------------------


def _over_columns(p: Tensor, h: Any) -> Tensor:
    """One number for each row of a matrix, or for each entry of a vector."""
    return torch.zeros_like(p.select(-1, 0).unsqueeze(-1) if _matrix(p) else p)


def _over_rows(p: Tensor, h: Any) -> Tensor:
    """One number for each column of a matrix; for a vector there is none."""
    return torch.zeros_like(p.select(-2, 0).unsqueeze(-2)) if _matrix(p) else p.new_zeros(())


def _matrix(p: Tensor) -> bool:
    return p.dim() > 1 and p.numel() > 0


@per_tensor(
    elementwise=False, shaped=True, state={"rows": _over_columns, "columns": _over_rows, "t": count}, growth=GROWTH, eps=SQUARE
)  # fmt: skip
def scale_by_factors(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Divide by the root of a running mean square kept as rows and columns: g / √(r · c / mean(r)).

    r and c are the running means of g² + eps over the columns and over the rows of the last two axes, with
    β₂ = 1 − t^(−growth), t from 1. A tensor of one axis keeps all of v. n + m numbers stand for n · m.

    Args:
        growth: how fast the memory grows longer; at least 0. At 0 there is none.
        eps: added to g², in squared units of the gradient; at least 0. With eps = 0, 0/0 counts as 0.

    >>> scale_by_factors(growth=0.8, eps=1e-30)
    scale_by_factors(growth=0.8, eps=1e-30)

    Source: Shazeer and Stern, Adafactor: adaptive learning rates with sublinear memory cost, 2018, algorithms 4
    and 5. As in torch, kernels are factored over their last two axes.
    """
    t, square, least = s.t + 1, g * g + h.eps, never_zero(0.0, g)
    keep = -torch.expm1(-h.growth * torch.log(t))
    if not _matrix(p):
        rows = running(s.rows, square, keep)
        return g / rows.sqrt().clamp(min=least), {"rows": rows, "columns": s.columns, "t": t}
    rows = running(s.rows, square.mean(-1, keepdim=True), keep)
    columns = running(s.columns, square.mean(-2, keepdim=True), keep)
    # roots before products: a product of two small squares underflows long before its root does
    share = rows.sqrt() / rows.mean(-2, keepdim=True).sqrt().clamp(min=least)
    return g / (share * columns.sqrt()).clamp(min=least), {"rows": rows, "columns": columns, "t": t}


@per_tensor(
    elementwise=False, shaped=True, state={"rows": _over_columns, "columns": _over_rows, "t": count}, growth=GROWTH, eps=EPSILON
)  # fmt: skip
def scale_by_bounded_factors(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """As ``scale_by_factors``, with eps as a bound: g / √max(r · c / max(mean(r), eps), eps²), r and c of g² alone.

    Args:
        growth: how fast the memory grows longer; at least 0. At 0 there is none.
        eps: the least √v that is divided by, in the unit of the gradient; at least 0. With eps = 0, 0/0 counts as 0.

    >>> scale_by_bounded_factors(growth=0.8, eps=1e-7)
    scale_by_bounded_factors(growth=0.8, eps=1e-07)

    Source: ``torch.optim.Adafactor``. The mean of r, a square, is bounded by eps itself there, so that the steps of
    gradients below √eps shrink.
    """
    t, least = s.t + 1, number(h.eps, g).clamp(min=never_zero(0.0, g))
    keep = -torch.expm1(-h.growth * torch.log(t))
    if not _matrix(p):
        rows = running(s.rows, g * g, keep)
        return g / rows.sqrt().maximum(least), {"rows": rows, "columns": s.columns, "t": t}
    rows = running(s.rows, (g * g).mean(-1, keepdim=True), keep)
    columns = running(s.columns, (g * g).mean(-2, keepdim=True), keep)
    share = rows.sqrt() / rows.mean(-2, keepdim=True).maximum(number(h.eps, g)).sqrt().clamp(
        min=never_zero(0.0, g)
    )
    return g / (share * columns.sqrt()).maximum(least), {"rows": rows, "columns": columns, "t": t}


@per_tensor(takes=EITHER, elementwise=False, shaped=True, most=BOUND)
def clip_rms(d: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Shrink each tensor whose root mean square is above a bound: d ← d / max(1, rms(d) / most).

    Args:
        most: the largest root mean square that is let through, above 0.

    >>> clip_rms(most=1.0)
    clip_rms(most=1)

    Source: update clipping of Shazeer and Stern, Adafactor, 2018, whose d it is.
    """
    return d / (_rms(d) / h.most).clamp(min=1.0), {}


@per_tensor(elementwise=False, shaped=True, least=LEAST)
def scale_by_size(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Step relative to the size of the weights: g · max(least, rms(w)).

    Args:
        least: the least size that a tensor of weights counts as, so that one of zeros can leave; at least 0.

    >>> scale_by_size(least=1e-3)
    scale_by_size(least=0.001)

    Source: relative step sizes of Shazeer and Stern, Adafactor, 2018, whose ε₂ it is.
    """
    return g * torch.maximum(_rms(p), number(h.least, _rms(p))), {}


@per_tensor(gives="step", state={"t": count}, lr=RATE)
def descend_slowing(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Turn a direction uphill into a step downhill, at a rate that falls in the end: −min(lr, 1/√t) · g, t from 1.

    Args:
        lr: the largest rate, which holds up to step 1/lr²; at least 0.

    >>> descend_slowing(lr=0.01)
    descend_slowing(lr=0.01)

    Source: the relative step size ρ of Shazeer and Stern, Adafactor, 2018.
    """
    t = s.t + 1
    return -g * torch.minimum(number(h.lr, t), 1 / t.sqrt()), {"t": t}


def _rms(t: Tensor) -> Tensor:
    """√(mean(t²)) in float64; 0 of a tensor without entries."""
    return torch.linalg.vector_norm(t, dtype=torch.float64) / math.sqrt(max(t.numel(), 1))
