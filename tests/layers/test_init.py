"""Initial weights: their variance within bounds of its distribution, signals through many layers, and what is left alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from fallline import layers
from fallline.errors import BadTask, BadValue, NotFound
from fallline.layers import init
from fallline.layers.parts import ACTIVATIONS

DEVIATIONS = 5
"""How far from its mean a statistic may be, in its own standard deviations: a chance of 6e-7 for each."""
LAYERS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "linear": (lambda: nn.Linear(120, 80), 120, 80),
    "conv": (lambda: nn.Conv2d(12, 20, 3), 108, 180),
    "groups": (lambda: nn.Conv2d(24, 40, 3, groups=2), 108, 180),
    "transposed": (lambda: nn.ConvTranspose2d(20, 12, 3), 180, 108),
    "conv1d": (lambda: nn.Conv1d(30, 40, 5), 150, 200),
}


def check_variance(weight: Tensor, expected: float) -> None:
    """Of a normal sample: its mean has variance v / n, its second moment 2 v² / n."""
    w, n = weight.detach().double().flatten(), weight.numel()
    assert abs(w.mean()) < DEVIATIONS * math.sqrt(expected / n)
    assert abs(w.square().mean() / expected - 1) < DEVIATIONS * math.sqrt(2 / n)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_variances_are_those_of_the_papers(name: str, gain: float):
    make, into, out = LAYERS[name]
    torch.manual_seed(0)
    layer = init.he(make(), gain)
    check_variance(layer.weight, gain**2 / into)  # type: ignore[arg-type]
    check_variance(init.glorot(layer, gain).weight, gain**2 * 2 / (into + out))  # type: ignore[arg-type]
    assert not layer.bias.any()  # type: ignore[union-attr,operator]


def test_fans_are_those_of_torch():
    for make, into, out in LAYERS.values():
        layer = make()
        theirs = nn.init._calculate_fan_in_and_fan_out(layer.weight)  # type: ignore[arg-type]
        if getattr(layer, "transposed", False):
            theirs = theirs[::-1]  # torch reads the axes of a transposed kernel as those of another
        if getattr(layer, "groups", 1) == 1:
            assert init._fans(layer) == theirs == (into, out)


@pytest.mark.parametrize("shape", [(3, 7), (7, 3), (5, 5)])
def test_orthogonal_matrices_change_no_length(shape: tuple[int, int]):
    w = init.orthogonal(nn.Linear(*shape).double(), gain=2.0).weight.detach()  # type: ignore[union-attr,operator]
    product = w @ w.T if shape[1] <= shape[0] else w.T @ w
    torch.testing.assert_close(product, 4 * torch.eye(len(product), dtype=torch.float64))


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_a_gain_is_what_its_derivation_says(name: str):
    """Signals of size 1 stay so, or the slope at 0 is 1: by quadrature over the normal distribution, and by autograd."""
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    moment = (ACTIVATIONS[name]()(z).square() * density).sum()
    zero = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(ACTIVATIONS[name]()(zero), zero)
    saturates = ACTIVATIONS[name]()(torch.tensor(100.0)) <= 1
    expected = 1 / slope if saturates else moment.rsqrt()
    assert init.gain(name) == pytest.approx(float(expected), rel=1e-8)


def sizes(model: nn.Sequential, x: Tensor) -> list[float]:
    """The mean square of what each linear layer gives."""
    found = []
    for part in model:
        x = part(x)
        found += [float(x.detach().square().mean())] if isinstance(part, nn.Linear) else []
    return found


def test_with_he_signals_keep_their_size_through_thirty_layers_of_relu():
    """E[y²] = 2 at each layer, in the mean over weights; around that, the log for one input is a random walk.

    Given the layer before, outputs are independent normal numbers, and for these relu(y)² has 5 times the square of its
    mean as its variance: over ``width`` of them, each layer adds 5 / width to the variance of the log.
    """
    torch.manual_seed(0)
    width, depth = 256, 30
    nets = [layers.mlp(*[width] * (depth + 1), init="he") for _ in range(10)]
    logs = torch.tensor([sizes(net, torch.randn(64, width)) for net in nets]).div(2).log2()
    spread = math.sqrt(depth * 5 / width) / math.log(2)
    drift = depth * 5 / width / 2 / math.log(2)  # E log is below log E by half of the variance
    assert logs[:, -1].mean().abs() < drift + DEVIATIONS * spread / math.sqrt(len(nets))
    assert logs.abs().max() < drift + DEVIATIONS * spread


def test_with_the_default_weights_of_torch_signals_are_lost():
    """Their variance is 1 / (3 n), so that a layer of ReLU leaves a sixth of the square; biases alone are left."""
    torch.manual_seed(0)
    net = layers.mlp(*[256] * 31)
    for name, p in net.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(p)
    logs = torch.tensor(sizes(net, torch.randn(64, 256))).log()
    spread = math.sqrt(29 * 5 / 256)
    assert abs(logs[-1] - logs[0] - 29 * math.log(1 / 6)) < spread**2 / 2 + DEVIATIONS * spread


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_with_its_own_weights_gradients_reach_the_first_of_thirty_layers(activation: str):
    """Where those of torch's default weights have vanished."""
    ratios = {}
    for start in ("own", "default"):
        torch.manual_seed(1)
        net = layers.mlp(*[100] * 31, 1, activation=activation, init=start)
        net(torch.randn(64, 100)).mean().backward()
        linear = [part for part in net if isinstance(part, nn.Linear)]
        ratios[start] = float(linear[0].weight.grad.norm() / linear[-2].weight.grad.norm())  # type: ignore[union-attr]
    assert 1e-2 < ratios["own"] < 1e2
    assert ratios["default"] < 1e-3


def test_a_sigmoid_of_its_own_weights_begins_as_a_centered_one():
    plain, centered = (layers.mlp(20, 30, 30, 4, activation=name) for name in ("sigmoid", "centered_sigmoid"))
    init.own(plain, "sigmoid")
    weights = {k: v if "weight" in k else torch.zeros_like(v) for k, v in plain.state_dict().items()}
    centered.load_state_dict(weights)
    x = torch.randn(5, 20)
    torch.testing.assert_close(plain(x), centered(x), rtol=1e-4, atol=1e-4)


def test_builders_take_it_by_name():
    for start, function in (("he", init.he), ("glorot", init.glorot)):
        torch.manual_seed(3)
        asked = layers.mlp(5, 4, 3, init=start)
        torch.manual_seed(3)
        given = function(layers.mlp(5, 4, 3))
        assert all(torch.equal(a, b) for a, b in zip(asked.parameters(), given.parameters(), strict=True))


def test_what_is_no_sum_over_inputs_or_is_frozen_stays():
    model = nn.Sequential(
        nn.Linear(4, 4), nn.LayerNorm(4), nn.Embedding(3, 4), nn.LSTM(4, 4), nn.Linear(4, 2)
    )
    model[0].requires_grad_(requires_grad=False)
    before = {name: p.clone() for name, p in model.named_parameters()}
    assert init.he(model) is model
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"4.weight", "4.bias"}


def test_branches_of_a_transformer_begin_at_zero():
    model = init.zero_residual(layers.transformer(5, width=8, depth=2))
    x = torch.randn(2, 3, 8)
    for block in model.blocks:  # type: ignore[union-attr]
        assert torch.equal(block(x), x)


def test_layers_of_a_net_differ():
    net = [part for part in layers.mlp(6, 6, 6, 6, init="orthogonal") if isinstance(part, nn.Linear)]
    assert not any(torch.equal(a.weight, b.weight) for a, b in pairwise(net))


REFUSED = {
    "gain": (lambda: init.he(nn.Linear(2, 2), gain=0.0), BadValue, r"^the gain of initial weights is a number above 0, got 0.0$"),
    "nan": (lambda: init.orthogonal(nn.Linear(2, 2), gain=math.nan), BadValue, r"a number above 0, got nan$"),
    "module": (lambda: init.he(torch.zeros(3)), BadTask, r"^initial weights are for an nn.Module, got a Tensor$"),  # type: ignore[arg-type]
    "nothing": (lambda: init.he(nn.LayerNorm(3)), NotFound, r"^the model LayerNorm has no linear or convolutional layer that can get "),
    "no branch": (lambda: init.zero_residual(nn.Linear(2, 2)), NotFound, r"^the model Linear has no residual branch to begin at 0: layers.Residual, "),
    "activation": (lambda: init.gain("rely"), NotFound, r"^no activation is called 'rely'; did you mean 'relu'\?$"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_gets_no_initial_weights_is_refused(name: str):
    asked, error, told = REFUSED[name]
    with pytest.raises(error, match=told):
        asked()
