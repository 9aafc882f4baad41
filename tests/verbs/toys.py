"""Tasks whose answers are known by hand."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

import fallline as fl
from fallline.tasks import Metric, Task, Variables


def bowl(curvature: float = 1.0, name: str = "bowl", better: str = "lower") -> Task:
    """½ · curvature · ‖w‖², without data: gradient descent multiplies w by 1 − lr · curvature at each step.

    So 1/curvature is the best learning rate, and from 2/curvature on gradient descent diverges. The score is how far
    w is from the minimum, or how near where ``better`` is higher.
    """

    def init(seed: int) -> Variables:
        drawn = torch.rand(2, generator=torch.Generator().manual_seed(seed))
        return Variables({"w": 1 + drawn}, {})

    def value(w: Tensor) -> Tensor:
        return 0.5 * curvature * (w**2).sum()

    def score(params, buffers, batch, h):  # type: ignore[no-untyped-def]
        far = params["w"].norm()
        return {"loss": value(params["w"]), "score": far if better == "lower" else 1 / (1 + far)}

    metric = Metric("distance" if better == "lower" else "nearness", better)  # type: ignore[arg-type]
    return Task(name, init, lambda p, b, batch, h: (value(p["w"]), b), score, {}, metric, comparable="bowl")


def line(score: str | None = None, name: str = "line") -> Task:
    """A straight line through points with little noise."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 2))
    y = X @ np.array([[2.0], [-1.0]]) + 0.1 * rng.normal(size=(120, 1))
    return fl.Task.supervised(lambda: nn.Linear(2, 1), (X, y), loss=fl.losses.mse, score=score, name=name)
