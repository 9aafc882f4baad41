"""Losses for classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import BadTask
from .base import define


def _classes(given: Any) -> None:
    prediction, target = given.prediction, given.target
    if prediction.ndim < 2 or not prediction.is_floating_point():
        raise BadTask(
            f"cross_entropy needs logits [examples, classes], the model gives {list(prediction.shape)}"
        )
    whole = not (target.is_floating_point() or target.is_complex() or target.dtype == torch.bool)
    if not whole or target.shape != (prediction.shape[0], *prediction.shape[2:]):
        raise BadTask(
            f"cross_entropy needs class numbers {[prediction.shape[0], *prediction.shape[2:]]} of an integer type for "
            f"logits {list(prediction.shape)}, the target is {list(target.shape)} of {target.dtype}"
        )
    low, high, classes = int(target.min()), int(target.max()), prediction.shape[1]
    if low < 0 or high >= classes:
        remedy = f"give the model {high + 1} outputs, or number the labels from 0"
        raise BadTask(
            f"the labels go from {low} to {high}, but the model has {classes} outputs, for the labels 0 to "
            f"{classes - 1}: {'number the labels from 0' if low < 0 else remedy}"
        )


@define(needs=("prediction", "target"), check=_classes)
def cross_entropy(given: Any, h: Any) -> Tensor:
    """Cross-entropy from logits, for each example, in nats: ℓ = −log softmax(z)_y = log Σ_k exp(z_k) − z_y.

    The softmax is inside: a model that ends in a softmax of its own applies it twice. prediction: logits
    [examples, classes, …]; target: class numbers [examples, …] from 0 to classes − 1, averaged over further axes.

    >>> import torch
    >>> cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    tensor(0.6931)

    Source: the lecture's slide on cross-entropy, with one-hot targets; equals ``torch.nn.functional.cross_entropy``.
    """
    z = given.prediction
    z = z - z.detach().amax(1, keepdim=True)  # the same softmax, without overflow
    each = z.exp().sum(1).log() - z.gather(1, given.target.long().unsqueeze(1)).squeeze(1)
    return each.flatten(1).mean(1) if each.ndim > 1 else each
