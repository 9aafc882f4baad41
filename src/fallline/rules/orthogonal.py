"""Orthogonal steps: a running mean of gradients, and a matrix with its singular vectors and singular values near 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..specs import Domain
from ..types import Info, Numbers, Tree
from .asking import asking, own
from .base import EITHER, UNIT, Oracle, PerParameter
from .making import per_tensor, zeros
from .spectra import QUINTIC, as_matrix, by_shape, orthogonal, shape_scale

Held = dict[str, dict[str, Tensor]]
NORM = Domain(
    "the norm below which a matrix counts as zero, in the unit of the gradient", low=0.0, open_low=True
)
SCALES = ("original", "match_rms_adamw", "spectral", "none")
STACKED = 1 << 16
"""Entries up to which matrices of one shape are stacked on a CPU, where larger ones gain nothing from it."""


# --- the mean of gradients --------------------------------------------------------------------------------


@per_tensor(takes=EITHER, state={"mean": zeros}, beta=UNIT)
def smooth(d: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The running mean of what comes in: m ← β · m + (1 − β) · d, from 0, which it gives.

    Args:
        beta: the share of the mean that is kept at each step, in [0, 1).

    >>> smooth(0.9)
    smooth(beta=0.9)

    Source: Jordan and others, Muon, 2024, without Nesterov's momentum; not corrected for its start.
    """
    mean = torch.lerp(s.mean, d, _share(h.beta, d))
    return mean, {"mean": mean}


@per_tensor(takes=EITHER, state={"mean": zeros}, beta=UNIT)
def smooth_ahead(d: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The running mean one step further on: m ← β · m + (1 − β) · d; gives β · m + (1 − β) · d.

    Args:
        beta: the share of the mean that is kept at each step, in [0, 1).

    >>> smooth_ahead(0.95)
    smooth_ahead(beta=0.95)

    Source: Jordan and others, Muon, 2024: Nesterov's momentum for a running mean.
    """
    mean = torch.lerp(s.mean, d, _share(h.beta, d))
    return torch.lerp(mean, d, _share(h.beta, d)), {"mean": mean}


def _share(keep: Any, like: Tensor) -> Any:
    share = 1 - keep
    return share.to(like.dtype) if isinstance(share, Tensor) else share


# --- orthogonal steps -------------------------------------------------------------------------------------


@asking(
    start=lambda params, h, **options: {},
    options={
        "steps": (int, 5), "scale": (SCALES, "original"), "precision": (("own", "bfloat16"), "own"),
        "coefficients": (tuple, QUINTIC),
    },
    discontinuous=True,
    eps=NORM,
)  # fmt: skip
def orthogonalize(
    direction: Tree, held: Held, params: Tree, h: Numbers, oracle: Oracle | None,
    *, steps: int, scale: str, precision: str, coefficients: tuple[float, float, float],
) -> tuple[Tree, Held, Info]:  # fmt: skip
    """Replace the singular values of each matrix by numbers near 1: G = U·S·Vᵀ becomes about U·Vᵀ.

    X ← G / ‖G‖, then ``steps`` times X ← a·X + (b·XXᵀ + c·(XXᵀ)²)·X.

    Args:
        eps: the norm below which a matrix counts as zero, in the unit of the gradient; above 0.
        steps: how many steps; with the usual coefficients, singular values are between 0.7 and 1.2 after five where
            they were above about 1e-3 of the norm.
        scale: by what the result is multiplied for a matrix [rows, columns]: original √max(1, rows/columns),
            match_rms_adamw 0.2 · √max(rows, columns), spectral √(rows/columns), none 1.
        precision: own for the parameter's dtype, bfloat16 for products as ``torch.optim.Muon`` has them.
        coefficients: (a, b, c).

    >>> orthogonalize(1e-7, scale="spectral").options["scale"]
    'spectral'

    Source: Jordan and others, Muon: an optimizer for hidden layers in neural networks, 2024; match_rms_adamw of Liu
    and others, Muon is scalable for LLM training, 2025; spectral of Bernstein and Newhouse, Old optimizer, new norm,
    2024. Kernels are matrices of outputs by all that stands behind them, for the scale too, and vectors are matrices of
    one column. In the public
    implementation a kernel is scaled by √max(1, height/width) of its window.
    """
    out: Tree = {}
    flat = {}
    for name, g in direction.items():
        if not g.numel():
            out[name] = g
            continue
        flat[name] = as_matrix(g).to(torch.bfloat16 if precision == "bfloat16" else g.dtype)
    for (rows, columns), names in by_shape(flat).items():
        times = shape_scale(scale, rows, columns)
        for chosen in _stacks(names, flat, h["eps"]):
            whole = torch.stack([flat[n] for n in chosen]) if len(chosen) > 1 else flat[chosen[0]]
            near = orthogonal(whole, steps, coefficients, own(h, "eps", chosen[0]))
            for name, x in zip(chosen, near.unbind() if len(chosen) > 1 else (near,), strict=True):
                x = x.to(direction[name].dtype).reshape(direction[name].shape)
                out[name] = x * times if times != 1.0 else x
    return out, {}, {}


def _stacks(names: list[str], flat: Tree, eps: Any) -> list[list[str]]:
    first = flat[names[0]]
    together = (first.numel() <= STACKED or first.is_cuda) and not isinstance(eps, PerParameter)
    return [names] if together else [[name] for name in names]
