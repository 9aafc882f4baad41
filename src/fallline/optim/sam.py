"""Sharpness-aware minimization around any rule."""

from __future__ import annotations

from typing import Any

from .. import rules
from ..specs import Rule
from .composed import Optimizer


class SAM(Optimizer):
    """Train with the gradient from uphill: w ← w + rule(g(w + ρ · g / ‖g‖)), as in ``fl.rules.sam``.

    ``step(closure)`` calls the closure twice, the second time with the same noise; no ``first_step`` and
    ``second_step``, and nothing to undo.

    Args:
        params: parameters, groups of them, or ``model.named_parameters()``.
        rule: the rule that trains, as in ``fl.rules.sgd(lr=0.1)``.
        rho: the radius, in the unit of the parameters; at least 0.
        adaptive: whether the ball is relative to the parameters (ASAM).
        maximize: whether to climb instead of descend; the ball is then searched for the lowest point.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.ones(1))
    >>> optimizer = SAM([w], rules.sgd(lr=0.25), rho=0.5)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (w**2).sum()
    ...     loss.backward()
    ...     return loss
    >>> _ = optimizer.step(closure)
    >>> w.item()
    0.25

    Source: Foret and others, Sharpness-aware minimization for efficiently improving generalization, 2021.
    """

    def __init__(
        self, params: Any, rule: Rule, rho: float = 0.05, *, adaptive: bool = False, maximize: bool = False
    ) -> None:
        super().__init__(params, rules.sam(rule, rho=rho, adaptive=adaptive), maximize=maximize)
