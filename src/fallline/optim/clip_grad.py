"""Clip the gradients that stand in ``p.grad``, in place, between ``backward()`` and ``step()``.

Inside a fleet, use ``fl.clip_norm`` and ``fl.clip_value`` instead: these functions would take the norm over the
stacked parameters of all runs, and one exploding run would shrink the steps of the others.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from types import GeneratorType
from typing import Any

import torch
from torch import Tensor
from torch.utils._foreach_utils import _device_has_foreach_support, _group_tensors_by_device_and_dtype

from ..errors import BadValue


@torch.no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Shrink all gradients together where their norm is above a bound: g ← g · min(1, max_norm / (‖g‖ + 1e-6)).

    The norm is taken over all gradients together, as if they were one long vector.

    Args:
        parameters: the parameters whose ``grad`` is changed in place; those without one are left out.
        max_norm: the largest norm that is let through, in the unit of the gradient; at least 0.
        norm_type: the p of the p-norm; ``"inf"`` and ``math.inf`` take the largest absolute value.
        error_if_nonfinite: whether to raise a ``RuntimeError`` where the norm is not finite; else the gradients
            become NaN or 0, as the formula says.
        foreach: whether all gradients of a dtype are taken at once, which is faster and has the same result; ``True``
            is refused on a device that cannot. Left out, where the device can.

    Returns:
        The norm before clipping, 0-d.

    >>> w = torch.nn.Parameter(torch.zeros(2))
    >>> w.grad = torch.tensor([3.0, 4.0])
    >>> clip_grad_norm_([w], max_norm=1.0), w.grad
    (tensor(5.), tensor([0.6000, 0.8000]))

    Source: ``torch.nn.utils.clip_grad_norm_``, which it equals in results and side effects, for bounds from 0 on
    (torch takes a negative one, and turns the gradients around). The slide's formula, and ``fl.clip_norm``, have no
    1e-6.
    """
    check("clip_grad_norm_", "max_norm", max_norm)
    grads = _gradients(parameters, warn=True)
    if not grads:
        return torch.tensor(0.0)
    norm_type, groups = float(norm_type), _groups(grads, foreach)
    norms = [
        norm.to(grads[0].device) for group, at_once in groups for norm in _norms(group, norm_type, at_once)
    ]
    total = torch.linalg.vector_norm(torch.stack(norms), norm_type)
    if error_if_nonfinite and not bool(torch.isfinite(total)):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be "
            "clipped. To disable this error and scale the gradients by the non-finite norm anyway, set "
            "`error_if_nonfinite=False`"
        )
    share = torch.clamp(float(max_norm) / (total + 1e-6), max=1.0)
    for group, at_once in groups:
        here = share.to(group[0].device)
        if at_once:
            torch._foreach_mul_(group, here)
        else:
            for g in group:
                g.mul_(here)
    return total


def _norms(grads: list[Tensor], order: float, at_once: bool) -> Iterable[Tensor]:
    if at_once:
        return torch._foreach_norm(grads, order)
    return [torch.linalg.vector_norm(g, order) for g in grads]


@torch.no_grad()
def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Bound each entry of the gradients: g ← max(−clip_value, min(clip_value, g)).

    Args:
        parameters: the parameters whose ``grad`` is changed in place; those without one are left out.
        clip_value: the largest size of an entry that is let through, in the unit of the gradient; at least 0.
        foreach: as in :func:`clip_grad_norm_`.

    >>> w = torch.nn.Parameter(torch.zeros(2))
    >>> w.grad = torch.tensor([3.0, -0.1])
    >>> clip_grad_value_([w], clip_value=1.0)
    >>> w.grad
    tensor([ 1.0000, -0.1000])

    Source: ``torch.nn.utils.clip_grad_value_``, which it equals in results and side effects.
    """
    check("clip_grad_value_", "clip_value", clip_value)
    limit = float(clip_value)
    for group, at_once in _groups(_gradients(parameters, warn=False), foreach):
        if at_once:
            torch._foreach_clamp_min_(group, -limit)
            torch._foreach_clamp_max_(group, limit)
        else:
            for g in group:
                g.clamp_(min=-limit, max=limit)


def check(owner: str, name: str, bound: float) -> None:
    """Refuse a bound that is not a number of at least 0."""
    if math.isnan(float(bound)) or float(bound) < 0:
        raise BadValue(
            f"{owner}({name}={bound}): {name} is in the unit of the gradient and at least 0; got {bound}"
        )


def _groups(grads: list[Tensor], foreach: bool | None) -> list[tuple[list[Tensor], bool]]:
    """The gradients by device and dtype, each group with whether it is taken at once.

    In torch's order of groups, which is not that of the parameters, so that the last digit of a norm is torch's too.
    """
    found: list[tuple[list[Tensor], bool]] = []
    if not grads:
        return found
    grouped: Any = _group_tensors_by_device_and_dtype([grads])  # type: ignore[list-item]
    for (device, _), ([group], _) in grouped.items():
        able = _device_has_foreach_support(device)
        if foreach and not able:
            raise RuntimeError(
                f"foreach=True was passed, but can't use the foreach API on {device.type} tensors"
            )
        found.append((group, able if foreach is None else foreach))
    return found


def _gradients(parameters: Tensor | Iterable[Tensor], *, warn: bool) -> list[Tensor]:
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    given = list(parameters)
    if warn and not given and isinstance(parameters, GeneratorType):
        warnings.warn("`parameters` is an empty generator, no gradient clipping will occur.", stacklevel=4)
    return [p.grad for p in given if p.grad is not None]
