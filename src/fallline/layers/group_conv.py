"""Convolutions that know reflections and rotations by 90°."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import BadTask, BadValue
from .declared import layer
from .groups import GROUPS, act, check_picture, kept, places
from .parts import known, whole


@layer(
    lambda of: of(2, 3, 3, group="left_right", lift=True),
    (2, 4, 5),
    *kept("left_right", "pictures", "features"),
)
@layer(
    lambda of: of(2, 3, 3, group="top_bottom", lift=True),
    (2, 4, 5),
    *kept("top_bottom", "pictures", "features"),
)
@layer(lambda of: of(2, 3, 3, group="p4", lift=True), (2, 5, 5), *kept("p4", "pictures", "features"))
@layer(lambda of: of(2, 3, 3, group="p4m", lift=True), (2, 5, 5), *kept("p4m", "pictures", "features"))
@layer(
    lambda of: of(2, 3, 3, group="reflections"), (2 * 4, 4, 5), *kept("reflections", "features", "features")
)
@layer(lambda of: of(2, 3, 3, group="p4"), (2 * 4, 5, 5), *kept("p4", "features", "features"))
@layer(lambda of: of(1, 2, 3, group="p4m"), (8, 5, 5), *kept("p4m", "features", "features"))
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
        check_picture(self.group, x)
        elements, size = len(GROUPS[self.group]), self.weight.shape[-1]
        bias = self.bias.unsqueeze(1).expand(-1, elements).flatten()
        return F.conv2d(x, self.kernels(), bias, padding=size // 2)


@layer(
    lambda of: nn.Sequential(GroupConv2d(2, 3, 3, "p4", lift=True), nn.Tanh(), of("p4", "mean"), nn.AdaptiveMaxPool2d(1)),
    (2, 5, 5), *kept("p4", "pictures", "nothing"),
)  # fmt: skip
@layer(
    lambda of: nn.Sequential(GroupConv2d(2, 3, 3, "p4m", lift=True), nn.Tanh(), of("p4m")),
    (2, 5, 5), *kept("p4m", "pictures", "pictures"),
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
