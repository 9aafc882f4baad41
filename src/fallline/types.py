"""Names for the types that appear everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor

Tree: TypeAlias = dict[str, Tensor]
"""Parameters, gradients or directions of one model: tensors by parameter name."""

Numbers: TypeAlias = Mapping[str, Any]
"""Hyperparameters at one step, by path: floats in an optimizer, 0-d tensors in a fleet."""

Info: TypeAlias = dict[str, Tensor]
"""What a rule tells about a step and does not need at the next one."""


class State(NamedTuple):
    """What a rule carries from step to step: tensors for each parameter, and some for the whole tree."""

    params: dict[str, dict[str, Tensor]]
    tree: dict[str, Tensor]
