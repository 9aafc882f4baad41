"""Smoothness: the bound is exact and has a gradient, and the penalties are what they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap

from fallline.errors import BadTask, BadValue
from fallline.layers import LipschitzLinear, gradient_penalty, roughness


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("scale", [1e-6, 0.1, 10.0])
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (1, 3)])
def test_the_bound_is_reached_where_it_binds_and_changes_nothing_elsewhere(
    scale: float, shape: tuple[int, int]
):
    layer = LipschitzLinear(shape[1], shape[0], bound=0.7).double()
    layer.weight.data = scale * random(*shape)
    largest = float(torch.linalg.matrix_norm(layer.weight.detach(), 2))
    bounded = float(torch.linalg.matrix_norm(layer.matrix().detach(), 2))
    assert bounded == pytest.approx(min(largest, float(layer.bound)), rel=1e-12)
    if largest < layer.bound:
        assert torch.equal(layer.matrix(), layer.weight)
    _, _, right = torch.linalg.svd(layer.weight.detach())
    x = torch.stack([right[0], 0 * right[0]])
    one, zero = layer(x).detach()
    assert float((one - zero).norm()) == pytest.approx(bounded, rel=1e-10)  # the worst direction


@pytest.mark.parametrize("scale", [0.01, 3.0])
def test_gradients_go_through_the_bound(scale: float):
    layer, x = LipschitzLinear(5, 4, bound=0.5).double(), random(3, 5)

    def f(weight: Tensor) -> Tensor:
        return functional_call(layer, {"weight": weight}, (x,)).sin().sum()

    assert torch.autograd.gradcheck(f, (scale * random(4, 5)).requires_grad_())


def test_a_weight_of_zero_has_a_gradient():
    layer = LipschitzLinear(5, 4).double()
    nn.init.zeros_(layer.weight)
    layer(random(3, 5)).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.isfinite().all()


def test_roughness_is_the_sum_over_neighbors():
    w = random(2, 3, 4)
    expected = sum(float((w[:, i + 1] - w[:, i]).square().sum()) for i in range(2))
    assert float(roughness(w, (1,))) == pytest.approx(expected)
    both = expected + sum(float((w[..., i + 1] - w[..., i]).square().sum()) for i in range(3))
    assert float(roughness(w)) == pytest.approx(both)
    assert float(roughness(torch.ones(5, 5))) == 0
    assert torch.autograd.gradcheck(roughness, w.requires_grad_())


NETS = {
    "vectors": (nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double(), (3,)),
    "pictures": (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh()).double(), (1, 4, 4)),
    "one number": (nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)).double(), (3,)),
}


@pytest.mark.parametrize("name", NETS)
def test_the_gradient_penalty_is_the_mean_square_of_the_jacobian(name: str):
    net, shape = NETS[name]
    x = random(4, *shape)
    each = [jacrev(net)(x[i : i + 1]).square().sum() for i in range(4)]
    torch.testing.assert_close(gradient_penalty(net, x), torch.stack(each).mean())


def test_it_can_be_trained_in_a_fleet():
    net, x = NETS["vectors"][0], random(4, 3)
    stacked = {name: torch.stack([p.detach(), 2 * p.detach()]) for name, p in net.named_parameters()}

    def penalty(p: Any) -> Tensor:
        return gradient_penalty(lambda x: functional_call(net, p, (x,)), x) + roughness(p["0.weight"])

    together = vmap(grad(penalty))(stacked)
    for i in range(2):
        alone = grad(penalty)({name: p[i] for name, p in stacked.items()})
        for name, g in alone.items():
            torch.testing.assert_close(together[name][i], g, rtol=1e-12, atol=1e-12)


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "bound": (lambda: LipschitzLinear(2, 2, bound=0), BadValue, r"^bound of LipschitzLinear is a number above 0, got 0$"),
    "axis": (lambda: roughness(torch.zeros(3), (1,)), BadValue, r"^a weight of shape \[3\] has no axis 1$"),
    "tokens": (lambda: gradient_penalty(nn.Embedding(3, 2), torch.tensor([1])), BadTask,
               r"^gradient_penalty needs inputs that can change a little, got torch.int64$"),
    "one": (lambda: gradient_penalty(torch.sum, torch.zeros(3, 2)), BadTask,
            r"^gradient_penalty needs an output for each example, got \[\] for \[3, 2\]$"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_smoothness_is_refused(name: str):
    asked, error, told = REFUSED[name]
    with pytest.raises(error, match=told):
        asked()
