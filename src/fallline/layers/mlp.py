"""The multi-layer perceptron."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from ..errors import BadValue
from .declared import layer
from .init import started
from .parts import ACTIVATIONS as ACTIVATIONS
from .parts import activated, is_whole, known, normalized


@layer(lambda of: of(6, 5, 3), (2, 3))
@layer(lambda of: of(6, 5, 3, norm="batch", activation="gelu", init="own"), (6,))
def mlp(*widths: int, activation: str = "relu", norm: str = "none", init: str = "default") -> nn.Sequential:
    """A multi-layer perceptron: x ↦ W_L σ(… σ(W₁x + b₁) …) + b_L. Inputs of more axes are flattened first.

    Inductive bias: every output may depend on every input, and a small change of the input changes the output
    little; nothing is known about which inputs are neighbors.

    Args:
        *widths: the sizes of input, hidden layers and output, as in ``mlp(64, 32, 10)``.
        activation: relu, tanh, sigmoid, centered_sigmoid, gelu or silu, after each layer but the last.
        norm: none, batch or layer: what normalizes before each activation.
        init: default (as ``torch.nn.Linear``), glorot, he, orthogonal, or own, that of the activation; see
            ``fl.layers.init``.

    >>> mlp(64, 32, 10)[1]
    Linear(in_features=64, out_features=32, bias=True)

    Source: Rumelhart, Hinton and Williams, Learning representations by back-propagating errors, 1986.
    """
    if len(widths) < 2 or not all(map(is_whole, widths)):
        raise BadValue(
            f"mlp needs at least two widths, whole numbers above 0, as in mlp(64, 32, 10); got {widths}"
        )
    known("activation", activation, ACTIVATIONS)
    parts: list[nn.Module] = [nn.Flatten()]
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        parts += [*normalized(norm, inputs), activated(activation)] if i else []
        parts += [nn.Linear(inputs, outputs)]
    normalized(norm, 1)  # a name that is not known is refused by a model without hidden layers, too
    model = nn.Sequential(*parts)
    started(model, init, activation)
    return model
