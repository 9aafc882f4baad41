"""The plain path: what a step by torch's operations takes in, and what it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .. import rules
from ..errors import BadValue
from ..specs import Rule
from ..types import Tree
from .plan import wide

PORTION = 1 << 20
"""Entries that are stepped together by torch's operations, so that not much memory is held on the way."""


def portions(rule: Rule, live: Tree) -> Iterator[Tree]:
    """Parameters that are stepped together: all of them, unless each entry is treated alone."""
    portion: Tree = {}
    alone, size = rules.elementwise(rule), 0
    for name, p in live.items():
        if portion and alone and size + p.numel() > PORTION:
            yield portion
            portion, size = {}, 0
        portion[name] = p
        size += p.numel()
    yield portion


def gradient(name: str, p: Tensor, uphill: bool, scale: Any) -> Tensor:
    """The gradient of a parameter as a rule takes it.

    Args:
        name: the parameter's name, for messages.
        p: the parameter.
        uphill: whether its objective is maximized.
        scale: what gradients are multiplied by, a number or a 0-d tensor.
    """
    g = p.grad
    assert g is not None
    if g.layout != torch.strided:
        raise BadValue(
            f"the gradient of parameter {name!r} is sparse, and rules take dense ones: pass sparse=False to its "
            "embedding, or train it with torch.optim.SparseAdam"
        )
    if g.is_complex():
        raise BadValue(f"parameter {name!r} is complex: train torch.view_as_real of it")
    g = wide(g)
    if isinstance(scale, Tensor) or scale != 1.0:
        g = (g * (scale.to(g.device) if isinstance(scale, Tensor) else scale)).to(g.dtype)
    return -g if uphill else g


def apart(kept: Tensor, p: Tensor) -> Tensor:
    """A state tensor that is not the parameter or its gradient, as both are changed in place later."""
    shares = kept.data_ptr() == p.data_ptr() or (p.grad is not None and kept.data_ptr() == p.grad.data_ptr())
    return kept.clone() if shares else kept
