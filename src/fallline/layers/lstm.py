"""The recurrent network that reads a sequence."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import BadTask, BadValue
from .declared import causal, layer
from .init import started
from .parts import whole
from .recurrent import LSTM


@layer(lambda of: of(3, 4, outputs=2, each=True), (5, 3), causal(1, -1))
@layer(lambda of: of(3, 4, outputs=2, depth=2), (5, 3))
def lstm(
    inputs: int, width: int = 32, *, outputs: int, depth: int = 1, each: bool = False, dropout: float = 0.0,
    init: str = "default",
) -> nn.Module:  # fmt: skip
    """A recurrent network: layers of :class:`LSTM` over a sequence, then y = W h + b of the last step, or of each.

    Inductive bias: what comes later depends on what came before, and not the other way round, by the same law at every step,
    with a memory of fixed size.

    Args:
        inputs: numbers in each step; sequences are [examples, time, inputs], and flat ones are unfolded first.
        width: units of each layer, the size of its memory.
        outputs: numbers that the last layer gives.
        depth: layers, each of which reads the one before.
        each: outputs at each step, [examples, outputs, time], in place of [examples, outputs] of the last one.
        dropout: share of the outputs of each layer but the last that is zeroed in training.
        init: of the linear layer: default (as ``torch.nn.Linear``), glorot, he or orthogonal; see ``fl.layers.init``.

    >>> import torch
    >>> model = lstm(8, 16, outputs=10)
    >>> model(torch.zeros(5, 64)).shape  # eight rows of eight pixels, one after the other
    torch.Size([5, 10])

    Source: Hochreiter and Schmidhuber, Long short-term memory, 1997. Outputs of each step have their classes on axis 1,
    where cross-entropy expects them.
    """
    whole("lstm", inputs=inputs, width=width, outputs=outputs, depth=depth)
    if isinstance(dropout, bool) or not isinstance(dropout, (int, float)) or not 0 <= dropout <= 1:
        raise BadValue(f"dropout of lstm is a share from 0 to 1, got {dropout!r}")
    if dropout and depth == 1:
        raise BadValue("dropout of lstm is between its layers, and depth=1 has one layer: take depth=2")
    model = Recurrent(inputs, width, outputs, depth, each=each, dropout=float(dropout))
    return started(model, init)


class Recurrent(nn.Module):
    """See :func:`lstm`."""

    def __init__(
        self, inputs: int, width: int, outputs: int, depth: int, *, each: bool, dropout: float
    ) -> None:
        super().__init__()
        self.layers = LSTM(inputs, width, depth, batch_first=True, dropout=dropout)
        self.output, self.each = nn.Linear(width, outputs), each

    def forward(self, x: Tensor) -> Tensor:
        """Sequences [examples, time, inputs] or [examples, time · inputs]."""
        inputs = self.layers.input_size
        if x.ndim == 2:
            if x.shape[1] % inputs:
                raise BadTask(f"{x.shape[1]} numbers of an example are no whole steps of {inputs} inputs")
            x = x.unflatten(1, (-1, inputs))
        states = self.layers(x)[0]
        return self.output(states).transpose(-2, -1) if self.each else self.output(states[:, -1])
