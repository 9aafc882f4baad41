"""Rules that pull weights toward zero: through the gradient, and beside it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .base import DECAY, RATE
from .making import per_tensor


@per_tensor(weight_decay=DECAY)
def add_decay(g: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Coupled decay: g + weight_decay · w, the gradient of ½ · weight_decay · ‖w‖² added to the loss.

    Args:
        weight_decay: the weight of the penalty; at least 0.

    >>> from fallline import rules
    >>> rules.chain(add_decay(0.01), rules.sgd(lr=0.1))
    chain(add_decay(weight_decay=0.01), sgd(lr=0.1))

    Source: Hanson and Pratt, Comparing biases for minimal network construction with back-propagation, 1988;
    ``weight_decay`` of ``torch.optim.SGD`` and ``torch.optim.Adam``.
    """
    return g + h.weight_decay * p, {}


@per_tensor(takes=("step",), gives="done", lr=RATE, weight_decay=DECAY)
def shrink(d: Tensor, s: Any, p: Tensor, h: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Decoupled decay: d − lr · weight_decay · w, after the step has been scaled.

    Args:
        lr: the learning rate that the decay is multiplied by; at least 0.
        weight_decay: the share of each weight that is taken off per step for a rate of 1; at least 0.

    >>> from fallline import rules
    >>> rules.chain(rules.descend(0.1), shrink(0.1, 0.01))
    chain(descend(lr=0.1), shrink(lr=0.1, weight_decay=0.01))

    Source: Loshchilov and Hutter, Decoupled weight decay regularization, 2019, in the form of ``torch.optim.AdamW``.
    """
    return d - (h.lr * h.weight_decay) * p, {}
