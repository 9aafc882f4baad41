"""Models of many kinds, each with data that it can learn from: what a fleet must train as one run would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fallline as fl
from fallline import layers, losses
from fallline.tasks import Task

from .cases import EXAMPLES, numbers, table

random = np.random.default_rng(7)
TOKENS = random.integers(0, 9, size=(EXAMPLES, 4)), random.integers(0, 3, size=EXAMPLES)
PICTURES = numbers(1, EXAMPLES, 1, 6, 6), random.integers(0, 3, size=EXAMPLES)


class Attention(nn.Module):
    """Embedding, attention, norm, mean over time."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 6)
        self.place = nn.Parameter(torch.randn(4, 6))
        self.attend = nn.MultiheadAttention(6, 2, dropout=dropout, batch_first=True)
        self.norm = nn.LayerNorm(6)
        self.out = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.embed(x) + self.place
        z = self.norm(z + self.attend(z, z, z, need_weights=False)[0])
        return self.out(z.mean(1))


class Convolution(nn.Module):
    """Two convolutions with odd channels, the second with a stride, and pooling between."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3) if norm else nn.Identity()
        self.second = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.out = nn.Linear(5 * 2 * 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.tanh(self.norm(self.first(x))), 2)
        return self.out(torch.tanh(self.second(x)).flatten(1))


class InPlace(nn.Module):
    """Writes over its own intermediate results."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(6, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        hidden += 1.0
        hidden.mul_(0.5)
        return self.out(F.relu(hidden, inplace=True))


class Recurrent(nn.Module):
    """An LSTM over the columns of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(1, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x.unsqueeze(-1))[0][:, -1])


class Branching(nn.Module):
    """Takes one of two ways by the values that it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        hidden = torch.tanh(hidden) if hidden.sum() > 0 else torch.sin(hidden)
        return self.out(hidden)


def between(*middle: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """A hidden layer of 7, what stands in the middle, and three outputs."""
    return lambda: nn.Sequential(nn.Linear(6, 7), *(make() for make in middle), nn.Linear(7, 3))


def frozen_first() -> nn.Module:
    model = layers.mlp(6, 5, 3, activation="tanh")
    model[1].requires_grad_(requires_grad=False)
    return model


TABLE: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: layers.mlp(6, 3),
    "odd widths": lambda: layers.mlp(6, 33, 13, 3, activation="silu"),
    "gelu": between(nn.GELU),
    "sigmoid": between(nn.Sigmoid),
    "softplus": between(nn.Softplus),
    "layer norm": between(lambda: nn.LayerNorm(7), nn.ReLU),
    "group norm": between(lambda: nn.GroupNorm(1, 7), nn.ReLU),
    "batch norm": between(lambda: nn.BatchNorm1d(7), nn.Tanh),
    "dropout": between(nn.Tanh, lambda: nn.Dropout(0.3)),
    "alone in a hidden layer": lambda: layers.mlp(6, 1, 3, activation="tanh"),
    "in place": InPlace,
    "frozen parameters": frozen_first,
}
"""Models of a table, which ``vmap`` can batch."""

OTHERS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "convolution": (Convolution, PICTURES),
    "convolution and batch norm": (lambda: Convolution(norm=True), PICTURES),
    "attention": (Attention, TOKENS),
    "attention with dropout": (lambda: Attention(0.2), TOKENS),
}
BATCHED: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    **{name: (make, table()) for name, make in TABLE.items()},
    **OTHERS,
}
ALONE: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "recurrent": (Recurrent, table()),
    "branching": (Branching, table()),
}
"""Models that ``vmap`` cannot batch."""
RANDOM = {name for name in BATCHED if "dropout" in name}


def task_of(name: str, dtype: torch.dtype = torch.float64) -> Task:
    make, data = {**BATCHED, **ALONE}[name]
    return fl.Task.supervised(make, data, loss=losses.cross_entropy, dtype=dtype)
