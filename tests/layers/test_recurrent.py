"""Recurrent layers are torch's: the same weights give the same outputs, states and gradients."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fallline import layers
from fallline.errors import BadTask

PAIRS = {"LSTM": (layers.LSTM, nn.LSTM), "GRU": (layers.GRU, nn.GRU)}


def both(kind: str, *sizes: int, **options: Any) -> tuple[nn.Module, nn.Module]:
    """Ours and torch's, with the same weights in float64."""
    ours, theirs = (make(*sizes, **options).double() for make in PAIRS[kind])
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def tensors(out: Any) -> list[Tensor]:
    output, states = out
    return [output, *(states if isinstance(states, tuple) else (states,))]


def check_equal(ours: nn.Module, theirs: nn.Module, x: Tensor, hx: Any = None) -> None:
    """Values, and gradients with respect to weights, inputs and initial states."""
    found = []
    for module in (ours, theirs):
        leaves = [t.detach().clone().requires_grad_() for t in (x, *_listed(hx))]
        states = None if hx is None else tuple(leaves[1:]) if isinstance(hx, tuple) else leaves[1]
        out = tensors(module(leaves[0], states))
        total = sum((t * torch.linspace(-1, 2, t.numel(), dtype=t.dtype).view_as(t)).sum() for t in out)
        found.append((*out, *torch.autograd.grad(total, [*module.parameters(), *leaves])))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def _listed(hx: Any) -> list[Tensor]:
    return [] if hx is None else list(hx) if isinstance(hx, tuple) else [hx]


GRID = list(itertools.product(PAIRS, (1, 2), (True, False), (True, False), (True, False), (True, False)))


@pytest.mark.parametrize(("kind", "depth", "bias", "first", "bidirectional", "given"), GRID)
def test_outputs_states_and_gradients_are_those_of_torch(
    kind: str, depth: int, bias: bool, first: bool, bidirectional: bool, given: bool
):
    torch.manual_seed(0)
    ours, theirs = both(
        kind, 3, 5, num_layers=depth, bias=bias, batch_first=first, bidirectional=bidirectional
    )
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    rows, examples = depth * (2 if bidirectional else 1), 2 if first else 4
    h, c = torch.randn(2, rows, examples, 5, dtype=torch.float64)
    hx = ((h, c) if kind == "LSTM" else h) if given else None
    check_equal(ours, theirs, x, hx)
    single = None if hx is None else (h[:, 0], c[:, 0]) if kind == "LSTM" else h[:, 0]
    check_equal(ours, theirs, x[0], single)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_projections_are_those_of_torch(bidirectional: bool):
    torch.manual_seed(0)
    ours, theirs = both("LSTM", 3, 5, num_layers=2, proj_size=2, bidirectional=bidirectional)
    x, rows = torch.randn(4, 2, 3, dtype=torch.float64), 4 if bidirectional else 2
    hx = tuple(torch.randn(rows, 2, size, dtype=torch.float64) for size in (2, 5))
    check_equal(ours, theirs, x)
    check_equal(ours, theirs, x, hx)


@settings(deadline=None)
@given(
    kind=st.sampled_from(sorted(PAIRS)),
    sizes=st.tuples(*(st.integers(1, 5) for _ in range(4))),
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(0.01, 30),
)
def test_any_sizes_and_any_inputs(kind: str, sizes: tuple[int, ...], seed: int, scale: float):
    inputs, hidden, time, examples = sizes
    torch.manual_seed(seed)
    x = scale * torch.randn(time, examples, inputs, dtype=torch.float64)
    check_equal(*both(kind, inputs, hidden, bidirectional=seed % 2 == 0), x)


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}])
def test_the_same_seed_gives_the_weights_of_torch(kind: str, options: dict[str, Any]):
    states = []
    for make in PAIRS[kind]:
        torch.manual_seed(3)
        states.append(make(3, 4, **options).state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("kind", PAIRS)
def test_weights_load_from_torch_and_back(kind: str):
    ours, theirs = (make(3, 4, 2, bidirectional=True) for make in PAIRS[kind])
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(6, 2, 3)
    torch.testing.assert_close(tensors(ours(x)), tensors(theirs(x)))
    theirs.load_state_dict(PAIRS[kind][0](3, 4, 2, bidirectional=True).state_dict())


@pytest.mark.parametrize("kind", PAIRS)
def test_dropout_lies_between_layers_in_training_alone(kind: str):
    """A share of 1 leaves the second layer without inputs: no chance is left, and torch does the same."""
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    ours, theirs = both(kind, 3, 4, num_layers=2, dropout=1.0)
    check_equal(ours, theirs, x)
    check_equal(ours.eval(), theirs.eval(), x)
    half = PAIRS[kind][0](3, 4, num_layers=2, dropout=0.5)
    assert not torch.equal(half(x.float())[0], half(x.float())[0])


@pytest.mark.parametrize("kind", PAIRS)
def test_the_bias_is_one_law_at_every_step_and_the_past_alone(kind: str):
    """A sequence read in two pieces, with the state carried over, is the sequence; what is later changes nothing."""
    torch.manual_seed(0)
    layer = PAIRS[kind][0](3, 5, num_layers=2).double()
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    whole, end = layer(x)
    first, state = layer(x[:4])
    second, last = layer(x[4:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(last, end, rtol=1e-12, atol=1e-12)


def test_what_does_not_fit_is_refused():
    lstm, first = layers.LSTM(3, 5), layers.GRU(3, 5, batch_first=True)
    packed = nn.utils.rnn.pack_sequence([torch.zeros(4, 3), torch.zeros(2, 3)])
    with pytest.raises(
        BadTask, match=r"^layers.LSTM reads tensors, got a PackedSequence: pad sequences to one "
    ):
        lstm(packed)
    with pytest.raises(
        BadTask, match=r"^layers.LSTM reads \[time, examples, 3\] or one sequence \[time, 3\], got \[4\]$"
    ):
        lstm(torch.zeros(4))
    with pytest.raises(BadTask, match=r"^layers.GRU reads \[examples, time, 3\] or one .*, got \[2, 4, 6\]$"):
        first(torch.zeros(2, 4, 6))
    told = r"^the initial states of layers.GRU must be \[\[1, 2, 5\]\] here .*, got \[\[1, 4, 5\]\]$"
    with pytest.raises(BadTask, match=told):
        first(torch.zeros(2, 4, 3), torch.zeros(1, 4, 5))
    with pytest.raises(BadTask, match=r"must be \[\[1, 5\], \[1, 5\]\] here .*, got \[\[1, 5\]\]$"):
        lstm(torch.zeros(4, 3), (torch.zeros(1, 5),))
