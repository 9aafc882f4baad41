"""The small builders: linear, the LSTM that reads a sequence, and the options that builders share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fallline.errors import BadTask, BadValue, NotFound
from fallline.layers import cnn, linear, lstm, mlp
from fallline.layers.parts import CenteredSigmoid


def test_linear_is_one_product():
    model = linear(6, 4)
    x = torch.randn(5, 2, 3)
    assert torch.equal(model(x), F.linear(x.flatten(1), model[1].weight, model[1].bias))


def test_the_reader_of_sequences_is_lstm_and_linear():
    model: Any = lstm(3, 5, outputs=2, depth=2)
    x = torch.randn(4, 7, 3)
    twin = nn.LSTM(3, 5, num_layers=2, batch_first=True)
    twin.load_state_dict(model.layers.state_dict())
    torch.testing.assert_close(model(x), model.output(twin(x)[0][:, -1]))
    assert torch.equal(model(x.flatten(1)), model(x))  # flat sequences are unfolded
    every: Any = lstm(3, 5, outputs=2, depth=2, each=True)
    every.load_state_dict(model.state_dict())
    torch.testing.assert_close(every(x)[..., -1], model(x))
    assert every(x).shape == (4, 2, 7)


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm)])
def test_an_mlp_normalizes_before_each_activation(norm: str, kind: type):
    kinds = [type(part) for part in mlp(6, 5, 4, 3, norm=norm)]
    hidden = [nn.Linear, kind, nn.ReLU]
    assert kinds == [nn.Flatten, *hidden, *hidden, nn.Linear]


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm2d), ("layer", nn.GroupNorm)])
def test_a_cnn_normalizes_before_each_activation(norm: str, kind: type):
    kinds = [type(part) for part in cnn(1, 4, outputs=3, size=4, norm=norm)]
    assert kinds[2:6] == [nn.Conv2d, kind, nn.ReLU, nn.MaxPool2d]


def test_layer_norm_of_a_picture_is_over_all_its_numbers():
    norm = cnn(1, 4, outputs=3, size=4, norm="layer")[3].double()
    x = 5 + 3 * torch.randn(2, 4, 6, 6, dtype=torch.float64)
    expected = F.layer_norm(x, x.shape[1:])
    torch.testing.assert_close(norm(x), expected)


def test_a_centered_sigmoid_is_half_a_tanh_of_half():
    x = torch.linspace(-5, 5, 21, dtype=torch.float64)
    torch.testing.assert_close(CenteredSigmoid()(x), 0.5 * torch.tanh(x / 2))
    kinds = [type(part) for part in mlp(3, 2, 1, activation="centered_sigmoid")]
    assert CenteredSigmoid in kinds


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "linear": (lambda: linear(0, 3), BadValue, r"^inputs of linear is a whole number above 0, got 0$"),
    "linear init": (lambda: linear(2, 3, init="hey"), NotFound, r"^no initialization is called 'hey'; did you mean 'he'\?$"),
    "lstm": (lambda: lstm(3, 4.0, outputs=1), BadValue, r"^width of lstm is a whole number above 0, got 4.0$"),  # type: ignore[arg-type]
    "lstm dropout": (lambda: lstm(3, 4, outputs=1, depth=2, dropout=1.5), BadValue, r"^dropout of lstm is a share from 0 to 1, got 1.5$"),
    "one layer": (lambda: lstm(3, 4, outputs=1, dropout=0.5), BadValue, r"^dropout of lstm is between its layers, and depth=1 has one layer: take depth=2$"),
    "steps": (lambda: lstm(3, 4, outputs=1)(torch.zeros(2, 8)), BadTask, r"^8 numbers of an example are no whole steps of 3 inputs$"),
    "mlp norm": (lambda: mlp(3, 2, norm="bach"), NotFound, r"^no normalization is called 'bach'; did you mean 'batch'\?$"),
    "cnn init": (lambda: cnn(1, 2, outputs=1, size=4, init="orthogonol"), NotFound, r"^no initialization is called 'orthogonol'; did you mean"),
    "bool": (lambda: mlp(*(3, True)), BadValue, r"^mlp needs at least two widths, whole numbers above 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_built_is_refused(name: str):
    asked, error, told = REFUSED[name]
    with pytest.raises(error, match=told):
        asked()
