"""The linear model."""

from __future__ import annotations

from torch import nn

from .declared import ADDITIVE, layer
from .init import started
from .parts import whole


@layer(lambda of: of(6, 3), (2, 3), ADDITIVE)
def linear(inputs: int, outputs: int, *, init: str = "default") -> nn.Sequential:
    """A linear model: x ↦ W x + b. Inputs of more axes are flattened first.

    Inductive bias: each input adds to an output in proportion, whatever the other inputs are.

    Args:
        inputs: numbers in an example.
        outputs: numbers that it gives.
        init: default (as ``torch.nn.Linear``), glorot, he or orthogonal; see ``fl.layers.init``.

    >>> linear(64, 10)[1]
    Linear(in_features=64, out_features=10, bias=True)

    Source: Gauss, Theoria motus corporum coelestium, 1809.
    """
    whole("linear", inputs=inputs, outputs=outputs)
    model = nn.Sequential(nn.Flatten(), nn.Linear(inputs, outputs))
    started(model, init)
    return model
