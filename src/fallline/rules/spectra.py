"""Functions of whole matrices: orthogonal factors, eigenvectors, inverse powers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

QUINTIC = (3.4445, -4.775, 2.0315)
"""The coefficients that grow small singular values fastest, and leave all of them between 0.7 and 1.2."""


def orthogonal(
    x: Tensor, steps: int = 5, coefficients: tuple[float, float, float] = QUINTIC, eps: float = 1e-7
) -> Tensor:
    """Matrices with the singular vectors of ``x`` and singular values near 1, by Newton–Schulz steps.

    X ← X / max(‖X‖, eps), then ``steps`` times X ← a·X + (b·XXᵀ + c·(XXᵀ)²)·X.

    Args:
        x: matrices, [..., rows, columns].
        steps: how many steps.
        coefficients: (a, b, c).
        eps: the norm below which a matrix counts as zero.

    >>> orthogonal(torch.tensor([[3.0, 0.0], [0.0, 2.0]]), steps=20, coefficients=(1.875, -1.25, 0.375))
    tensor([[1., 0.],
            [0., 1.]])

    Source: Jordan and others, Muon: an optimizer for hidden layers in neural networks, 2024.
    """
    a, b, c = coefficients
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = _plus(x, a, _plus(gram, b, gram, gram, c), x)
    return x.mT if tall else x


def _plus(m: Tensor, scale: float, left: Tensor, right: Tensor, times: float = 1.0) -> Tensor:
    """scale · m + times · left · right, rounded once where the kernel can."""
    product = torch.addmm if m.ndim == 2 else torch.baddbmm
    return product(m, left, right, beta=scale, alpha=times)


def eigen(m: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues in rising order and eigenvectors of a symmetric matrix; of one that is not finite, those of 1.

    A library would end all runs of a block with an error where one of them has left the finite numbers.
    """
    finite = torch.isfinite(m).all()
    values, vectors = torch.linalg.eigh(
        torch.where(finite, m, torch.eye(len(m), dtype=m.dtype, device=m.device))
    )
    return values, vectors


def inverse_power(m: Tensor, power: float, damping: Tensor | float) -> Tensor:
    """(M + damping · 1)^−power of a symmetric matrix without negative eigenvalues; NaN where M is not finite.

    >>> inverse_power(torch.tensor([[4.0, 0.0], [0.0, 8.0]]), 0.5, 1.0).diag()
    tensor([0.4472, 0.3333])
    """
    values, vectors = eigen(m)
    powers = (values.clamp(min=0.0) + damping) ** -power
    return (vectors * powers.to(m.dtype)) @ vectors.mT + 0.0 * m


def as_matrix(t: Tensor) -> Tensor:
    """A kernel as a matrix, outputs by all that stands behind them; a vector as a matrix of one column."""
    return t if t.ndim == 2 else t.reshape(t.shape[0] if t.ndim > 2 else -1, -1 if t.ndim > 2 else 1)


def is_matrix(t: Tensor) -> bool:
    """Whether a parameter is one: two axes or more, and none of them empty."""
    return t.ndim >= 2 and t.numel() > 0


def by_shape(tree: Mapping[str, Tensor]) -> dict[tuple[int, ...], list[str]]:
    """The names of matrices that can be stacked, by their shape."""
    found: dict[tuple[int, ...], list[str]] = {}
    for name, t in tree.items():
        found.setdefault(tuple(t.shape), []).append(name)
    return found


def shape_scale(variant: str, rows: int, columns: int) -> float:
    """By how much an orthogonal step is scaled for the shape of its matrix.

    >>> [round(shape_scale(v, 8, 2), 3) for v in ("original", "match_rms_adamw", "spectral", "none")]
    [2.0, 0.566, 2.0, 1.0]
    """
    if variant == "original":
        return math.sqrt(max(1.0, rows / columns))
    if variant == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(rows / columns) if variant == "spectral" else 1.0


def wide(t: Tensor) -> torch.dtype:
    """The dtype of statistics: at least float32, as eigenvectors are computed in no less."""
    return t.dtype if t.dtype in (torch.float32, torch.float64) else torch.float32
