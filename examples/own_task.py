"""A task of your own: any nn.Module, any arrays.

fallline compare examples/own_task.py:scaled
fallline compare examples/own_task.py:raw examples/own_task.py:scaled     # is the change better?
"""

from sklearn.datasets import load_breast_cancer
from torch import nn

import fallline as fl


class Net(nn.Module):
    """Any module that maps inputs [n, 30] to logits [n, 2]."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(30, 16)
        self.output = nn.Linear(16, 2)

    def forward(self, x):
        return self.output(self.hidden(x).relu())


def task(X, y, name):
    """Validation and test parts are split off from the data by a fixed seed."""
    return fl.Task.supervised(Net, train=(X, y), loss=fl.losses.cross_entropy, score="accuracy", name=name)


def raw():
    return task(*load_breast_cancer(return_X_y=True), name="raw")


def scaled():
    X, y = load_breast_cancer(return_X_y=True)
    return task((X - X.mean(0)) / X.std(0), y, name="scaled")
