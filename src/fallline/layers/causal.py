"""Causality: what comes later changes nothing before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .declared import causal, layer
from .parts import whole


@layer(lambda of: of(2, 3, 3), (2, 6), causal(-1, -1))
@layer(lambda of: of(2, 3, 2, dilation=2), (2, 6), causal(-1, -1))
class CausalConv1d(nn.Module):
    """A convolution over time that sees the present and the past alone: y_t = Σ_k W_k x_{t − k · dilation} + b.

    Inductive bias: what comes next depends on the last few steps, in the same way at all times, and never on the future.

    Sequences keep their length: there are zeros before them.

    Args:
        inputs: channels that come in; sequences are [examples, inputs, time].
        outputs: channels that go out.
        size: steps that a kernel sees.
        dilation: how far apart those are.

    >>> CausalConv1d(2, 4, 3, dilation=2)(torch.zeros(5, 2, 20)).shape
    torch.Size([5, 4, 20])

    Source: van den Oord et al., WaveNet: a generative model for raw audio, 2016.
    """

    def __init__(self, inputs: int, outputs: int, size: int = 3, dilation: int = 1) -> None:
        super().__init__()
        whole("CausalConv1d", inputs=inputs, outputs=outputs, size=size, dilation=dilation)
        self.convolution = nn.Conv1d(inputs, outputs, size, dilation=dilation)
        self.before = (size - 1) * dilation

    def forward(self, x: Tensor) -> Tensor:
        """[examples, inputs, time] ↦ [examples, outputs, time]."""
        return self.convolution(F.pad(x, (self.before, 0)))


def causal_mask(time: int) -> Tensor:
    """What each step may see: m[t, s] = (s ≤ t), as ``scaled_dot_product_attention`` takes it.

    Args:
        time: how many steps.

    >>> causal_mask(3).int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)

    Source: Vaswani et al., Attention is all you need, 2017, section 3.2.3. The masks of ``torch.nn.MultiheadAttention`` are
    the other way round: True where nothing may be seen.
    """
    whole("causal_mask", time=time)
    return torch.ones(time, time, dtype=torch.bool).tril()
