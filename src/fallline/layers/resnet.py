"""Residual networks for pictures."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import BadValue
from .declared import layer
from .init import started
from .parts import activated, known, normalized, whole

LARGE = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
"""Blocks in each stage of the forms for large pictures."""


@layer(lambda of: of(8, outputs=2, channels=1, width=2), (1, 8, 8))
@layer(lambda of: of(8, outputs=2, channels=1, width=2, norm="none"), (1, 8, 8))
def resnet(
    depth: int = 20, *, outputs: int = 10, channels: int = 3, width: int = 0, activation: str = "relu",
    norm: str = "batch", init: str = "own",
) -> nn.Module:  # fmt: skip
    """A residual network: blocks x ← σ(s(x) + N(K₂ σ(N(K₁ x)))), with convolutions K and norms N.

    The shortcut s is the identity, or a projection where shapes change.

    Depth 18 and 34 are the forms for large pictures: a 7 × 7 convolution of stride 2, max-pooling, and four stages.
    Their names and shapes are the usual ones, so that published weights of ResNet-18 and ResNet-34 load by
    ``load_state_dict``. Other depths are 6n + 2, the form for small pictures such as CIFAR-10: a 3 × 3 convolution and
    three stages of n blocks. Each further stage halves height and width and doubles the channels; the mean over
    places comes before one linear layer, so that pictures may be of any size.

    Inductive bias: what a pattern means does not depend on where it is, and each block changes a little of what came in,
    so that more blocks can only add to what fewer can do.

    Args:
        depth: layers with weights: 18, 34, or 6n + 2, such as 8, 20, 32, 44, 56 or 110.
        outputs: numbers that the last layer gives.
        channels: of the pictures, [examples, channels, height, width].
        width: channels of the first stage; 0 stands for the paper's, 64 at depth 18 and 34, and else 16.
        activation: relu, tanh, sigmoid, centered_sigmoid, gelu or silu.
        norm: batch, layer (all numbers of an example together) or none.
        init: own (for ReLU that of He et al.), default (as torch has them), glorot, he or orthogonal; see
            ``fl.layers.init``. ``init.zero_residual(resnet(…))`` begins with blocks that do nothing.

    >>> import torch
    >>> model = resnet(8, width=4)
    >>> model(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    >>> [name for name in resnet(18).state_dict() if name.startswith("layer2.0.downsample")][:2]
    ['layer2.0.downsample.0.weight', 'layer2.0.downsample.1.weight']

    Source: He et al., Deep residual learning for image recognition, 2015. Where shapes change, the paper pads with zeros on
    CIFAR-10 (its option A); here a 1 × 1 convolution projects at every depth (option B). Without a norm,
    convolutions have biases.
    """
    whole("resnet", depth=depth, outputs=outputs, channels=channels)
    if depth not in LARGE and (depth < 8 or depth % 6 != 2):
        raise BadValue(
            f"the depth of a resnet is 18, 34, or 6n + 2 as in 8, 14, 20, 26, 32: its layers come in blocks; got {depth}"
        )
    if isinstance(width, bool) or not isinstance(width, int) or width < 0:
        raise BadValue(f"width of resnet is a whole number above 0, or 0 for the paper's, got {width!r}")
    large = depth in LARGE
    stages = LARGE.get(depth, ((depth - 2) // 6,) * 3)
    model = ResNet(stages, channels, width or (64 if large else 16), outputs, large, activation, norm)
    return started(model, init, activation)


class ResNet(nn.Module):
    """See :func:`resnet`."""

    def __init__(
        self, stages: tuple[int, ...], channels: int, width: int, outputs: int, large: bool, activation: str,
        norm: str,
    ) -> None:  # fmt: skip
        super().__init__()
        kernel, stride, padding = (7, 2, 3) if large else (3, 1, 1)
        self.conv1 = nn.Conv2d(channels, width, kernel, stride, padding, bias=norm == "none")
        self.bn1, self.act = _norm(norm, width), activated(activation)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        self.stages = [f"layer{i}" for i in range(1, len(stages) + 1)]
        before = width
        for i, (name, blocks) in enumerate(zip(self.stages, stages, strict=True)):
            after, first = width * 2**i, 2 if i else 1
            made = [
                Block(after if j else before, after, 1 if j else first, activation, norm)
                for j in range(blocks)
            ]
            self.add_module(name, nn.Sequential(*made))
            before = after
        self.fc = nn.Linear(before, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures [examples, channels, height, width] ↦ [examples, outputs]."""
        x = self.maxpool(self.act(self.bn1(self.conv1(x))))
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.fc(x.mean((-2, -1)))


class Block(nn.Module):
    """Two convolutions, added to what came in."""

    def __init__(self, before: int, after: int, stride: int, activation: str, norm: str) -> None:
        super().__init__()
        bias = known("normalization", norm, ("batch", "layer", "none")) == "none"
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=bias)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=bias)
        self.bn1, self.bn2, self.act = _norm(norm, after), _norm(norm, after), activated(activation)
        projected = before != after or stride != 1
        self.downsample = (
            nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=bias), _norm(norm, after))
            if projected
            else None
        )

    @property
    def ends(self) -> tuple[nn.Module, ...]:
        """The last layer of what is added."""
        return (self.conv2,) if isinstance(self.bn2, nn.Identity) else (self.bn2,)

    def forward(self, x: Tensor) -> Tensor:
        change = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        return self.act(change + (x if self.downsample is None else self.downsample(x)))


def _norm(name: str, channels: int) -> nn.Module:
    return nn.Sequential(*normalized(name, channels, picture=True))[0] if name != "none" else nn.Identity()
