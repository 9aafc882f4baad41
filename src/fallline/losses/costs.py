"""Losses for decisions that cost differently: what a wrong answer costs depends on which one it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import BadTask, BadValue
from ..specs import Domain, Loss
from .base import define
from .classification import _averaged, _classes, _log_shares, _yes_or_no, log_sigmoid, truths

COST = Domain("what such an error costs, in any unit of which the other costs are", low=0.0)


@define(
    needs=("prediction", "target"), logits=True, check=_yes_or_no("expected_cost"), false_positive=(COST, 1.0), false_negative=(COST, 1.0)
)  # fmt: skip
def expected_cost(given: Any, h: Any) -> Tensor:
    """The cost that a yes or no by chance would have, for each example: ℓ = t · c_FN · (1 − σ(z)) + (1 − t) · c_FP · σ(z).

    Minimizing it makes the decision itself good, and says nothing about probabilities; :func:`bayes_threshold` is the
    other way, which moves the threshold of good probabilities. prediction: logits [examples] or [examples, labels, …];
    target: truths from 0 to 1 of the same shape, or [examples] for [examples, 1]; averaged over labels.

    Args:
        false_positive: c_FP, the cost of a yes where no is true; at least 0.
        false_negative: c_FN, the cost of a no where yes is true; at least 0.

    >>> import torch
    >>> expected_cost(false_negative=5.0)(torch.tensor([0.0, 0.0]), torch.tensor([1, 0]))
    tensor(1.5000)

    Source: Elkan, The foundations of cost-sensitive learning, 2001.
    """
    z, t = given.prediction, truths(given)
    return _averaged(
        t * h.false_negative * log_sigmoid(-z).exp() + (1 - t) * h.false_positive * log_sigmoid(z).exp()
    )


def _paid(target: int, answer: int) -> str:
    return f"cost_{target}_{answer}"


@define(needs=("prediction", "target"), logits=True, check=_classes("cost_matrix"))
def cost_matrix(given: Any, h: Any) -> Tensor:
    """The cost that a class by chance would have, for each example: ℓ = Σ_k C[y, k] · softmax(z)_k.

    Without costs of one's own it is the probability of an error. :func:`costs` gives it a matrix. prediction: logits
    [examples, classes, …]; target: class numbers [examples, …]; averaged over further axes.

    >>> import torch
    >>> cost_matrix(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    tensor(0.5000)

    Source: Elkan, The foundations of cost-sensitive learning, 2001.
    """
    z, found = given.prediction, vars(h)
    count = z.shape[1]
    usual = [[float(i != k) for k in range(count)] for i in range(count)]
    rows = [
        torch.stack([_as(found.get(_paid(i, k), usual[i][k]), z) for k in range(count)]) for i in range(count)
    ]
    own = torch.stack(rows)[given.target.long()].movedim(-1, 1)  # [examples, classes, …]
    return _averaged((own * _log_shares(z).exp()).sum(1))


def _as(number: Any, like: Tensor) -> Tensor:
    return torch.as_tensor(number, device=like.device).to(like.dtype)


def costs(matrix: Sequence[Sequence[float]]) -> Loss:
    """The loss :func:`cost_matrix` with costs of one's own, each of which may be an axis of a fleet.

    Args:
        matrix: C[y][k], what the answer k costs where y is true; [classes][classes], at least 0.

    >>> costs([[0, 1], [5, 0]])
    cost_matrix(cost_0_0=0, cost_0_1=1, cost_1_0=5, cost_1_1=0)
    """
    rows = [list(row) for row in matrix]
    if len(rows) < 2 or any(len(row) != len(rows) for row in rows):
        raise BadValue(
            f"costs needs a square matrix, a row for each class that is true; got rows of {[len(row) for row in rows]}"
        )
    numbers = {_paid(i, k): cost for i, row in enumerate(rows) for k, cost in enumerate(row)}
    for name, cost in numbers.items():
        COST.check("costs", name, cost)
    return Loss("cost_matrix", numbers)


def bayes_threshold(false_positive: float, false_negative: float) -> float:
    """The probability of yes from which on a yes costs less: c_FP / (c_FP + c_FN).

    >>> bayes_threshold(1.0, 4.0)
    0.2

    Source: Elkan, The foundations of cost-sensitive learning, 2001.
    """
    for name, cost in (("false_positive", false_positive), ("false_negative", false_negative)):
        COST.check("bayes_threshold", name, cost)
    if false_positive + false_negative == 0:
        raise BadValue("bayes_threshold: both errors are free, so that every answer is as good as any other")
    return false_positive / (false_positive + false_negative) if math.isfinite(false_negative) else 0.0


def _outputs(given: Any) -> None:
    if given.prediction.ndim < 2 or not given.prediction.is_floating_point():
        raise BadTask(
            f"confidence_penalty needs logits [examples, classes], the model gives {list(given.prediction.shape)}"
        )


@define(needs=("prediction",), logits=True, check=_outputs)
def confidence_penalty(given: Any, h: Any) -> Tensor:
    """The negative entropy of the output's probabilities, for each example, in nats: ℓ = Σ_k p_k log p_k, p = softmax(z).

    Lowest, −log K, where all classes are as probable: ``cross_entropy + 0.1 * confidence_penalty`` holds probabilities
    away from 0 and 1. prediction: logits [examples, classes, …]; averaged over further axes.

    >>> import torch
    >>> confidence_penalty(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
    tensor(-0.6931)

    Source: Pereyra et al., Regularizing neural networks by penalizing confident output distributions, 2017; the lecture's
    "output probability close to 0.5".
    """
    log_p = _log_shares(given.prediction)
    return _averaged((log_p.exp() * log_p).sum(1))
