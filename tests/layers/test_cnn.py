"""The convolutional network: shapes, what it is made of, and the symmetry that it assumes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fallline.errors import BadValue, NotFound
from fallline.layers import cnn


def test_it_is_convolutions_with_pooling_and_a_linear_layer():
    net = cnn(1, 8, 16, outputs=10, size=8, activation="tanh")
    x = torch.randn(5, 1, 8, 8)
    first, second = (part for part in net if isinstance(part, nn.Conv2d))
    hidden = F.max_pool2d(torch.tanh(F.conv2d(x, first.weight, first.bias, padding=1)), 2)
    hidden = F.max_pool2d(torch.tanh(F.conv2d(hidden, second.weight, second.bias, padding=1)), 2)
    expected = F.linear(hidden.reshape(5, 16 * 2 * 2), net[-1].weight, net[-1].bias)
    torch.testing.assert_close(net(x), expected)
    assert torch.equal(net(x.flatten(1)), net(x))  # flat pictures are unfolded


def test_an_odd_size_loses_its_last_row():
    assert cnn(3, 4, 5, outputs=2, size=7)(torch.zeros(2, 3, 7, 7)).shape == (2, 2)


def test_a_pattern_that_moves_moves_the_features_along():
    """By the size of a pooled pixel, away from the borders."""
    features = cnn(2, 4, 6, outputs=3, size=24).double()[:-2]
    pattern = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    one, other = torch.zeros(2, 1, 2, 24, 24, dtype=torch.float64)
    one[..., 8:12, 8:12], other[..., 12:16, 8:12] = pattern, pattern
    inside = slice(2, -1)  # borders reach a pixel inward, and moved by one
    moved = features(one).roll(1, dims=2)
    torch.testing.assert_close(features(other)[..., inside, inside], moved[..., inside, inside])


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        ((1,), {"outputs": 3, "size": 8}),
        ((1, 0), {"outputs": 3, "size": 8}),
        ((1, 8), {"outputs": 0, "size": 8}),
        ((1, 8, 8, 8), {"outputs": 3, "size": 7}),
        ((1, 8), {"outputs": 3, "size": 8.0}),
    ],
)
def test_sizes_that_make_no_network_are_refused(channels: Any, options: Any):
    with pytest.raises(
        BadValue,
        match=r"^cnn needs channels, outputs and a size, whole numbers above 0, as in cnn\(1, 8, 16, ",
    ):
        cnn(*channels, **options)


def test_an_unknown_activation_is_refused():
    with pytest.raises(NotFound, match=r"^no activation is called 'Relu'; did you mean 'relu'\?$"):
        cnn(1, 8, outputs=3, size=8, activation="Relu")
