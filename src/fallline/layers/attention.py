"""Attention: what each element takes from the others."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import BadTask, BadValue
from .declared import causal as never_later
from .declared import layer, permuted
from .parts import whole


@layer(lambda of: of(6, 2), (5, 6), permuted(1, outputs=True))
@layer(lambda of: of(6, 3, causal=True), (5, 6), never_later(1, 1))
class Attention(nn.Module):
    """Attention of several heads among elements of a sequence or set: y = W softmax(Q Kᵀ / √d) V + b.

    Q, K and V are linear in x.

    Inductive bias: what an element means depends on what the others are, near or far, and on no order unless inputs tell
    it or it is causal.

    Args:
        width: numbers in each element, [examples, elements, width].
        heads: each of width / heads numbers, d.
        dropout: share of the attention that is zeroed in training.
        causal: whether an element sees itself and those before, and none after.

    >>> import torch
    >>> Attention(8, heads=2)(torch.zeros(5, 7, 8)).shape
    torch.Size([5, 7, 8])

    Source: Vaswani et al., Attention is all you need, 2017. Weights start as those of ``torch.nn.Linear``.
    """

    def __init__(self, width: int, heads: int = 1, dropout: float = 0.0, *, causal: bool = False) -> None:
        super().__init__()
        whole("Attention", width=width, heads=heads)
        if width % heads:
            raise BadValue(
                f"each head takes an equal share of the width: {width} cannot be divided by {heads}"
            )
        if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1:
            raise BadValue(f"dropout of Attention is a share from 0 to 1, got {dropout!r}")
        self.width, self.heads, self.causal = width, heads, causal
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.output, self.dropout = nn.Linear(width, width), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[examples, elements, width] ↦ the same."""
        if x.ndim < 3 or x.shape[-1] != self.width:
            raise BadTask(f"layers.Attention reads [examples, elements, {self.width}], got {list(x.shape)}")

        def split(each: Tensor) -> Tensor:
            # [examples, heads, elements, share]
            return each.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        p = self.dropout.p if self.training else 0.0
        seen = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=self.causal)
        return self.output(seen.transpose(-3, -2).flatten(-2))
