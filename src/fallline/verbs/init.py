"""The file that ``fallline init`` writes: a task of the user's own, to be changed."""

TEMPLATE = '''"""A task of your own. Try it: fallline compare my_task.py:task"""

import numpy as np
from torch import nn

import fallline as fl


def data():
    """Replace this by your own arrays: inputs [examples, …] and labels [examples]."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 2)).astype("float32")
    y = (X[:, 0] * X[:, 1] > 0).astype("int64")  # 1 where the signs agree
    return X, y


def model():
    """Called once for each seed; any nn.Module."""
    return nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))


def task():
    """Parts that are left out (validation, test) are split off from train by a fixed seed."""
    return fl.Task.supervised(model, train=data(), loss=fl.losses.cross_entropy, score="accuracy", name="my task")
'''
