"""The options of torch's optimizers that ours are compared over, and a small problem to train."""

from __future__ import annotations

import itertools
from typing import Any

import torch

SHAPES = ((3, 4), (4,), (), (0,), (2, 1, 3))

GRID: dict[str, dict[str, tuple[Any, ...]]] = {
    "SGD": {
        "lr": (0.1, 0.01), "momentum": (0.0, 0.9), "dampening": (0.0, 0.3), "weight_decay": (0.0, 0.1),
        "nesterov": (False, True), "maximize": (False, True),
    },
    "Adagrad": {
        "lr": (0.1, 0.01), "lr_decay": (0.0, 0.05), "weight_decay": (0.0, 0.1),
        "initial_accumulator_value": (0.0, 0.2), "eps": (1e-10, 1e-3), "maximize": (False, True),
    },
    "RMSprop": {
        "lr": (0.01, 0.001), "alpha": (0.99, 0.7), "eps": (1e-8, 1e-3), "weight_decay": (0.0, 0.1),
        "momentum": (0.0, 0.9), "centered": (False, True), "maximize": (False, True),
    },
    "Adam": {
        "lr": (0.1, 0.001), "betas": ((0.9, 0.999), (0.0, 0.5)), "eps": (1e-8, 1e-3), "weight_decay": (0.0, 0.1),
        "amsgrad": (False, True), "maximize": (False, True), "decoupled_weight_decay": (False, True),
    },
    "AdamW": {
        "lr": (0.1, 0.001), "betas": ((0.9, 0.999), (0.0, 0.5)), "eps": (1e-8, 1e-3), "weight_decay": (0.0, 0.1),
        "amsgrad": (False, True), "maximize": (False, True),
    },
    "Adadelta": {
        "lr": (1.0, 0.1), "rho": (0.9, 0.0), "eps": (1e-6, 1e-2), "weight_decay": (0.0, 0.1), "maximize": (False, True),
    },
    "NAdam": {
        "lr": (0.1, 0.001), "betas": ((0.9, 0.999), (0.0, 0.5)), "eps": (1e-8, 1e-3), "weight_decay": (0.0, 0.1),
        "momentum_decay": (4e-3, 0.0), "decoupled_weight_decay": (False, True), "maximize": (False, True),
    },
    "RAdam": {
        "lr": (0.1, 0.001), "betas": ((0.9, 0.999), (0.0, 0.5)), "eps": (1e-8, 1e-3), "weight_decay": (0.0, 0.1),
        "decoupled_weight_decay": (False, True), "maximize": (False, True),
    },
    "Adamax": {
        "lr": (0.1, 0.001), "betas": ((0.9, 0.999), (0.0, 0.5)), "eps": (1e-8, 1e-3), "weight_decay": (0.0, 0.1),
        "maximize": (False, True),
    },
}  # fmt: skip


def cases() -> list[tuple[str, dict[str, Any]]]:
    """Each optimizer with each combination of options that torch takes."""
    found = []
    for name, options in GRID.items():
        for chosen in itertools.product(*options.values()):
            case = dict(zip(options, chosen, strict=True))
            if not (case.get("nesterov") and (case["momentum"] == 0 or case["dampening"] != 0)):
                found.append((name, case))
    return found


class Problem:
    """Parameters that a linear force pulls at, and a wind that blows from elsewhere at each step."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.params = [
            torch.nn.Parameter(torch.randn(shape, generator=self.random, dtype=dtype)) for shape in SHAPES
        ]

    def blow(self, missing: tuple[int, ...] = ()) -> None:
        """Set the gradients of a step; those of the parameters in ``missing`` are None."""
        for i, p in enumerate(self.params):
            wind = torch.randn(p.shape, generator=self.random, dtype=torch.float64).to(p.dtype)
            p.grad = None if i in missing else 0.3 * p.detach() + wind

    def values(self) -> list[torch.Tensor]:
        """A copy of the parameters."""
        return [p.detach().clone() for p in self.params]


def deviation(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """The largest difference, relative to the largest entry of each tensor."""
    return max(
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True) if a.numel()
    )
