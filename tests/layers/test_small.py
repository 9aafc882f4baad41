"""Sets, mass, causality, attention, residual branches and the simple recurrent layer, against torch and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fallline.errors import BadTask, BadValue
from fallline.layers import (
    RNN,
    Attention,
    CausalConv1d,
    MassConserving,
    MassConservingLinear,
    Residual,
    SetLinear,
    SetPool,
    causal_mask,
    deep_sets,
    init,
)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_an_element_of_a_set_is_seen_against_the_mean():
    layer, x = SetLinear(3, 2).double(), random(4, 5, 3)
    A, B, b = layer.own.weight, layer.others.weight, layer.own.bias
    expected = torch.stack([x[:, i] @ A.T + x.mean(1) @ B.T + b for i in range(5)], 1)
    torch.testing.assert_close(layer(x), expected)


def test_a_set_of_twice_the_same_has_the_same_mean_and_twice_the_sum():
    x = random(4, 5, 3)
    twice = torch.cat([x, x], 1)
    net = deep_sets(3, 8, outputs=2, depth=2).double()
    torch.testing.assert_close(net(twice), net(x))
    torch.testing.assert_close(SetPool("sum")(twice), 2 * SetPool("sum")(x))


def test_shares_of_mass_are_a_softmax():
    layer, x = MassConservingLinear(5, 4).double(), random(3, 5)
    shares = layer.weight.exp() / layer.weight.exp().sum(0)
    torch.testing.assert_close(layer(x), x @ shares.T)


def test_the_nearest_outputs_of_the_right_sum_are_taken():
    """What is moved is a multiple of the normal of the plane on which sums are right."""
    module, x = nn.Linear(5, 4).double(), random(3, 5)
    change = MassConserving(module)(x) - module(x)
    torch.testing.assert_close(change, change[:, :1].expand(-1, 4))
    torch.testing.assert_close(MassConserving(module)(x).sum(1), x.sum(1))


def test_a_causal_convolution_sums_over_the_past():
    layer, x = CausalConv1d(2, 3, 2, dilation=3).double(), random(1, 2, 7)
    w, b = layer.convolution.weight, layer.convolution.bias
    for t in range(7):
        before = x[0, :, t - 3] if t >= 3 else torch.zeros(2, dtype=torch.float64)
        torch.testing.assert_close(layer(x)[0, :, t], w[:, :, 0] @ before + w[:, :, 1] @ x[0, :, t] + b)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_that_of_torch(causal: bool):
    layer, x = Attention(6, heads=3, causal=causal).double(), random(2, 5, 6)
    theirs = nn.MultiheadAttention(6, 3, batch_first=True).double()
    packed = {
        f"in_proj_{kind}": torch.cat([getattr(getattr(layer, p), kind) for p in ("query", "key", "value")])
        for kind in ("weight", "bias")
    }
    theirs.load_state_dict(
        {**packed, "out_proj.weight": layer.output.weight, "out_proj.bias": layer.output.bias}
    )
    hidden = ~causal_mask(5) if causal else None
    torch.testing.assert_close(layer(x), theirs(x, x, x, attn_mask=hidden)[0])
    mask = causal_mask(5) if causal else None
    q, k, v = (f(x).unflatten(-1, (3, 2)).transpose(1, 2) for f in (layer.query, layer.key, layer.value))
    seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer(x), layer.output(seen))


def test_a_residual_branch_is_added_and_begins_at_zero_if_asked():
    f, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3), nn.LayerNorm(3)).double(), random(2, 3)
    torch.testing.assert_close(Residual(f)(x), x + f(x))
    layer = init.zero_residual(Residual(f))
    assert torch.equal(layer(x), x)
    assert f[2].weight.any()  # the norm's scale is enough
    inner = Residual(nn.Sequential(Residual(nn.Linear(3, 3)), nn.Tanh())).double()
    assert [type(m) for m in inner.ends] == [nn.Linear]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"nonlinearity": "relu", "num_layers": 2, "bidirectional": True},
        {"bias": False, "batch_first": True},
    ],
)
def test_a_simple_recurrent_layer_is_that_of_torch(options: dict[str, Any]):
    ours, theirs = RNN(3, 4, **options).double(), nn.RNN(3, 4, **options).double()
    theirs.load_state_dict(ours.state_dict())
    x = random(2, 6, 3)
    for given in ((x,), (x[0],), (x, random(*theirs(x)[1].shape))):
        for one, other in zip(ours(*given), theirs(*given), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "set": (lambda: SetLinear(3, 2)(torch.zeros(4, 3)), BadTask, r"^layers.SetLinear reads sets \[examples, elements, inputs\], got \[4, 3\]$"),
    "heads": (lambda: Attention(6, heads=4), BadValue, r"^each head takes an equal share of the width: 6 cannot be divided by 4$"),
    "dropout": (lambda: Attention(6, dropout=2.0), BadValue, r"^dropout of Attention is a share from 0 to 1, got 2.0$"),
    "width": (lambda: Attention(6)(torch.zeros(2, 5, 4)), BadTask, r"^layers.Attention reads \[examples, elements, 6\], got \[2, 5, 4\]$"),
    "mass": (lambda: MassConserving(torch.tanh), BadTask, r"^layers.MassConserving wraps an nn.Module, got a builtin"),  # type: ignore[arg-type]
    "residual": (lambda: Residual(abs), BadTask, r"^layers.Residual wraps an nn.Module, got a builtin"),  # type: ignore[arg-type]
    "shape": (lambda: Residual(nn.Linear(3, 4))(torch.zeros(2, 3)), BadTask,
              r"^what layers.Residual adds has the shape of its input \[2, 3\], got \[2, 4\]$"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name: str):
    asked, error, told = REFUSED[name]
    with pytest.raises(error, match=told):
        asked()
