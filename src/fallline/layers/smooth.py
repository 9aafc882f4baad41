"""Smoothness: a layer with a bound, and two penalties."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import BadTask, BadValue
from .declared import bounded, layer
from .parts import whole


@layer(lambda of: of(5, 4, bound=0.5), (5,), bounded(0.5))
class LipschitzLinear(nn.Module):
    """A linear layer that stretches nothing by more than a bound: y = W x · min(1, bound / σ₁(W)) + b.

    σ₁ is the largest singular value, computed exactly, so that ‖f(x) − f(z)‖ ≤ bound ‖x − z‖ holds for all weights, and
    gradients go through the bound. With activations of slope at most 1 a chain of such layers has the product
    of their bounds.

    Inductive bias: a small change of the input changes the output little, by a stated bound.

    Args:
        inputs: numbers that come in.
        outputs: numbers that go out.
        bound: on the ratio of changes, above 0.

    >>> layer = LipschitzLinear(5, 4, bound=2.0)
    >>> bool(torch.linalg.matrix_norm(layer.matrix(), 2) <= 2.0 + 1e-6)
    True

    Source: Gouk et al., Regularization of neural networks by enforcing Lipschitz continuity, 2018; there after each step
    and by power iteration, here within the layer. Weights start as those of ``torch.nn.Linear``.
    """

    bound: Tensor

    def __init__(self, inputs: int, outputs: int, bound: float = 1.0) -> None:
        super().__init__()
        whole("LipschitzLinear", inputs=inputs, outputs=outputs)
        if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not 0 < bound < math.inf:
            raise BadValue(f"bound of LipschitzLinear is a number above 0, got {bound!r}")
        like = nn.Linear(inputs, outputs)
        self.weight, self.bias = like.weight, like.bias
        # a buffer, as it may differ between runs that share a program
        self.register_buffer("bound", torch.tensor(float(bound)))

    @property
    def fans(self) -> tuple[int, int]:
        """The numbers that an output sums over, and that an input goes into."""
        return self.weight.shape[1], self.weight.shape[0]

    def matrix(self) -> Tensor:
        """What the input is multiplied by."""
        largest = torch.linalg.svdvals(self.weight)[..., 0]
        return self.weight * (self.bound / torch.maximum(largest, self.bound))

    def forward(self, x: Tensor) -> Tensor:
        """[…, inputs] ↦ […, outputs]."""
        return F.linear(x, self.matrix(), self.bias)


def roughness(weight: Tensor, dims: Sequence[int] = (-2, -1)) -> Tensor:
    """A penalty on weights that differ from their neighbors: Σ over axes Σ_i (w_{i+1} − w_i)².

    Args:
        weight: any tensor in which places along some axes are neighbors: a kernel, or the weights of pixels, as in
            ``layer.weight.unflatten(1, (8, 8))``.
        dims: those axes.

    >>> float(roughness(torch.tensor([[0.0, 1.0, 3.0]])))
    5.0

    Source: Whittaker, On a new method of graduation, 1923.
    """
    for axis in dims:
        if not -weight.ndim <= axis < weight.ndim:
            raise BadValue(f"a weight of shape {list(weight.shape)} has no axis {axis}")
    return sum((weight.diff(dim=axis).square().sum() for axis in dims), weight.new_zeros(()))


def gradient_penalty(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A penalty on a model that changes fast where the data is: mean over examples of ‖∂f/∂x‖², all outputs and inputs.

    It costs a backward pass for each output, in one batch, and works in a fleet and under ``torch.func.grad``.

    Args:
        function: a model, which must see each example by itself: no batch norm in training.
        x: inputs [examples, …].

    >>> layer = nn.Linear(3, 2)
    >>> penalty = gradient_penalty(layer, torch.zeros(4, 3))
    >>> torch.allclose(penalty, layer.weight.square().sum())
    True

    Source: Drucker and Le Cun, Improving generalization performance using double backpropagation, 1992.
    """
    if not x.is_floating_point():
        raise BadTask(f"gradient_penalty needs inputs that can change a little, got {x.dtype}")
    pulled: Any = torch.func.vjp(function, x)
    y, back = pulled
    if y.ndim < 1 or len(y) != len(x):
        raise BadTask(
            f"gradient_penalty needs an output for each example, got {list(y.shape)} for {list(x.shape)}"
        )
    flat = y.flatten(1) if y.ndim > 1 else y.unsqueeze(1)
    one = torch.eye(flat.shape[1], dtype=y.dtype, device=y.device)
    each = (
        one.unsqueeze(1).expand(-1, len(x), -1).reshape(-1, *y.shape)
    )  # one output of all examples at a time
    (slopes,) = torch.func.vmap(back)(each)
    return slopes.square().sum() / len(x)
