"""Reflections and quarter turns of pictures, as a group: layers that know them, and wrappers that teach them to any model."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import BadTask, BadValue
from .declared import Action, Symmetry, commutes, layer
from .parts import known, whole

Element: TypeAlias = tuple[int, bool]
"""Quarter turns, after a reflection from left to right or none."""

GROUPS: dict[str, tuple[Element, ...]] = {
    "left_right": ((0, False), (0, True)),
    "top_bottom": ((0, False), (2, True)),
    "reflections": ((0, False), (0, True), (2, False), (2, True)),
    "p4": tuple((turns, False) for turns in range(4)),
    "p4m": tuple((turns, flip) for flip in (False, True) for turns in range(4)),
}


def act(element: Element, x: Tensor) -> Tensor:
    """A picture [..., height, width], or a kernel, as an element of a group moves it."""
    turns, flip = element
    return torch.rot90(x.flip(-1) if flip else x, turns, (-2, -1))


def product(g: Element, h: Element) -> Element:
    """First h, then g."""
    return (g[0] + (-h[0] if g[1] else h[0])) % 4, g[1] != h[1]


def inverse(g: Element) -> Element:
    """What undoes it: a reflection is its own inverse."""
    return (g[0] if g[1] else -g[0] % 4), g[1]


def places(group: str, g: Element) -> list[int]:
    """For each h of a group, where g⁻¹ h stands in it."""
    elements = GROUPS[group]
    return [elements.index(product(inverse(g), h)) for h in elements]


def move(group: str, g: Element, y: Tensor) -> Tensor:
    """How an element acts on features of a group [examples, channels · elements, height, width]: (g y)[h] = g(y[g⁻¹ h])."""
    return act(g, y.unflatten(1, (-1, len(GROUPS[group])))[:, :, places(group, g)].flatten(1, 2))


# --- what layers declare ------------------------------------------------------------------------------------

_WORDS = {
    "left_right": "reflection left-right",
    "top_bottom": "reflection top-bottom",
    "reflections": "both reflections",
    "p4": "rotation by 90°",
    "p4m": "rotation by 90° and reflections",
}


def _acting(on: str, group: str, g: Element) -> Action:
    """How an element acts on pictures, on features of the group, or not at all."""
    return {
        "nothing": lambda y: y,
        "pictures": lambda y: act(g, y),
        "features": lambda y: move(group, g, y),
    }[on]


def _kept(group: str, inputs: str, outputs: str) -> tuple[Symmetry, ...]:
    """The symmetries of a layer that reads and gives pictures or features; it is invariant if it gives what never moves."""
    kind = "invariant" if outputs == "nothing" else "equivariant"
    return tuple(
        commutes(f"{_WORDS[group]}: {kind}", _acting(inputs, group, g), _acting(outputs, group, g))
        for g in GROUPS[group]
        if g != (0, False)
    )


def _net() -> nn.Module:
    """What knows no symmetry."""
    return nn.Sequential(nn.Flatten(), nn.Linear(2 * 5 * 5, 4), nn.Tanh())


# --- any model ----------------------------------------------------------------------------------------------


class _Averaged(nn.Module):
    def __init__(self, module: nn.Module, group: str) -> None:
        super().__init__()
        name = type(self).__name__
        if not isinstance(module, nn.Module):
            raise BadTask(f"layers.{name} wraps an nn.Module, got a {type(module).__name__}")
        self.module, self.group = module, known("group of symmetries", group, GROUPS)

    def _all(self, x: Tensor) -> Tensor:
        """The outputs for a picture as each element moves it, [elements, examples, …], in one call."""
        elements = GROUPS[self.group]
        _check_square(self.group, x)
        moved = torch.cat([act(g, x) for g in elements])
        return self.module(moved).unflatten(0, (len(elements), -1))


@layer(lambda of: of(_net(), "left_right"), (2, 5, 5), *_kept("left_right", "pictures", "nothing"))
@layer(lambda of: of(_net(), "top_bottom"), (2, 5, 5), *_kept("top_bottom", "pictures", "nothing"))
@layer(lambda of: of(_net(), "reflections"), (2, 5, 5), *_kept("reflections", "pictures", "nothing"))
@layer(lambda of: of(_net(), "p4"), (2, 5, 5), *_kept("p4", "pictures", "nothing"))
@layer(lambda of: of(_net(), "p4m"), (2, 5, 5), *_kept("p4m", "pictures", "nothing"))
class Invariant(_Averaged):
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

    def forward(self, x: Tensor) -> Tensor:
        """The mean over the group."""
        return self._all(x).mean(0)


@layer(
    lambda of: of(nn.Conv2d(2, 3, 3, padding=1), "left_right"),
    (2, 4, 5),
    *_kept("left_right", "pictures", "pictures"),
)
@layer(
    lambda of: of(nn.Conv2d(2, 3, 3, padding=1), "top_bottom"),
    (2, 4, 5),
    *_kept("top_bottom", "pictures", "pictures"),
)
@layer(lambda of: of(nn.Conv2d(2, 3, 3, padding=1), "p4"), (2, 5, 5), *_kept("p4", "pictures", "pictures"))
@layer(lambda of: of(nn.Conv2d(2, 3, 3, padding=1), "p4m"), (2, 5, 5), *_kept("p4m", "pictures", "pictures"))
class Equivariant(_Averaged):
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

    def forward(self, x: Tensor) -> Tensor:
        """The mean over the group, each moved back."""
        elements = GROUPS[self.group]
        return torch.stack(
            [act(inverse(g), y) for g, y in zip(elements, self._all(x).unbind(0), strict=True)]
        ).mean(0)


# --- convolutions -------------------------------------------------------------------------------------------


@layer(
    lambda of: of(2, 3, 3, group="left_right", lift=True),
    (2, 4, 5),
    *_kept("left_right", "pictures", "features"),
)
@layer(
    lambda of: of(2, 3, 3, group="top_bottom", lift=True),
    (2, 4, 5),
    *_kept("top_bottom", "pictures", "features"),
)
@layer(lambda of: of(2, 3, 3, group="p4", lift=True), (2, 5, 5), *_kept("p4", "pictures", "features"))
@layer(lambda of: of(2, 3, 3, group="p4m", lift=True), (2, 5, 5), *_kept("p4m", "pictures", "features"))
@layer(
    lambda of: of(2, 3, 3, group="reflections"), (2 * 4, 4, 5), *_kept("reflections", "features", "features")
)
@layer(lambda of: of(2, 3, 3, group="p4"), (2 * 4, 5, 5), *_kept("p4", "features", "features"))
@layer(lambda of: of(1, 2, 3, group="p4m"), (8, 5, 5), *_kept("p4m", "features", "features"))
class GroupConv2d(nn.Module):
    """A convolution whose kernels come in all their reflections or rotations: y[g] = Σ_h (g w[g⁻¹ h]) ⋆ x[h] + b.

    Inductive bias: a pattern means the same wherever it stands, and reflected or turned it gives the same features,
    reflected or turned.

    The first layer reads pictures (``lift``): y[g] = (g w) ⋆ x + b. Features are [examples, channels · elements,
    height, width], the elements of the group innermost; with a reflection or turn of the picture they move, and change
    places. :class:`GroupPool2d` takes the elements together.

    Args:
        inputs: channels that come in, of each element of the group.
        outputs: channels that go out, of each element.
        size: height and width of the kernels, an odd number; pictures keep their size, with zeros around them.
        group: left_right, top_bottom, reflections (both), p4 (rotation by 90°, square pictures), or p4m (with
            reflections).
        lift: whether it reads pictures and not features of the group.

    >>> lifted = GroupConv2d(1, 4, group="p4", lift=True)(torch.zeros(5, 1, 8, 8))
    >>> lifted.shape, GroupConv2d(4, 6, group="p4")(lifted).shape
    (torch.Size([5, 16, 8, 8]), torch.Size([5, 24, 8, 8]))

    Source: Cohen and Welling, Group equivariant convolutional networks, 2016. Weights start as those of
    ``torch.nn.Conv2d`` of as many inputs.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int = 3, group: str = "p4", *, lift: bool = False
    ) -> None:
        super().__init__()
        whole("GroupConv2d", inputs=inputs, outputs=outputs, size=size)
        if size % 2 == 0:
            raise BadValue(
                f"size of GroupConv2d is odd, so that a kernel has a middle to turn around, got {size}"
            )
        self.group, self.lift = known("group of symmetries", group, GROUPS), lift
        elements = len(GROUPS[group])
        shape = (outputs, inputs, size, size) if lift else (outputs, inputs, elements, size, size)
        like = nn.Conv2d(inputs * (1 if lift else elements), outputs, size)
        self.weight = nn.Parameter(like.weight.detach().reshape(shape))
        assert like.bias is not None
        self.bias = nn.Parameter(like.bias.detach())

    @property
    def fans(self) -> tuple[int, int]:
        """The numbers that an output sums over, and that an input goes into."""
        elements, area = len(GROUPS[self.group]), self.weight.shape[-1] ** 2
        into, out = self.weight.shape[1] * area, self.weight.shape[0] * area * elements
        return into * (1 if self.lift else elements), out

    def kernels(self) -> Tensor:
        """The kernels of the plain convolution that computes the same, [outputs · elements, all inputs, size, size]."""
        elements = GROUPS[self.group]
        if self.lift:
            moved = [act(g, self.weight) for g in elements]
        else:
            moved = [act(g, self.weight[:, :, places(self.group, g)]).flatten(1, 2) for g in elements]
        return torch.stack(moved, 1).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features of the group from pictures or features."""
        _check_square(self.group, x)
        elements, size = len(GROUPS[self.group]), self.weight.shape[-1]
        bias = self.bias.unsqueeze(1).expand(-1, elements).flatten()
        return F.conv2d(x, self.kernels(), bias, padding=size // 2)


@layer(
    lambda of: nn.Sequential(GroupConv2d(2, 3, 3, "p4", lift=True), nn.Tanh(), of("p4", "mean"), nn.Flatten(2), nn.AdaptiveMaxPool1d(1)),
    (2, 5, 5), *_kept("p4", "pictures", "nothing"),
)  # fmt: skip
@layer(
    lambda of: nn.Sequential(GroupConv2d(2, 3, 3, "p4m", lift=True), nn.Tanh(), of("p4m")),
    (2, 5, 5), *_kept("p4m", "pictures", "pictures"),
)  # fmt: skip
class GroupPool2d(nn.Module):
    """Takes the elements of a group together: y = max over g of x[g], or the mean. What comes out are pictures again.

    Inductive bias: whether a pattern was reflected or turned does not matter.

    The pictures move along with those that the net reads; with pooling over all places after it, nothing moves.

    Args:
        group: that of the :class:`GroupConv2d` before it.
        pool: max or mean.

    >>> GroupPool2d("p4")(torch.zeros(5, 16, 8, 8)).shape
    torch.Size([5, 4, 8, 8])

    Source: Cohen and Welling, Group equivariant convolutional networks, 2016, section 6.3.
    """

    def __init__(self, group: str = "p4", pool: str = "max") -> None:
        super().__init__()
        self.group = known("group of symmetries", group, GROUPS)
        self.pool = known("pooling", pool, ("max", "mean"))

    def forward(self, x: Tensor) -> Tensor:
        """[examples, channels · elements, height, width] ↦ [examples, channels, height, width]."""
        elements = len(GROUPS[self.group])
        if x.ndim != 4 or x.shape[1] % elements:
            raise BadTask(
                f"layers.GroupPool2d reads [examples, channels · {elements}, height, width] of the group {self.group}, "
                f"got {list(x.shape)}"
            )
        x = x.unflatten(1, (-1, elements))
        return x.amax(2) if self.pool == "max" else x.mean(2)


def _check_square(group: str, x: Tensor) -> None:
    if x.ndim != 4:
        raise BadTask(f"symmetries of pictures need [examples, channels, height, width], got {list(x.shape)}")
    if any(g[0] % 2 for g in GROUPS[group]) and x.shape[-1] != x.shape[-2]:
        raise BadTask(
            f"a picture that is turned by 90° must be square for the group {group}, got {list(x.shape)}: take "
            "reflections, or crop it"
        )
