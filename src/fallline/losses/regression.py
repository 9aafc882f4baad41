"""Losses for numbers: errors summed over outputs, as on the lecture's slide, and the angle between output and target."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import BadTask
from ..specs import Domain
from .base import define


def _same_shape(given: Any) -> None:
    prediction, target = given.prediction, given.target
    if prediction.shape != target.shape:
        raise BadTask(
            f"the model gives {list(prediction.shape)} and the target is {list(target.shape)}: they must have one "
            "shape (a target [n] and a prediction [n, 1] would be compared all against all; use y.reshape(-1, 1))"
        )
    if not target.is_floating_point():
        raise BadTask(f"the target of a regression must be floating point, got {target.dtype}: use y.float()")


def _summed(each: Tensor) -> Tensor:
    return each.flatten(1).sum(1) if each.ndim > 1 else each


@define(needs=("prediction", "target"), check=_same_shape)
def mse(given: Any, h: Any) -> Tensor:
    """Squared error (L2), summed over outputs, for each example: ℓ = ‖y − f(x)‖₂² = Σ_k (y_k − f_k(x))².

    The batch's loss is the mean over examples, in the squared unit of y; its minimizer is the conditional mean.
    prediction and target: [examples, …] of one shape. ``torch.nn.functional.mse_loss`` takes the mean over
    outputs too, which is smaller by the number of outputs.

    >>> import torch
    >>> mse(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]]))
    tensor(5.)

    Source: the lecture's slide on L2.
    """
    return _summed((given.prediction - given.target) ** 2)


@define(needs=("prediction", "target"), check=_same_shape)
def mae(given: Any, h: Any) -> Tensor:
    """Absolute error (L1), summed over outputs, for each example: ℓ = ‖y − f(x)‖₁ = Σ_k |y_k − f_k(x)|.

    The batch's loss is the mean over examples, in the unit of y; its minimizer is the conditional median.
    prediction and target: [examples, …] of one shape. ``torch.nn.functional.l1_loss`` takes the mean over
    outputs too, which is smaller by the number of outputs.

    >>> import torch
    >>> mae(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 0.0]]))
    tensor(3.)

    Source: the lecture's slide on L1.
    """
    return _summed((given.prediction - given.target).abs())


DELTA = Domain("the error from which on it counts linearly, in the unit of y", low=0.0, open_low=True)
LEVEL = Domain(
    "the share of targets that are to lie below the output", low=0.0, high=1.0, open_low=True, open_high=True
)


@define(needs=("prediction", "target"), check=_same_shape, delta=(DELTA, 1.0))
def huber(given: Any, h: Any) -> Tensor:
    """Huber's error, summed over outputs, for each example: ℓ = Σ_k ½e² where |e| ≤ δ, else δ · (|e| − ½δ), e = y − f(x).

    Half the squared error near the target and the absolute error, times δ, far from it, so that an outlier pulls no
    harder than δ. prediction and target: [examples, …] of one shape. ``torch.nn.functional.huber_loss`` takes the mean
    over outputs.

    Args:
        delta: δ, the error from which on it counts linearly, in the unit of y; above 0.

    >>> import torch
    >>> huber(torch.tensor([[0.5, 3.0]]), torch.tensor([[0.0, 0.0]]))
    tensor(2.6250)

    Source: Huber, Robust estimation of a location parameter, 1964.
    """
    far = (given.prediction - given.target).abs()
    near = torch.minimum(far, h.delta * torch.ones_like(far))
    return _summed(near * (far - 0.5 * near))


@define(needs=("prediction", "target"), check=_same_shape, level=(LEVEL, 0.5))
def quantile(given: Any, h: Any) -> Tensor:
    """The pinball loss, summed over outputs, for each example: ℓ = Σ_k max(q · e, (q − 1) · e), e = y − f(x).

    Its minimizer is the conditional quantile: a share q of the targets lies below the output. q = ½ is half of ``mae``.
    prediction and target: [examples, …] of one shape.

    Args:
        level: q, the share of targets that are to lie below the output; between 0 and 1.

    >>> import torch
    >>> quantile(level=0.9)(torch.tensor([0.0, 0.0]), torch.tensor([1.0, -1.0]))
    tensor(0.5000)

    Source: Koenker and Bassett, Regression quantiles, 1978.
    """
    short = given.target - given.prediction
    return _summed(torch.maximum(h.level * short, (h.level - 1) * short))


def _directions(given: Any) -> None:
    _same_shape(given)
    if given.prediction.ndim < 2 or given.prediction.flatten(1).shape[1] < 2:
        raise BadTask(
            f"cosine compares directions, which need two outputs at least: the model gives {list(given.prediction.shape)}; "
            "use mse or mae for a single number"
        )


@define(needs=("prediction", "target"), check=_directions)
def cosine(given: Any, h: Any) -> Tensor:
    """One minus the cosine similarity, for each example: ℓ = 1 − y · f(x) / (‖y‖₂ ‖f(x)‖₂), from 0 to 2.

    It does not see the length of the output, and its gradient is orthogonal to the output. A vector of zeros has no
    direction: where output or target is one, ℓ = 1, and the gradient at such an output points to the target with length
    1, so that training can leave it. prediction and target: [examples, outputs, …] of one shape.

    >>> import torch
    >>> cosine(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([[3.0, 4.0], [3.0, 4.0]]))
    tensor(0.7000)

    Source: the lecture's slide on cosine similarity, which gives the similarity: the loss is one minus it. scikit-learn's
    ``cosine_distances`` gives the same numbers.
    """
    f, y = _scaled(given.prediction.flatten(1)), _scaled(given.target.flatten(1))
    return 1 - (f * y).sum(1) / (_length(f) * _length(y))


def _scaled(x: Tensor) -> Tensor:
    """Each row over its largest entry, so that no square overflows; a row of zeros as it is."""
    largest = x.detach().abs().amax(1, keepdim=True)
    return x / torch.where(largest == 0, torch.ones_like(largest), largest)


def _length(x: Tensor) -> Tensor:
    square = (x * x).sum(1)
    return torch.where(square == 0, torch.ones_like(square), square).sqrt()
