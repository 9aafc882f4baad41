"""Recurrent layers in plain tensor operations, which can be batched over runs; torch's own are one opaque kernel."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import BadTask
from .declared import causal, layer

Weights: TypeAlias = dict[str, Any]
States: TypeAlias = tuple[Tensor, ...]
Loop: TypeAlias = Callable[[Tensor, States, Weights], tuple[Tensor, States]]


@layer(lambda of: of(3, 4, num_layers=2, batch_first=True), (5, 3), causal(1, 1))
class LSTM(nn.LSTM):
    """Long short-term memory: ``nn.LSTM`` for fleets, with its arguments, names, initial weights and results.

    At each step, with σ the logistic function and ⊙ the product of entries:

        i, f, o = σ(W x + b + U h + d),   g = tanh(W x + b + U h + d)   (each gate has its own rows)
        c ← f ⊙ c + i ⊙ g,   h ← o ⊙ tanh(c)

    Inductive bias: what comes later depends on what came before, and not the other way round, by the same law at
    every step; what is in the cell c stays unless a gate decides otherwise.

    Weights of an ``nn.LSTM`` load by ``load_state_dict``, and the other way round. Dropout draws from each run's own
    stream. A packed sequence is refused.

    Args:
        input_size: numbers in each step of a sequence.
        hidden_size: units, the size of h and c.
        num_layers: layers, each of which reads the outputs of the one before.
        bias: whether there are b and d.
        batch_first: sequences are [examples, time, inputs] instead of [time, examples, inputs].
        dropout: share of the outputs of each layer but the last that is zeroed in training.
        bidirectional: read each sequence backward, too, and join both outputs.
        proj_size: where above 0, the size to which h is projected: h ← V (o ⊙ tanh(c)).
        **options: ``device`` and ``dtype``.

    >>> layer = LSTM(3, 5)
    >>> layer.load_state_dict(nn.LSTM(3, 5).state_dict())
    <All keys matched successfully>
    >>> output, (h, c) = layer(torch.zeros(7, 2, 3))  # two sequences of seven steps
    >>> output.shape, h.shape
    (torch.Size([7, 2, 5]), torch.Size([1, 2, 5]))

    Source: Hochreiter and Schmidhuber, Long short-term memory, 1997, with the forget gate of Gers, Schmidhuber and
    Cummins, Learning to forget, 2000; the projection is of Sak, Senior and Beaufays, 2014.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            **options,
        )

    def forward(  # type: ignore[override]  # torch's own takes packed sequences, too
        self, input: Tensor, hx: States | None = None
    ) -> tuple[Tensor, States]:
        """The outputs of the last layer at each step, and (h, c) of each layer and direction after the last."""
        return _recur(self, _lstm, input, hx, (self.proj_size or self.hidden_size, self.hidden_size))


@layer(lambda of: of(3, 4, batch_first=True), (5, 3), causal(1, 1))
class GRU(nn.GRU):
    """Gated recurrent unit: ``nn.GRU`` for fleets, with its arguments, names, initial weights and results.

    At each step, with σ the logistic function and ⊙ the product of entries:

        r, z = σ(W x + b + U h + d)   (each gate has its own rows)
        n = tanh(W x + b + r ⊙ (U h + d)),   h ← (1 − z) ⊙ n + z ⊙ h

    Inductive bias: what comes later depends on what came before, and not the other way round, by the same law at
    every step; a unit keeps its value as far as its gate z says.

    Weights of an ``nn.GRU`` load by ``load_state_dict``, and the other way round. Dropout draws from each run's own
    stream. A packed sequence is refused.

    Args:
        input_size: numbers in each step of a sequence.
        hidden_size: units, the size of h.
        num_layers: layers, each of which reads the outputs of the one before.
        bias: whether there are b and d.
        batch_first: sequences are [examples, time, inputs] instead of [time, examples, inputs].
        dropout: share of the outputs of each layer but the last that is zeroed in training.
        bidirectional: read each sequence backward, too, and join both outputs.
        **options: ``device`` and ``dtype``.

    >>> output, h = GRU(3, 5, num_layers=2, batch_first=True)(torch.zeros(2, 7, 3))
    >>> output.shape, h.shape
    (torch.Size([2, 7, 5]), torch.Size([2, 2, 5]))

    Source: Cho et al., Learning phrase representations using RNN encoder-decoder, 2014, whose form multiplies r
    with h before U; this one, as torch's, multiplies it with U h + d.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, **options
        )

    def forward(  # type: ignore[override]  # torch's own takes packed sequences, too
        self, input: Tensor, hx: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The outputs of the last layer at each step, and h of each layer and direction after the last."""
        given = None if hx is None else (hx,)
        output, (h,) = _recur(self, _gru, input, given, (self.hidden_size,))
        return output, h


@layer(lambda of: of(3, 4, batch_first=True), (5, 3), causal(1, 1))
class RNN(nn.RNN):
    """The simple recurrent layer: ``nn.RNN`` for fleets, with its arguments, names, initial weights and results.

    At each step h ← tanh(W x + b + U h + d), or with ReLU in place of tanh.

    Inductive bias: what comes later depends on what came before, and not the other way round, by the same law at every step.

    Weights of an ``nn.RNN`` load by ``load_state_dict``, and the other way round. Dropout draws from each run's own
    stream. A packed sequence is refused.

    Args:
        input_size: numbers in each step of a sequence.
        hidden_size: units, the size of h.
        num_layers: layers, each of which reads the outputs of the one before.
        nonlinearity: tanh or relu.
        bias: whether there are b and d.
        batch_first: sequences are [examples, time, inputs] instead of [time, examples, inputs].
        dropout: share of the outputs of each layer but the last that is zeroed in training.
        bidirectional: read each sequence backward, too, and join both outputs.
        **options: ``device`` and ``dtype``.

    >>> output, h = RNN(3, 5, batch_first=True)(torch.zeros(2, 7, 3))
    >>> output.shape, h.shape
    (torch.Size([2, 7, 5]), torch.Size([1, 2, 5]))

    Source: Elman, Finding structure in time, 1990.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            nonlinearity,
            bias,
            batch_first,
            dropout,
            bidirectional,
            **options,
        )

    def forward(  # type: ignore[override]  # torch's own takes packed sequences, too
        self, input: Tensor, hx: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The outputs of the last layer at each step, and h of each layer and direction after the last."""
        given = None if hx is None else (hx,)
        loop = functools.partial(_rnn, torch.relu if self.nonlinearity == "relu" else torch.tanh)
        output, (h,) = _recur(self, loop, input, given, (self.hidden_size,))
        return output, h


# --- one direction of one layer ---------------------------------------------------------------------------


def _lstm(x: Tensor, state: States, w: Weights) -> tuple[Tensor, States]:
    """All steps of [time, examples, inputs]: the outputs and the last state."""
    (h, c), outputs = state, []
    bias = None if w["bias_ih"] is None else w["bias_ih"] + w["bias_hh"]
    for given in F.linear(x, w["weight_ih"], bias).unbind(0):  # the inputs of all steps in one product
        i, f, g, o = (given + F.linear(h, w["weight_hh"])).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        h = h if w["weight_hr"] is None else F.linear(h, w["weight_hr"])
        outputs.append(h)
    return torch.stack(outputs), (h, c)


def _gru(x: Tensor, state: States, w: Weights) -> tuple[Tensor, States]:
    (h,), outputs = state, []
    for given in F.linear(x, w["weight_ih"], w["bias_ih"]).unbind(0):
        r, z, n = given.chunk(3, -1)
        of_r, of_z, of_n = F.linear(h, w["weight_hh"], w["bias_hh"]).chunk(3, -1)
        n = torch.tanh(n + torch.sigmoid(r + of_r) * of_n)
        h = n + torch.sigmoid(z + of_z) * (h - n)
        outputs.append(h)
    return torch.stack(outputs), (h,)


def _rnn(squash: Callable[[Tensor], Tensor], x: Tensor, state: States, w: Weights) -> tuple[Tensor, States]:
    (h,), outputs = state, []
    bias = None if w["bias_ih"] is None else w["bias_ih"] + w["bias_hh"]
    for given in F.linear(x, w["weight_ih"], bias).unbind(0):
        h = squash(given + F.linear(h, w["weight_hh"]))
        outputs.append(h)
    return torch.stack(outputs), (h,)


# --- layers and directions --------------------------------------------------------------------------------


def _recur(
    module: nn.RNNBase, loop: Loop, x: Tensor, hx: States | None, sizes: tuple[int, ...]
) -> tuple[Tensor, States]:
    """Run all layers of a module, whose states have these sizes, over sequences laid out as its user has them."""
    _check_input(module, x)
    single = x.ndim == 2
    time = 1 if module.batch_first and not single else 0
    x = x.unsqueeze(1) if single else x.transpose(0, time)
    rows = module.num_layers * (2 if module.bidirectional else 1)
    shapes = [(rows, x.shape[1], size) for size in sizes]
    if hx is None:
        hx = tuple(x.new_zeros(shape) for shape in shapes)
    else:
        _check_states(module, hx, [(s[0], s[2]) for s in shapes] if single else shapes)
        hx = tuple(s.unsqueeze(1) for s in hx) if single else hx
    x, states = _layers(module, loop, x, hx)
    if single:
        return x.squeeze(1), tuple(s.squeeze(1) for s in states)
    return x.transpose(0, time), states


def _layers(module: nn.RNNBase, loop: Loop, x: Tensor, hx: States) -> tuple[Tensor, States]:
    directions = ("", "_reverse") if module.bidirectional else ("",)
    ends: list[States] = []
    for depth in range(module.num_layers):
        outputs = []
        if depth:
            x = F.dropout(x, module.dropout, module.training)
        for direction in directions:
            state, w = tuple(s[len(ends)] for s in hx), _weights(module, f"_l{depth}{direction}")
            out, end = loop(x.flip(0) if direction else x, state, w)
            outputs.append(out.flip(0) if direction else out)
            ends.append(end)
        x = torch.cat(outputs, -1)
    return x, tuple(torch.stack(states) for states in zip(*ends, strict=True))


def _weights(module: nn.RNNBase, suffix: str) -> Weights:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    return {name: getattr(module, name + suffix, None) for name in names}


def _check_input(module: nn.RNNBase, x: Any) -> None:
    name, size = type(module).__name__, module.input_size
    if not isinstance(x, Tensor):
        raise BadTask(
            f"layers.{name} reads tensors, got a {type(x).__name__}: pad sequences to one length, so that runs and "
            "examples can be batched"
        )
    if x.ndim not in (2, 3) or x.shape[-1] != size:
        whole = f"[examples, time, {size}]" if module.batch_first else f"[time, examples, {size}]"
        raise BadTask(f"layers.{name} reads {whole} or one sequence [time, {size}], got {list(x.shape)}")


def _check_states(module: nn.RNNBase, hx: States, shapes: list[Any]) -> None:
    expected, got = [list(shape) for shape in shapes], [list(s.shape) for s in hx]
    if got != expected:
        raise BadTask(
            f"the initial states of layers.{type(module).__name__} must be {expected} here (layers times directions "
            f"first), got {got}"
        )
