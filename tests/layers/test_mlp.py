"""The multi-layer perceptron: shapes, activations, and what cannot be built."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from fallline.errors import BadValue, NotFound
from fallline.layers import mlp
from fallline.layers.mlp import ACTIVATIONS


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_an_mlp_is_layers_with_activations_between(activation: str):
    net = mlp(12, 7, 5, 3, activation=activation)
    linear = [part for part in net if isinstance(part, nn.Linear)]
    assert [(part.in_features, part.out_features) for part in linear] == [(12, 7), (7, 5), (5, 3)]
    between = [part for part in net if type(part) in ACTIVATIONS.values()]
    assert len(between) == 2
    assert isinstance(net[-1], nn.Linear)
    assert net(torch.zeros(4, 3, 4)).shape == (4, 3)  # further axes are flattened


def test_one_layer_is_linear():
    net = mlp(3, 2)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(x), x @ net[1].weight.T + net[1].bias)


@pytest.mark.parametrize("widths", [(), (3,), (3, 0), (3, -1, 2), (3, 2.0), (3, "2")])
def test_widths_that_make_no_layer_are_refused(widths: Any):
    with pytest.raises(
        BadValue,
        match=r"^mlp needs at least two widths, whole numbers above 0, as in mlp\(64, 32, 10\); got ",
    ):
        mlp(*widths)


def test_an_unknown_activation_is_refused():
    with pytest.raises(NotFound, match=r"^no activation is called 'rely'; did you mean 'relu'\?$"):
        mlp(3, 2, activation="rely")
