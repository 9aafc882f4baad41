"""Conservation of mass: what goes in comes out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import BadTask
from .declared import ADDITIVE, CONSERVED, NONNEGATIVE, layer
from .parts import whole


@layer(lambda of: of(5, 4), (5,), CONSERVED, NONNEGATIVE, ADDITIVE)
class MassConservingLinear(nn.Module):
    """Each input is shared out among the outputs: y = S x, S = softmax of the weights over outputs, so that Σ y = Σ x.

    Inductive bias: nothing is made and nothing is lost, only moved.

    Shares are at least 0: where inputs are, so are outputs.

    Args:
        inputs: numbers that come in.
        outputs: numbers that go out.

    >>> x = torch.rand(3, 5)
    >>> torch.allclose(MassConservingLinear(5, 4)(x).sum(1), x.sum(1))
    True

    Source: Hoedt et al., MC-LSTM: mass-conserving LSTM, 2021, whose redistribution matrix this is.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        whole("MassConservingLinear", inputs=inputs, outputs=outputs)
        self.weight = nn.Parameter(torch.randn(outputs, inputs))

    def forward(self, x: Tensor) -> Tensor:
        """[…, inputs] ↦ […, outputs]."""
        return nn.functional.linear(x, self.weight.softmax(0))


@layer(lambda of: of(nn.Conv2d(2, 3, 3)), (2, 5, 5), CONSERVED)
@layer(lambda of: of(nn.Linear(5, 4), nonnegative=True), (5,), CONSERVED, NONNEGATIVE)
class MassConserving(nn.Module):
    """Any model whose outputs are made to sum to what its inputs sum to: y = f(x) + (Σ x − Σ f(x)) / n.

    That is the nearest point at which the sum is right. Where it is asked to be non-negative, the model says how the
    mass is shared out: y = Σ x · softmax(f(x)).

    Inductive bias: nothing is made and nothing is lost, however it is moved.

    Sums are over all numbers of an example, n of them in an output.

    Args:
        module: anything ↦ anything, example by example.
        nonnegative: whether outputs are at least 0 where Σ x is.

    >>> x = torch.rand(3, 5)
    >>> y = MassConserving(nn.Linear(5, 4), nonnegative=True)(x)
    >>> torch.allclose(y.sum(1), x.sum(1)), bool((y >= 0).all())
    (True, True)

    Source: Beucler et al., Enforcing analytic constraints in neural networks emulating physical systems, 2021; the softmax
    as in Harder et al., Hard-constrained deep learning for climate downscaling, 2023.
    """

    def __init__(self, module: nn.Module, *, nonnegative: bool = False) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise BadTask(f"layers.MassConserving wraps an nn.Module, got a {type(module).__name__}")
        self.module, self.nonnegative = module, nonnegative

    def forward(self, x: Tensor) -> Tensor:
        """[examples, …] ↦ [examples, …], with equal sums."""
        y, mass = self.module(x), x.flatten(1).sum(1, keepdim=True)
        flat = y.flatten(1)
        if self.nonnegative:
            return (mass * flat.softmax(1)).view_as(y)
        return (flat + (mass - flat.sum(1, keepdim=True)) / flat.shape[1]).view_as(y)
