"""Initial weights: functions that give the linear and convolutional layers of a model new ones, and give back the model.

A layer sums over n = fan_in inputs. With weights of mean 0 and variance v, independent of the inputs x, its outputs
have E[y²] = n · v · E[x²]. An activation φ makes E[φ(y)²] of that. Signals keep their size through a deep model where
both together are 1: v = gain² / n with gain² = E[y²] / E[φ(y)²]. Going backward, the same law holds with fan_out and
the slopes φ'. :func:`gain` says what follows for each activation, and :func:`own` applies it.

Each function takes layers of ``torch.nn`` (linear and convolutional) and of ``fallline.layers``, leaves alone what is
frozen, and sets biases to 0. What is not a sum over inputs (embeddings, norms, recurrent layers) stays as it is.

>>> from fallline.layers import init, mlp
>>> model = init.he(mlp(64, 32, 10))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ..errors import BadTask, BadValue, NotFound
from .parts import ACTIVATIONS, known

GAINS = {
    "relu": math.sqrt(2.0),
    "tanh": 1.0,
    "sigmoid": 4.0,
    "centered_sigmoid": 4.0,
    "gelu": 1.5335304301,
    "silu": 1.6765324703,
}


def gain(activation: str) -> float:
    """The gain that keeps signals at their size through many layers of an activation: weights have σ = gain / √fan_in.

    - relu: half of a symmetric y is cut off, E[φ(y)²] = ½ E[y²], whatever the size of y: gain √2. It is the same
      going backward, as half of the slopes are 1.
    - gelu, silu: 1 / √E[φ(z)²] for a standard normal z: signals of size 1 stay so.
    - tanh, centered_sigmoid: 1 / φ'(0), which is 1 and 4. Small signals then pass as they are, forward and backward, and
      large ones become small ones; a larger gain (5/3 is in use for tanh) holds signals at a size of its own and
      makes gradients grow with depth. σ(x) − ½ = ½ tanh(x / 2), hence the 4.
    - sigmoid: 4, as for the centered one, together with biases that take its mean of ½ away; see :func:`own`.

    Args:
        activation: relu, tanh, sigmoid, centered_sigmoid, gelu or silu.

    >>> round(gain("relu") ** 2, 12)
    2.0

    Source: He et al., Delving deep into rectifiers, 2015; for tanh Glorot and Bengio, 2010, and Schoenholz et al., Deep
    information propagation, 2017.
    """
    return GAINS[known("activation", activation, ACTIVATIONS)]


def glorot(model: nn.Module, gain: float = 1.0) -> nn.Module:
    """Weights from N(0, gain² · 2 / (fan_in + fan_out)): a compromise between signals and gradients.

    Args:
        model: its layers get new weights.
        gain: a factor; 1 is right for what is linear near 0, such as tanh.

    >>> model = glorot(nn.Linear(300, 100))
    >>> model.bias.abs().max().item()
    0.0

    Source: Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks, 2010, who draw
    from a uniform distribution of this variance.
    """
    _check_gain(gain)
    return _drawn(model, lambda w, into, out: w.normal_(std=gain * math.sqrt(2 / (into + out))))


def he(model: nn.Module, gain: float = math.sqrt(2.0)) -> nn.Module:
    """Weights from N(0, gain² / fan_in): with ReLU, signals keep their size through any number of layers.

    Args:
        model: its layers get new weights.
        gain: √2 for ReLU; :func:`gain` has those of other activations.

    >>> model = he(nn.Sequential(nn.Linear(300, 100), nn.ReLU()))

    Source: He et al., Delving deep into rectifiers, 2015.
    """
    _check_gain(gain)
    return _drawn(model, lambda w, into, out: w.normal_(std=gain / math.sqrt(into)))


def orthogonal(model: nn.Module, gain: float = 1.0) -> nn.Module:
    """Weights with W Wᵀ = gain² I (or WᵀW, where there are more outputs): without an activation no length is changed.

    A kernel is a matrix of outputs × (inputs · places).

    Args:
        model: its layers get new weights.
        gain: a factor, as in :func:`he`.

    >>> w = orthogonal(nn.Linear(5, 3)).weight
    >>> torch.allclose(w @ w.T, torch.eye(3), atol=1e-6)
    True

    Source: Saxe, McClelland and Ganguli, Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks, 2014.
    """
    _check_gain(gain)
    return _drawn(model, lambda w, into, out: nn.init.orthogonal_(w, gain))


def own(model: nn.Module, activation: str) -> nn.Module:
    """The initial weights that an activation asks for: N(0, gain² / fan_in) with its own :func:`gain`.

    After a sigmoid, whose outputs have mean ½, biases begin as b = −½ Σ_j W_j, so that at first it is a centered one;
    for this the layers must follow each other, as in :func:`~fallline.layers.mlp`.

    Args:
        model: its layers get new weights.
        activation: relu, tanh, sigmoid, centered_sigmoid, gelu or silu.

    >>> model = own(nn.Sequential(nn.Linear(300, 100), nn.Tanh(), nn.Linear(100, 10)), "tanh")

    Source: see :func:`gain`.
    """
    he(model, gain(activation))
    if activation == "sigmoid":
        for layer in list(_layers(model))[1:]:
            bias = layer.bias
            if bias is not None and len(bias) == len(layer.weight):
                with torch.no_grad():
                    bias.copy_(-0.5 * layer.weight.flatten(1).sum(1))
    return model


def zero_residual(model: nn.Module) -> nn.Module:
    """The last layer of each residual branch becomes 0, so that x + f(x) begins as x; all else stays as it is.

    Where the branch ends with a norm, that is its scale.

    Args:
        model: one with residual branches of ``fallline.layers``: :class:`~fallline.layers.Residual`, ``resnet``,
            ``transformer``.

    Raises:
        NotFound: where there are none.

    >>> from fallline.layers import Residual
    >>> x = torch.randn(2, 5)
    >>> branch = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
    >>> torch.equal(zero_residual(Residual(branch))(x), x)
    True

    Source: Goyal et al., Accurate, large minibatch SGD: training ImageNet in 1 hour, 2017, section 5.1; Zhang, Dauphin
    and Ma, Fixup initialization, 2019.
    """
    ends = [end for module in _checked(model).modules() for end in getattr(module, "ends", ())]
    if not ends:
        raise NotFound(
            f"the model {type(model).__name__} has no residual branch to begin at 0: layers.Residual, resnet and "
            "transformer have some"
        )
    with torch.no_grad():
        for end in ends:
            for p in end.parameters(recurse=False):
                p.zero_()
    return model


def started(model: nn.Module, init: str, activation: str = "relu") -> nn.Module:
    """A model with the initial weights of this name, as builders take it.

    Args:
        model: what was built.
        init: default (as torch has them), glorot, he, orthogonal, or own (see :func:`own`).
        activation: between the layers of the model.
    """
    return STARTS[known("initialization", init, STARTS)](model, activation)


STARTS: dict[str, Callable[[nn.Module, str], nn.Module]] = {
    "default": lambda model, activation: model,
    "glorot": lambda model, activation: glorot(model),
    "he": lambda model, activation: he(model),
    "orthogonal": lambda model, activation: orthogonal(model, gain(activation)),
    "own": own,
}


# --- the layers of a model ----------------------------------------------------------------------------------


def _layers(model: nn.Module) -> Iterator[Any]:
    """What sums over inputs and is trained, in the order of its definition."""
    for module in _checked(model).modules():
        layer: Any = module
        summing = isinstance(layer, (nn.Linear, _ConvNd)) or hasattr(layer, "fans")
        if summing and layer.weight.requires_grad:
            yield layer


def _drawn(model: nn.Module, draw: Callable[[Tensor, int, int], object]) -> nn.Module:
    """The model, each weight filled by a function of it, fan_in and fan_out."""
    layers = list(_layers(model))
    if not layers:
        raise NotFound(
            f"the model {type(model).__name__} has no linear or convolutional layer that can get initial weights"
        )
    with torch.no_grad():
        for layer in layers:
            for matrix in layer.matrices() if hasattr(layer, "matrices") else (layer.weight,):
                draw(matrix, *_fans(layer))
            if layer.bias is not None:
                layer.bias.zero_()
    return model


def _fans(layer: Any) -> tuple[int, int]:
    """The numbers that one output sums over, and that one input goes into."""
    if hasattr(layer, "fans"):
        return layer.fans
    weight = layer.weight
    places = math.prod(weight.shape[2:])
    into, out = weight.shape[1] * places, weight.shape[0] * places
    if isinstance(layer, _ConvNd):
        out //= layer.groups
        if layer.transposed:
            into, out = out, into
    return into, out


def _checked(model: nn.Module) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise BadTask(f"initial weights are for an nn.Module, got a {type(model).__name__}")
    return model


def _check_gain(gain: float) -> None:
    if isinstance(gain, bool) or not isinstance(gain, (int, float)) or not 0 < gain < math.inf:
        raise BadValue(f"the gain of initial weights is a number above 0, got {gain!r}")
