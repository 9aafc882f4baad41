"""Arithmetic that rules share: running means, their corrections, and divisions that may meet a zero."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def never_zero(eps: Any, like: Tensor) -> Any:
    """eps, and in the place of 0 the root of the smallest normal number.

    A root mean square below that has lost its digits already. So 0/0 is 0, and a gradient whose square underflows
    makes no step larger than its neighbors do, without a look at every entry.
    """
    least = math.sqrt(torch.finfo(like.dtype).tiny)
    return torch.where(eps == 0, least, eps) if isinstance(eps, Tensor) else eps or least


def running(old: Tensor, new: Tensor, keep: Any) -> Tensor:
    """keep · old + (1 − keep) · new, in one pass and in the dtype of the old."""
    share = 1 - keep
    return torch.lerp(old, new.to(old.dtype), share.to(old.dtype) if isinstance(share, Tensor) else share)


def left(beta: Any, t: Tensor) -> Tensor:
    """1 − βᵗ, by functions whose digits do not depend on an entry's place in a tensor."""
    return -torch.expm1(t * torch.log(torch.as_tensor(beta, dtype=t.dtype, device=t.device)))


def corrected(mu: Tensor, nu: Tensor, left1: Tensor, left2: Tensor, eps: Any) -> Tensor:
    """(m / left1) / (√(v / left2) + eps), with the corrections gathered into two numbers."""
    return mu / (nu.sqrt() * (left1 / left2.sqrt()) + left1 * never_zero(eps, mu))


def number(value: Any, like: Tensor) -> Tensor:
    """A hyperparameter as a 0-d tensor of the dtype and device of another tensor."""
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


def signs(d: Tensor) -> Tensor:
    """The sign of each entry; NaN stays NaN, where ``torch.sign`` gives 0."""
    return torch.where(d.isnan(), d, d.sign())
