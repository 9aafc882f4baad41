"""Local layers and pooling over places: against convolutions, and what padding does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fallline.errors import BadTask, BadValue
from fallline.layers import GlobalPool2d, LocallyConnected2d, init


@pytest.mark.parametrize("padding", [0, 1])
def test_with_the_same_kernels_everywhere_it_is_a_convolution(padding: int):
    conv = nn.Conv2d(2, 3, 3, padding=padding).double()
    layer = LocallyConnected2d(2, 3, 3, height=5, width=6, padding=padding).double()
    with torch.no_grad():
        layer.weight.copy_(conv.weight.flatten(1).expand_as(layer.weight))
        layer.bias.copy_(conv.bias.view(-1, 1, 1).expand_as(layer.bias))  # type: ignore[union-attr]
    x = torch.randn(4, 2, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(x), conv(x))


def test_each_place_has_kernels_of_its_own():
    layer, x = LocallyConnected2d(1, 1, 2, height=3, width=3), torch.ones(1, 1, 3, 3)
    with torch.no_grad():
        layer.bias.zero_()
        layer.weight.copy_(torch.arange(4.0).view(4, 1, 1).expand_as(layer.weight))
    assert layer(x).flatten().tolist() == [0.0, 4.0, 8.0, 12.0]


def test_initial_weights_are_those_of_each_place():
    torch.manual_seed(0)
    layer: Any = init.orthogonal(LocallyConnected2d(2, 3, 3, height=5, width=6), gain=2.0)
    for w in layer.weight:
        torch.testing.assert_close(w @ w.T, 4 * torch.eye(3), rtol=1e-5, atol=1e-5)
    he: Any = init.he(LocallyConnected2d(4, 6, 3, height=8, width=8), gain=1.0)
    squares = he.weight.double().square()
    assert abs(squares.mean() * 36 - 1) < 5 * (2 / squares.numel()) ** 0.5


def test_zeros_around_a_picture_tell_where_the_border_is():
    """The pooling is exact; a convolution before it must pad circularly."""
    torch.manual_seed(0)
    x = torch.randn(2, 1, 6, 6, dtype=torch.float64)
    nets = {
        mode: nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1, padding_mode=mode), nn.Tanh(), GlobalPool2d()
        ).double()
        for mode in ("circular", "zeros")
    }
    torch.testing.assert_close(nets["circular"](x.roll(2, 3)), nets["circular"](x), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(nets["zeros"](x.roll(2, 3)), nets["zeros"](x))


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "large": (lambda: LocallyConnected2d(1, 1, 6, height=5, width=8), BadValue, r"^neighborhoods of 6 × 6 do not fit into pictures of 5 × 8$"),
    "padding": (lambda: LocallyConnected2d(1, 1, 3, height=5, width=8, padding=-1), BadValue,
                r"^padding of LocallyConnected2d is a whole number of at least 0, got -1$"),
    "shape": (lambda: LocallyConnected2d(1, 1, 3, height=5, width=8)(torch.zeros(2, 1, 8, 5)), BadTask,
              r"^layers.LocallyConnected2d reads \[examples, 1, 5, 8\], got \[2, 1, 8, 5\]$"),
    "flat": (lambda: GlobalPool2d()(torch.zeros(2, 6)), BadTask, r"^layers.GlobalPool2d reads \[examples, channels, height, width\], got \[2, 6\]$"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name: str):
    asked, error, told = REFUSED[name]
    with pytest.raises(error, match=told):
        asked()
