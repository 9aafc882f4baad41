"""What is known about places in a picture: that near ones belong together, or that none is special."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import BadTask, BadValue
from .declared import UNSHIFTED, layer, local
from .parts import known, whole


@layer(lambda of: of(2, 3, 3, height=5, width=6), (2, 5, 6), local(3))
class LocallyConnected2d(nn.Module):
    """A convolution without sharing: at each place p its own kernels, y[p] = W_p x[around p] + b_p.

    Inductive bias: what a pixel means depends on its neighbors, in another way at each place.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        size: height and width of the neighborhoods.
        height: of the pictures.
        width: of the pictures.
        padding: zeros around the pictures.

    >>> LocallyConnected2d(1, 4, 3, height=8, width=8)(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 4, 6, 6])

    Source: LeCun, Generalization and network design strategies, 1989, who compares it with sharing. Weights start as those
    of ``torch.nn.Conv2d``.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int = 3, *, height: int, width: int, padding: int = 0
    ) -> None:
        super().__init__()
        whole("LocallyConnected2d", inputs=inputs, outputs=outputs, size=size, height=height, width=width)
        if isinstance(padding, bool) or not isinstance(padding, int) or padding < 0:
            raise BadValue(f"padding of LocallyConnected2d is a whole number of at least 0, got {padding!r}")
        self.inputs, self.size, self.padding = inputs, size, padding
        self.given = (inputs, height, width)
        self.made = (height + 2 * padding - size + 1, width + 2 * padding - size + 1)
        if min(self.made) < 1:
            raise BadValue(f"neighborhoods of {size} × {size} do not fit into pictures of {height} × {width}")
        n, count = inputs * size**2, self.made[0] * self.made[1]
        bound = n**-0.5  # as torch.nn.Conv2d, whose kaiming_uniform_(a=√5) is this
        self.weight = nn.Parameter(torch.empty(count, outputs, n).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs, *self.made).uniform_(-bound, bound))

    @property
    def fans(self) -> tuple[int, int]:
        """The numbers that an output sums over, and that an input goes into."""
        return self.weight.shape[2], self.weight.shape[1] * self.size**2

    def matrices(self) -> tuple[Tensor, ...]:
        """The weights of each place."""
        return self.weight.unbind(0)

    def forward(self, x: Tensor) -> Tensor:
        """[examples, inputs, height, width] ↦ [examples, outputs, height', width']."""
        if x.ndim != 4 or tuple(x.shape[1:]) != self.given:
            raise BadTask(
                f"layers.LocallyConnected2d reads [examples, {', '.join(map(str, self.given))}], got {list(x.shape)}"
            )
        around = F.unfold(x, self.size, padding=self.padding)  # [examples, inputs · size², places]
        y = torch.einsum("bip,poi->bop", around, self.weight)
        return y.unflatten(-1, self.made) + self.bias


@layer(
    lambda of: nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.Tanh(), of("max")),
    (2, 5, 6),
    UNSHIFTED,
)
@layer(lambda of: of("mean"), (2, 5, 6), UNSHIFTED)
class GlobalPool2d(nn.Module):
    """One number for each channel: y = mean over all places, or the max.

    Inductive bias: it matters what is in a picture, and not where.

    For circular shifts of its inputs this is exact. After convolutions it is exact if they pad circularly
    (``padding_mode="circular"``) and have stride 1; zeros around a picture tell where the border is, and strides
    leave shifts by less than a stride.

    Args:
        pool: mean or max.

    >>> x = torch.arange(8.0).view(1, 1, 2, 4)
    >>> GlobalPool2d()(x), GlobalPool2d("max")(x.roll(3, 3))
    (tensor([[3.5000]]), tensor([[7.]]))

    Source: Lin, Chen and Yan, Network in network, 2013.
    """

    def __init__(self, pool: str = "mean") -> None:
        super().__init__()
        self.pool = known("pooling", pool, ("mean", "max"))

    def forward(self, x: Tensor) -> Tensor:
        """[examples, channels, height, width] ↦ [examples, channels]."""
        if x.ndim != 4:
            raise BadTask(
                f"layers.GlobalPool2d reads [examples, channels, height, width], got {list(x.shape)}"
            )
        return x.mean((-2, -1)) if self.pool == "mean" else x.amax((-2, -1))
