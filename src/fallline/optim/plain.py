"""The plain path: what a step by torch's operations takes in, and what it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import rules
from ..errors import BadRule, BadValue
from ..specs import Rule
from ..types import Tree
from .clip_grad import check
from .fused import total_norm
from .plan import Part, real, wide

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


def refuse(name: str, p: Tensor, rule: Rule) -> None:
    """Refuse a parameter whose gradient the rule does not take."""
    assert p.grad is not None
    if p.grad.layout != torch.strided:
        raise BadValue(
            f"the gradient of parameter {name!r} is sparse, and rules take dense ones: pass sparse=False to its "
            "embedding, or train it with torch.optim.SparseAdam"
        )
    if p.is_conj() or p.is_neg():
        raise BadValue(
            f"parameter {name!r} is the conjugate or the negative of other memory, which no step can be written to: "
            "train torch.nn.Parameter(p.resolve_conj().resolve_neg())"
        )
    if p.is_complex() and not rules.as_vector(rule):
        raise BadValue(
            f"parameter {name!r} is complex, and {rule!r} looks at shapes: train torch.view_as_real of it"
        )


def gradient(name: str, p: Tensor, rule: Rule, uphill: bool, scale: Any) -> Tensor:
    """The gradient of a parameter as a rule takes it.

    Args:
        name: the parameter's name, for messages.
        p: the parameter.
        rule: the rule.
        uphill: whether its objective is maximized.
        scale: what gradients are multiplied by, a number or a 0-d tensor.
    """
    refuse(name, p, rule)
    assert p.grad is not None
    g = seen_by(rule)(p.grad)
    if isinstance(scale, Tensor) or scale != 1.0:
        g = (wide(g) * (scale.to(g.device) if isinstance(scale, Tensor) else scale)).to(g.dtype)
    return -g if uphill else g


def seen_by(rule: Rule) -> Callable[[Tensor], Tensor]:
    """How a rule is shown tensors: those of 16 bits as float32, unless it rounds by itself; complex ones as pairs."""
    return real if rules.rounds(rule) else wide


def share(parts: Sequence[Part], max_norm: float) -> tuple[Any, Tensor]:
    """What all gradients are multiplied by, so that their norm is at most ``max_norm``; and that norm, in float64."""
    check("step", "max_norm", max_norm)
    for part in parts:
        if rules.needs(part.rule):
            raise BadRule(
                f"step(max_norm={max_norm}) clips the gradients that are there, and {part.rule!r} asks for others: clip "
                "inside of the rule, as in fl.rules.sam(fl.chain(fl.rules.clip_norm(1.0), fl.rules.sgd(lr=0.1)))"
            )
    grads = [p.grad for part in parts for p in part.params.values() if p.grad is not None]
    norm = total_norm(map(real, grads), all(part.fused for part in parts))
    found = float(max_norm) / (norm + 1e-6)
    if isinstance(found, Tensor):
        found = found.clamp(max=1.0)
    elif found > 1:  # NaN stays
        found = 1.0
    return found, torch.as_tensor(norm, dtype=torch.float64)


def apart(kept: Tensor, p: Tensor) -> Tensor:
    """A state tensor that is not the parameter or its gradient, as both are changed in place later."""
    shares = kept.data_ptr() == p.data_ptr() or (p.grad is not None and kept.data_ptr() == p.grad.data_ptr())
    return kept.clone() if shares else kept
