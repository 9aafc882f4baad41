"""The multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import nn

from ..errors import BadValue, NotFound, nearest

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def mlp(*widths: int, activation: str = "relu") -> nn.Sequential:
    """A multi-layer perceptron: x ↦ W_L σ(… σ(W₁x + b₁) …) + b_L. Inputs of more axes are flattened first.

    Inductive bias: every output may depend on every input, and a small change of the input changes the output
    little; nothing is known about which inputs are neighbors.

    Args:
        *widths: the sizes of input, hidden layers and output, as in ``mlp(64, 32, 10)``.
        activation: relu, tanh, sigmoid, gelu or silu, after each layer but the last.

    >>> mlp(64, 32, 10)[1]
    Linear(in_features=64, out_features=32, bias=True)

    Source: Rumelhart, Hinton and Williams, Learning representations by back-propagating errors, 1986. Weights
    start as ``torch.nn.Linear`` has them.
    """
    if len(widths) < 2 or any(not isinstance(w, int) or w < 1 for w in widths):
        raise BadValue(
            f"mlp needs at least two widths, whole numbers above 0, as in mlp(64, 32, 10); got {widths}"
        )
    if activation not in ACTIVATIONS:
        raise NotFound(f"no activation is called {activation!r}; {nearest(activation, ACTIVATIONS)}")
    parts: list[nn.Module] = [nn.Flatten()]
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        parts += [ACTIVATIONS[activation]()] if i else []
        parts += [nn.Linear(inputs, outputs)]
    return nn.Sequential(*parts)
