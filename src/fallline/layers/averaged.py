"""Wrappers that teach reflections and rotations by 90° to any model, by averages over a group."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import BadTask
from .declared import layer
from .groups import GROUPS, act, check_picture, inverse, kept
from .parts import known


def _net() -> nn.Module:
    """What knows no symmetry."""
    return nn.Sequential(nn.Flatten(), nn.Linear(2 * 5 * 5, 4), nn.Tanh())


@layer(lambda of: of(_net(), "left_right"), (2, 5, 5), *kept("left_right", "pictures", "nothing"))
@layer(lambda of: of(_net(), "top_bottom"), (2, 5, 5), *kept("top_bottom", "pictures", "nothing"))
@layer(lambda of: of(_net(), "reflections"), (2, 5, 5), *kept("reflections", "pictures", "nothing"))
@layer(lambda of: of(_net(), "p4"), (2, 5, 5), *kept("p4", "pictures", "nothing"))
@layer(lambda of: of(_net(), "p4m"), (2, 5, 5), *kept("p4m", "pictures", "nothing"))
class Invariant(nn.Module):
    """Any model made blind to reflections or rotations of its pictures: f̄(x) = mean over g of f(g x).

    Inductive bias: a picture that is reflected or turned means the same.

    It costs as many passes as the group has elements, in one batch; norms over examples see them all.

    Args:
        module: pictures [examples, channels, height, width] ↦ anything.
        group: left_right, top_bottom, reflections (both), p4 (rotation by 90°, square pictures), or p4m (with
            reflections).

    >>> model = Invariant(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), "left_right")
    >>> x = torch.randn(5, 1, 4, 4)
    >>> torch.allclose(model(x.flip(-1)), model(x), atol=1e-6)
    True

    Source: Reynolds, On the dynamical theory of incompressible viscous fluids, 1895, whose average it is; for networks
    Murphy et al., Janossy pooling, 2019, and Puny et al., Frame averaging, 2022.
    """

    def __init__(self, module: nn.Module, group: str) -> None:
        super().__init__()
        _check_module(self, module)
        self.module, self.group = module, known("group of symmetries", group, GROUPS)

    def forward(self, x: Tensor) -> Tensor:
        """The mean over the group."""
        return _moved(self.module, self.group, x).mean(0)


@layer(
    lambda of: of(nn.Conv2d(2, 3, 3, padding=1), "left_right"),
    (2, 4, 5),
    *kept("left_right", "pictures", "pictures"),
)
@layer(
    lambda of: of(nn.Conv2d(2, 3, 3, padding=1), "top_bottom"),
    (2, 4, 5),
    *kept("top_bottom", "pictures", "pictures"),
)
@layer(lambda of: of(nn.Conv2d(2, 3, 3, padding=1), "p4"), (2, 5, 5), *kept("p4", "pictures", "pictures"))
@layer(lambda of: of(nn.Conv2d(2, 3, 3, padding=1), "p4m"), (2, 5, 5), *kept("p4m", "pictures", "pictures"))
class Equivariant(nn.Module):
    """Any model from pictures to pictures made to move along with them: f̄(x) = mean over g of g⁻¹ f(g x).

    Inductive bias: a picture that is reflected or turned gives the same, reflected or turned.

    Args:
        module: pictures [examples, channels, height, width] ↦ pictures.
        group: left_right, top_bottom, reflections (both), p4 (rotation by 90°, square pictures), or p4m (with
            reflections).

    >>> model = Equivariant(nn.Conv2d(1, 2, 3, padding=1), "p4")
    >>> x = torch.randn(5, 1, 4, 4)
    >>> torch.allclose(model(x.rot90(1, (2, 3))), model(x).rot90(1, (2, 3)), atol=1e-6)
    True

    Source: as for :class:`Invariant`.
    """

    def __init__(self, module: nn.Module, group: str) -> None:
        super().__init__()
        _check_module(self, module)
        self.module, self.group = module, known("group of symmetries", group, GROUPS)

    def forward(self, x: Tensor) -> Tensor:
        """The mean over the group, each moved back."""
        outputs = _moved(self.module, self.group, x).unbind(0)
        back = [act(inverse(g), y) for g, y in zip(GROUPS[self.group], outputs, strict=True)]
        return torch.stack(back).mean(0)


def _moved(module: nn.Module, group: str, x: Tensor) -> Tensor:
    """The outputs for pictures as each element moves them, [elements, examples, …], in one call."""
    check_picture(group, x)
    elements = GROUPS[group]
    return module(torch.cat([act(g, x) for g in elements])).unflatten(0, (len(elements), -1))


def _check_module(wrapper: nn.Module, module: nn.Module) -> None:
    if not isinstance(module, nn.Module):
        raise BadTask(f"layers.{type(wrapper).__name__} wraps an nn.Module, got a {type(module).__name__}")
