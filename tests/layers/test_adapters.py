"""Low-rank adapters: the equation by hand, what is trained, what is shared, and what stays as it is."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fallline as fl
from fallline import layers
from fallline.errors import BadTask, BadValue, NotFound
from fallline.layers import lora, merged
from fallline.layers.adapters import LowRank


def base() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)).double()


def inputs(*shape: int) -> Tensor:
    return torch.randn(*(shape or (5, 8)), dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def shaken(model: nn.Module) -> nn.Module:
    """The adapters as a training leaves them: away from zero."""
    with torch.no_grad():
        for i, p in enumerate(trained(model).values()):
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    return model


def test_it_begins_as_the_model():
    model, adapted = base(), lora(base(), rank=3)
    assert torch.equal(adapted(inputs()), model(inputs()))
    assert isinstance(fl.lora(model), nn.Sequential)


@settings(deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 6)), rank=st.integers(1, 20), alpha=st.floats(-50, 50)
)
def test_the_equation_by_hand(sizes: tuple[int, int], rank: int, alpha: float):
    layer = nn.Linear(*sizes).double()
    model = shaken(lora(layer, rank, alpha))
    x = inputs(4, sizes[0])
    W, b, A, B = (p.detach() for p in (layer.weight, layer.bias, model.A, model.B))
    expected = torch.stack([W @ row + b + (alpha / rank) * (B @ (A @ row)) for row in x])
    torch.testing.assert_close(model(x).detach(), expected, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(merged(model)(x), model(x), rtol=1e-12, atol=1e-10)


def test_only_adapters_are_trained_and_their_gradients_are_those_of_the_equation():
    model = shaken(lora(base(), rank=2, alpha=6.0, target="3"))
    x, hidden = inputs(), None
    model(x).square().sum().backward()
    assert set(trained(model)) == {"3.A", "3.B"}
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    layer = model[3]
    hidden = model[:3](x).detach()
    slope = 2 * model(x).detach()
    torch.testing.assert_close(layer.B.grad, 3.0 * slope.T @ (hidden @ layer.A.detach().T))
    torch.testing.assert_close(layer.A.grad, 3.0 * (slope @ layer.B.detach()).T @ hidden)


def test_the_base_is_shared_and_stays_as_it_is():
    model = base()
    before = copy.deepcopy(model.state_dict())
    adapted = lora(model).train()
    optimizer = torch.optim.SGD(trained(adapted).values(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        adapted(inputs()).square().sum().backward()
        optimizer.step()
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert [type(m) for m in model] == [nn.Linear, nn.BatchNorm1d, nn.Tanh, nn.Linear]
    held = {p.data_ptr() for p in adapted.parameters()}
    assert {p.data_ptr() for p in model.parameters()} <= held
    assert not {b.data_ptr() for b in model.buffers()} & {b.data_ptr() for b in adapted.buffers()}


def test_another_dtype_is_of_the_adapters_alone():
    model = base()
    lora(model).float()
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_the_scale_is_data_and_so_are_zeros_beyond_the_rank():
    """A run of rank 3 in a program of rank 4: padded with zeros, with its own scale."""
    narrow, wide = shaken(lora(base(), 3)), lora(base(), 4)
    assert {name for name, _ in narrow.named_buffers()} >= {"0.scale", "3.scale"}
    with torch.no_grad():
        for (_, small), (_, large) in zip(trained(narrow).items(), trained(wide).items(), strict=True):
            large.zero_()
            large[tuple(slice(n) for n in small.shape)] = small
        for i in (0, 3):
            wide[i].scale.copy_(narrow[i].scale)
    torch.testing.assert_close(wide(inputs()), narrow(inputs()), rtol=1e-12, atol=1e-12)
    for model in (narrow, wide):
        model(inputs()).square().sum().backward()
    for small, large in zip(trained(narrow).values(), trained(wide).values(), strict=True):
        corner = torch.zeros_like(large)
        corner[tuple(slice(n) for n in small.shape)] = small.grad
        torch.testing.assert_close(large.grad, corner, rtol=1e-12, atol=1e-12)


def test_the_size_of_a_does_not_depend_on_the_rank():
    """Its variance is one over the inputs: within five standard errors, at any rank."""
    for rank in (2, 50):
        torch.manual_seed(rank)
        A = torch.cat([lora(nn.Linear(40, 3), rank).A.flatten() for _ in range(100 // rank)])
        assert abs(A.var() * 40 - 1) < 5 * (2 / len(A)) ** 0.5
        assert abs(A.mean()) < 5 / (40 * len(A)) ** 0.5


def test_merged_is_a_plain_copy_with_the_names_of_the_model():
    model, x = base().eval(), inputs()
    adapted = shaken(lora(model)).eval()
    plain = merged(adapted)
    assert list(plain.state_dict()) == list(model.state_dict())
    assert not any(isinstance(m, LowRank) for m in plain.modules())
    torch.testing.assert_close(plain(x), adapted(x), rtol=1e-12, atol=1e-12)
    assert all(p.requires_grad for p in plain.parameters())
    assert not {p.data_ptr() for p in plain.parameters()} & {p.data_ptr() for p in adapted.parameters()}
    base().load_state_dict(plain.state_dict())


class Twice(nn.Module):
    """One linear layer in two places, and its weight in a third."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Sequential(nn.Tanh(), self.first)
        self.third = nn.Embedding(4, 4)
        self.third.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)) + self.third.weight.sum()


def test_what_is_tied_stays_tied():
    model, x = Twice().double(), inputs(3, 4)
    adapted = shaken(lora(model))
    assert adapted.first is adapted.second[1]
    assert adapted.first.base.weight is adapted.third.weight
    assert len(trained(adapted)) == 2
    layer = adapted.first
    expected = layer(torch.tanh(layer(x))) + model.third.weight.sum()
    torch.testing.assert_close(adapted(x), expected)


class Others(nn.Module):
    """Modules that read the weight of a linear layer by themselves, or keep theirs in ways of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(6, 2, batch_first=True)
        self.lstm, self.ours = nn.LSTM(6, 6), layers.GRU(6, 6)
        self.out = nn.Linear(6, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attend(x, x, x, need_weights=False)[0]
        return self.out(self.ours(self.lstm(x)[0])[0])


def test_attention_and_recurrent_layers_are_adapted_where_they_are_linear():
    model, x = Others().double(), inputs(2, 5, 6)
    adapted = lora(model)
    torch.testing.assert_close(adapted(x), model(x), rtol=1e-12, atol=1e-12)
    assert set(trained(adapted)) == {"attend.out_proj.A", "attend.out_proj.B", "out.A", "out.B"}
    changed = shaken(adapted)
    assert not torch.allclose(changed(x), model(x))
    torch.testing.assert_close(merged(changed)(x), changed(x), rtol=1e-12, atol=1e-12)


def test_targets_by_pattern_and_by_function():
    model = layers.transformer(7, width=4, depth=2)
    query = {f"blocks.{i}.attention.query.{part}" for i in (0, 1) for part in "AB"}
    assert set(trained(lora(model, target="*.query"))) == query
    assert set(trained(lora(model, target=lambda name: name.endswith("query")))) == query
    assert set(trained(lora(model, target="blocks.[01].attention.query"))) == query


class Empty(nn.Module):
    pass


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "no match": (lambda: lora(base(), target="hidden"), NotFound, r"^the model Sequential has no linear layer that "
                 r"target='hidden' chooses; it has '0', '3'$"),
    "no linear layer": (lambda: lora(Empty()), NotFound, r"^the model Empty has no linear layer at all$"),
    "no module": (lambda: lora(lambda: base()), BadTask, r"^lora adapts an nn.Module, got a function$"),  # type: ignore[arg-type]
    "rank": (lambda: lora(base(), rank=0), BadValue, r"^rank is a whole number of at least 1, got 0$"),
    "alpha": (lambda: lora(base(), alpha=float("nan")), BadValue, r"^alpha is a finite number, got nan$"),
    "twice": (lambda: lora(lora(base())), BadTask, r"^the model has adapters already: merge them first, as in "),
    "nothing to merge": (lambda: merged(base()), BadTask, r"^the model has no adapters to merge: fl.lora\(model\) adds "),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_adapted_is_refused(name: str):
    asked, error, told = REFUSED[name]
    with pytest.raises(error, match=told):
        asked()
