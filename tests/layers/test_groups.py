"""Reflections and rotations: group convolutions written out, averages over a group, and what cannot be turned."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fallline.errors import BadTask, BadValue
from fallline.layers import Equivariant, GlobalPool2d, GroupConv2d, GroupPool2d, Invariant
from fallline.layers.groups import GROUPS, act, inverse, product


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_convolution_is_the_sum_of_the_paper(group: str):
    torch.manual_seed(0)
    elements = GROUPS[group]
    n = len(elements)
    lift, conv = GroupConv2d(2, 3, 3, group, lift=True).double(), GroupConv2d(3, 2, 3, group).double()
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    features = lift(x).unflatten(1, (3, n))
    for i, g in enumerate(elements):
        torch.testing.assert_close(features[:, :, i], F.conv2d(x, act(g, lift.weight), lift.bias, padding=1))
    again = conv(features.flatten(1, 2)).unflatten(1, (2, n))
    for i, g in enumerate(elements):
        total: Any = conv.bias.view(1, -1, 1, 1)
        for j, h in enumerate(elements):
            kernel = act(g, conv.weight[:, :, elements.index(product(inverse(g), h))])
            total = total + F.conv2d(features[:, :, j], kernel, padding=1)
        torch.testing.assert_close(again[:, :, i], total)


def test_a_deep_net_of_the_group_does_not_see_a_turn():
    torch.manual_seed(0)
    widths = (4, 6, 8)
    deep = [m for a, b in pairwise(widths) for m in (GroupConv2d(a, b, group="p4m"), nn.ReLU())]
    net = nn.Sequential(
        GroupConv2d(1, 4, group="p4m", lift=True), nn.ReLU(), *deep, GroupPool2d("p4m"), GlobalPool2d("max"), nn.Linear(8, 3)
    ).double()  # fmt: skip
    x = torch.randn(2, 1, 7, 7, dtype=torch.float64)
    for g in GROUPS["p4m"]:
        torch.testing.assert_close(net(act(g, x)), net(x), rtol=1e-10, atol=1e-12)
    other = x.clone()
    other[..., 0, 0] += 1
    assert not torch.allclose(net(other), net(x))


def test_weights_start_as_those_of_torch():
    """Within its bound 1 / √fan_in, and of its variance, a third of the square."""
    torch.manual_seed(0)
    conv = GroupConv2d(8, 40, 3, "p4")
    assert conv.fans == (8 * 4 * 9, 40 * 4 * 9)
    bound = conv.fans[0] ** -0.5
    assert conv.weight.abs().max() <= bound
    # a uniform variable's square has relative variance 4/5
    assert abs(conv.weight.square().mean() / (bound**2 / 3) - 1) < 5 * (0.8 / conv.weight.numel()) ** 0.5


def test_an_average_leaves_alone_what_is_invariant_already():
    mean = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(Invariant(mean, "p4m")(x), mean(x))
    same = nn.Identity()
    torch.testing.assert_close(Equivariant(same, "p4m")(x), x)


def test_norms_over_examples_see_all_elements_once():
    net = Invariant(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten()), "p4")
    net(torch.randn(3, 1, 4, 4))
    assert int(net.module[1].num_batches_tracked) == 1  # type: ignore[index]


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "even": (lambda: GroupConv2d(1, 2, 4), BadValue, r"^size of GroupConv2d is odd, so that a kernel has a middle to turn around, got 4$"),
    "not square": (lambda: GroupConv2d(1, 2, lift=True)(torch.zeros(1, 1, 4, 5)), BadTask,
                   r"^a picture that is turned by 90° must be square for the group p4, got \[1, 1, 4, 5\]: take reflections"),
    "flat": (lambda: Invariant(nn.Identity(), "left_right")(torch.zeros(2, 16)), BadTask,
             r"^symmetries of pictures need \[examples, channels, height, width\], got \[2, 16\]$"),
    "no module": (lambda: Invariant(torch.tanh, "p4"), BadTask, r"^layers.Invariant wraps an nn.Module, got a builtin"),  # type: ignore[arg-type]
    "channels": (lambda: GroupPool2d("p4")(torch.zeros(1, 6, 4, 4)), BadTask,
                 r"^layers.GroupPool2d reads \[examples, channels · 4, height, width\] of the group p4, got \[1, 6, 4, 4\]$"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_turned_is_refused(name: str):
    asked, error, told = REFUSED[name]
    with pytest.raises(error, match=told):
        asked()
