"""Losses for numbers: squared and absolute error, summed over outputs as on the lecture's slide."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..errors import BadTask
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
