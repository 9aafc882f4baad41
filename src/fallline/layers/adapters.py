"""Low-rank adapters: fine-tuning that leaves a model as it is, and adds a little to its linear layers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import BadTask, BadValue, NotFound


class LowRank(nn.Module):
    """A linear layer that is frozen, and its adapter; see :func:`lora`."""

    scale: Tensor

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base
        like: Any = {"dtype": base.weight.dtype, "device": base.weight.device}
        self.A = nn.Parameter(torch.randn(rank, base.in_features, **like) / math.sqrt(base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank, **like))
        # a buffer, as it differs between runs of different ranks that share a program
        self.register_buffer("scale", torch.tensor(alpha / rank, **like))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + F.linear(self.scale * F.linear(x, self.A), self.B)

    @property
    def weight(self) -> Tensor:
        """The weight of the linear layer that computes the same: W + scale · B A."""
        return self.base.weight + self.scale * (self.B @ self.A)

    @property
    def bias(self) -> Tensor | None:
        """The bias of the linear layer, which has no adapter."""
        return self.base.bias


def lora(
    model: nn.Module, rank: int = 4, alpha: float = 4.0, target: str | Callable[[str], bool] = "*"
) -> nn.Module:
    """A model whose linear layers have low-rank adapters, which alone are trained: y = W x + b + (alpha / rank) B A x.

    B begins at zero, so that at first the outputs are those of the model. A begins from N(0, 1 / inputs).

    The model itself stays as it is. What comes back has modules of its own whose parameters are new names for the
    model's tensors: nothing is copied but buffers, which training changes (running averages), and nothing of the
    model requires a gradient there. To a fleet this means one base for all runs. Train the model no further
    then: its adapters would see that.

    What is packed into one parameter and is no ``nn.Linear``, as the inputs of ``nn.MultiheadAttention``, has no
    adapter.

    Inductive bias: a new task needs a change of few directions of the weights; the rest of what the model knows stays.

    Args:
        model: a trained model, such as one loaded from a file.
        rank: columns of B and rows of A.
        alpha: how much the adapter counts, which is divided by the rank, so that a good learning rate is about the
            same for all ranks.
        target: which linear layers: a pattern for their names, such as ``"*.query"``, or a function of a name.

    Raises:
        NotFound: where no linear layer has such a name.

    >>> base = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    >>> model = lora(base, rank=2, target="2")
    >>> [name for name, p in model.named_parameters() if p.requires_grad]
    ['2.A', '2.B']
    >>> x = torch.randn(5, 8)
    >>> bool((model(x) == base(x)).all())
    True

    As a task, with the rank as an option of each run: ``model=lambda rank=4: fl.lora(base, rank)``.

    Source: Hu et al., LoRA: low-rank adaptation of large language models, 2021. The paper leaves open the variance
    of A's Gaussian; here A x is of the size of x for every rank.
    """
    if not isinstance(model, nn.Module):
        raise BadTask(f"lora adapts an nn.Module, got a {type(model).__name__}")
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise BadValue(f"rank is a whole number of at least 1, got {rank!r}")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
        raise BadValue(f"alpha is a finite number, got {alpha!r}")
    if any(isinstance(module, LowRank) for module in model.modules()):
        raise BadTask(
            "the model has adapters already: merge them first, as in fl.lora(fl.layers.merged(model))"
        )
    adapted = _sharing(model)
    return _replaced(adapted, {layer: LowRank(layer, rank, alpha) for layer in _targets(adapted, target)})


def merged(model: nn.Module) -> nn.Module:
    """A plain model that computes the same: each adapter is added to its layer's weight, W + scale · B A.

    It is a copy, with the names of the model before :func:`lora`, and all of its parameters can be trained.

    Args:
        model: a model with adapters.

    >>> base = nn.Sequential(nn.Linear(8, 3))
    >>> merged(lora(base))
    Sequential(
      (0): Linear(in_features=8, out_features=3, bias=True)
    )

    Source: Hu et al., LoRA: low-rank adaptation of large language models, 2021, section 4.1.
    """
    plain = copy.deepcopy(model)
    adapters = [module for module in plain.modules() if isinstance(module, LowRank)]
    if not adapters:
        raise BadTask("the model has no adapters to merge: fl.lora(model) adds them")
    for adapter in adapters:
        adapter.base.weight = nn.Parameter(adapter.weight.detach())
    return _replaced(plain, {adapter: adapter.base for adapter in adapters}).requires_grad_()


def _targets(model: nn.Module, target: str | Callable[[str], bool]) -> list[nn.Linear]:
    """The linear layers that are to be adapted."""
    named = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    chosen = [
        m for name, m in named.items() if (target(name) if callable(target) else fnmatchcase(name, target))
    ]
    if not chosen:
        what = f"that target={target!r} chooses" if named else "at all"
        known = f"; it has {', '.join(map(repr, named))}" if named else ""
        raise NotFound(f"the model {type(model).__name__} has no linear layer {what}{known}")
    return chosen


def _sharing(model: nn.Module) -> nn.Module:
    """A copy of the modules whose parameters are frozen and lie in the same memory."""
    memo = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    return copy.deepcopy(model, memo)


def _replaced(model: nn.Module, other: Mapping[Any, nn.Module]) -> nn.Module:
    """The model with other modules in place of some, wherever they stand."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child in other:
                setattr(parent, name, other[child])
    return other.get(model, model)
