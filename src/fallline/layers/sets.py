"""Sets: elements without an order."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import BadTask
from .declared import layer, permuted
from .init import started
from .parts import activated, known, whole


@layer(lambda of: of(3, 4), (5, 3), permuted(1, outputs=True))
class SetLinear(nn.Module):
    """The same linear map of each element, and one of their mean: y_i = A x_i + B mean_j x_j + b.

    Inductive bias: elements have no order, and each is seen by itself and against all others together.

    Args:
        inputs: numbers in an element; sets are [examples, elements, inputs].
        outputs: numbers that come out for each.

    >>> import torch
    >>> SetLinear(3, 4)(torch.zeros(2, 7, 3)).shape
    torch.Size([2, 7, 4])

    Source: Zaheer et al., Deep sets, 2017, theorem 3 with the mean in place of the sum, so that sets of any size have
    outputs of one size.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        whole("SetLinear", inputs=inputs, outputs=outputs)
        self.own, self.others = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[examples, elements, inputs] ↦ [examples, elements, outputs]."""
        _check_set("SetLinear", x)
        return self.own(x) + self.others(x.mean(-2, keepdim=True))


@layer(lambda of: of("sum"), (5, 3), permuted(1, outputs=False))
@layer(lambda of: of("mean"), (5, 3), permuted(1, outputs=False))
@layer(lambda of: of("max"), (5, 3), permuted(1, outputs=False))
class SetPool(nn.Module):
    """One vector for a set: y = mean_i x_i, or the sum, or the max.

    Inductive bias: elements have no order.

    Args:
        pool: mean, sum (which knows how many there are) or max.

    >>> import torch
    >>> SetPool("sum")(torch.ones(2, 7, 3))[0]
    tensor([7., 7., 7.])

    Source: Zaheer et al., Deep sets, 2017, theorem 2.
    """

    def __init__(self, pool: str = "mean") -> None:
        super().__init__()
        self.pool = known("pooling", pool, ("mean", "sum", "max"))

    def forward(self, x: Tensor) -> Tensor:
        """[examples, elements, inputs] ↦ [examples, inputs]."""
        _check_set("SetPool", x)
        return x.amax(-2) if self.pool == "max" else x.sum(-2) if self.pool == "sum" else x.mean(-2)


@layer(lambda of: of(3, 6, outputs=2, depth=2), (5, 3), permuted(1, outputs=False))
def deep_sets(
    inputs: int, width: int = 32, *, outputs: int, depth: int = 1, pool: str = "mean", activation: str = "relu",
    init: str = "default",
) -> nn.Sequential:  # fmt: skip
    """A network for sets: layers of :class:`SetLinear` with activations, :class:`SetPool`, and one linear layer.

    Inductive bias: elements have no order: a set is what its elements are, each by itself and against all others together.

    Args:
        inputs: numbers in an element; sets are [examples, elements, inputs].
        width: numbers that stand for an element inside.
        outputs: numbers for a set.
        depth: layers before the pooling.
        pool: mean, sum or max.
        activation: relu, tanh, sigmoid, centered_sigmoid, gelu or silu.
        init: default (as ``torch.nn.Linear``), glorot, he, orthogonal, or own; see ``fl.layers.init``.

    >>> import torch
    >>> deep_sets(3, 8, outputs=2)(torch.zeros(5, 7, 3)).shape
    torch.Size([5, 2])

    Source: Zaheer et al., Deep sets, 2017.
    """
    whole("deep_sets", inputs=inputs, width=width, outputs=outputs, depth=depth)
    parts: list[nn.Module] = []
    for i in range(depth):
        parts += [SetLinear(width if i else inputs, width), activated(activation)]
    model = nn.Sequential(*parts, SetPool(pool), nn.Linear(width, outputs))
    started(model, init, activation)
    return model


def _check_set(name: str, x: Tensor) -> None:
    if x.ndim != 3:
        raise BadTask(f"layers.{name} reads sets [examples, elements, inputs], got {list(x.shape)}")
