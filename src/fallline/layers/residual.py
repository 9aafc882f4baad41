"""Residual branches."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import BadTask
from .declared import SHIFTED, layer


@layer(lambda of: of(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")), (2, 5, 6), SHIFTED)
class Residual(nn.Module):
    """What comes in, and a change of it: y = x + f(x).

    Inductive bias: a layer changes a little of what came in, and may leave it as it is.

    It keeps the equivariances of f. ``init.zero_residual`` lets f begin at zero.

    Args:
        module: f, whose outputs have the shape of its inputs.

    >>> import torch
    >>> Residual(nn.Identity())(torch.ones(2))
    tensor([2., 2.])

    Source: He et al., Deep residual learning for image recognition, 2015.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise BadTask(f"layers.Residual wraps an nn.Module, got a {type(module).__name__}")
        self.module = module

    @property
    def ends(self) -> tuple[nn.Module, ...]:
        """The last layer of what is added."""
        with_weights = [m for m in self.module.modules() if list(m.parameters(recurse=False))]
        return tuple(with_weights[-1:])

    def forward(self, x: Tensor) -> Tensor:
        """x + f(x)."""
        y = self.module(x)
        if y.shape != x.shape:
            raise BadTask(
                f"what layers.Residual adds has the shape of its input {list(x.shape)}, got {list(y.shape)}"
            )
        return x + y
