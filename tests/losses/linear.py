"""A regression that has a closed form: a linear model without bias, whose batch is all of its data."""

import numpy as np
import torch
from torch import nn

import fallline as fl
from fallline import losses

EXAMPLES, INPUTS = 12, 3


class Line(nn.Module):
    """f(x) = wᵀx, w = 0 at the start."""

    def __init__(self, inputs: int = INPUTS):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(inputs))

    def forward(self, x):
        return x @ self.w


def data(seed=0):
    """Inputs that correlate, whose second moments are 1.44, 1 and 0.64 along their axes, so that descent is quick."""
    random = np.random.default_rng(seed)
    apart = np.linalg.qr(random.normal(size=(EXAMPLES, INPUTS)))[0] * np.sqrt(EXAMPLES)
    turned = np.linalg.qr(random.normal(size=(INPUTS, INPUTS)))[0]
    return apart * np.array([1.2, 1.0, 0.8]) @ turned, random.normal(size=EXAMPLES)


def moments(X, y):
    """mse = wᵀAw − 2bᵀw + a constant."""
    return X.T @ X / len(X), X.T @ y / len(X)


def task(rest, X, y):
    """Squared error and another loss."""
    return fl.Task.supervised(
        Line, (X, y), (X, y), (X, y), loss=losses.mse + rest, score="loss", dtype=torch.float64, batch=len(X)
    )


def trained(task, settings, *, steps=1200, lr=0.05, **options):
    """The weights of each setting of the loss, trained together."""
    runs = [fl.Run(fl.rules.sgd(lr=lr), loss=one) for one in settings]
    records = fl.fleet.run(task, runs, steps=steps, weights=True, workers=0, **options)
    assert all(record.outcome.status == "finished" for record in records)
    return [record.weights["w"] for record in records]
