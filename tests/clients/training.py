"""A small training, and the optimizers that every client is tried with."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from fallline import optim, rules, schedules
from optim.cases import GRID

STEPS = 8
Make = Callable[[torch.nn.Module], optim.Optimizer]


def net(seed: int = 0) -> torch.nn.Sequential:
    """A net with two linear layers."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))


def data(n: int = 16, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Inputs [n, 3] and targets [n, 2]."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=random), torch.randn(n, 2, generator=random)


def loss_of(model: torch.nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The mean squared error."""
    loss: Tensor = (model(batch[0]) - batch[1]).square().mean()
    return loss


def composed(model: torch.nn.Module) -> optim.Optimizer:
    """A clip and a schedule around Adam."""
    rule = rules.chain(rules.clip_norm(0.5), rules.adam(lr=schedules.cosine(0.1, STEPS, end=0.01)))
    return optim.Optimizer(model.named_parameters(), rule)


def routed(model: torch.nn.Module) -> optim.Optimizer:
    """Biases by momentum and weights by AdamW, on average."""
    parts = rules.route({"*.bias": rules.momentum(lr=0.05)}, otherwise=rules.adamw(lr=0.01))
    return optim.Optimizer(model.named_parameters(), rules.average(parts, decay=0.9))


def by_name(name: str) -> Make:
    """Torch's optimizer of that name, as we have it."""

    def make(model: torch.nn.Module) -> optim.Optimizer:
        options: dict[str, Any] = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
        made: optim.Optimizer = getattr(optim, name)(model.parameters(), lr=0.01, **options)
        return made

    return make


MAKERS: dict[str, Make] = {name: by_name(name) for name in GRID} | {"composed": composed, "routed": routed}


def assert_equal(one: torch.nn.Module, two: torch.nn.Module) -> None:
    """Two models have the same parameters, bit for bit, and they are numbers."""
    for (name, p), (_, q) in zip(one.state_dict().items(), two.state_dict().items(), strict=True):
        assert torch.equal(p.cpu(), q.cpu()), f"{name} differs by {(p - q).abs().max()}"


@functools.cache
def library(name: str) -> ModuleType:
    """A large library, imported when a test first needs it, so that collecting the tests stays quick."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def needs(*names: str) -> list[pytest.MarkDecorator]:
    """The marks of a file of tests that need these libraries, which warn of much; one process runs them all."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return [
        pytest.mark.skipif(bool(missing), reason=f"{missing} are not installed: pip install -e '.[clients]'"),
        pytest.mark.filterwarnings("ignore"),
        pytest.mark.xdist_group(names[0]),
    ]
