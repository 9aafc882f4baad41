"""Named scores are scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import nn

from fallline import layers, losses
from fallline.tasks import Task
from fallline.tasks.base import PARTS

N = 90
random = np.random.default_rng(0)
X = random.normal(size=(N, 3))
LABELS = random.integers(0, 4, N)
NUMBERS = np.stack([X[:, 0] * 100 + random.normal(size=N), 0.01 * X[:, 1]], 1)


def predicted(task, part):
    """What a fresh model says about a part, the target, and the score by example."""
    params, buffers = task.init(0)
    model = task.made().double()
    model.load_state_dict(params)
    batch = task.parts[part]
    with torch.no_grad():
        return model(batch["inputs"]), batch["target"], task.score(params, buffers, batch, {})["score"]


class Made:
    """A task together with the function that makes its model."""

    def __init__(self, made, train, **options):
        self.made = made
        self.task = Task.supervised(made, train, dtype=torch.float64, **options)

    def __getattr__(self, name):
        return getattr(self.task, name)


@pytest.mark.parametrize("part", PARTS)
def test_accuracy(part):
    made = Made(lambda: layers.mlp(3, 4), (X, LABELS), loss=losses.cross_entropy)
    prediction, target, score = predicted(made, part)
    assert score.shape == target.shape
    expected = metrics.accuracy_score(target.numpy(), prediction.argmax(1).numpy())
    assert float(score.double().mean()) == pytest.approx(expected, abs=1e-6)


def test_accuracy_of_several_labels_by_example():
    class Places(nn.Linear):
        def forward(self, x):
            return super().forward(x).reshape(-1, 4, 2)

    labels = np.stack([LABELS, LABELS[::-1]], 1)
    made = Made(lambda: Places(3, 8), (X, labels), loss=losses.cross_entropy)
    prediction, target, score = predicted(made, "train")
    assert score.shape == (len(target),)
    expected = metrics.accuracy_score(target.numpy().ravel(), prediction.argmax(1).numpy().ravel())
    assert float(score.double().mean()) == pytest.approx(expected, abs=1e-6)


SCIKIT = {
    "r2": lambda y, f: metrics.r2_score(y, f, multioutput="uniform_average"),
    "mse": metrics.mean_squared_error,
    "mae": metrics.mean_absolute_error,
}


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", SCIKIT)
def test_scores_of_numbers(name, part, outputs):
    made = Made(lambda: layers.mlp(3, outputs), (X, NUMBERS[:, :outputs]), loss=losses.mse, score=name)
    prediction, target, score = predicted(made, part)
    assert score.shape == (len(target),)
    expected = SCIKIT[name](target.numpy(), prediction.numpy())
    assert float(score.mean()) == pytest.approx(expected, rel=1e-12)
    assert made.metric.better == ("higher" if name == "r2" else "lower")


def test_numbers_without_an_axis_of_outputs():
    class Flat(nn.Linear):
        def forward(self, x):
            return super().forward(x).squeeze(-1)

    for name, twin in SCIKIT.items():
        made = Made(lambda: Flat(3, 1), (X, NUMBERS[:, 0]), loss=losses.mse, score=name)
        prediction, target, score = predicted(made, "test")
        assert float(score.mean()) == pytest.approx(twin(target.numpy(), prediction.numpy()), rel=1e-12)


def test_the_loss_as_the_score():
    task = Task.supervised(lambda: layers.mlp(3, 4), (X, LABELS), loss=losses.cross_entropy, score="loss")
    found = task.score(*task.init(0), task.parts["test"], {})
    assert torch.equal(found["score"], found["loss"])
    assert (task.metric.name, task.metric.better) == ("loss", "lower")


def test_a_function_as_the_score():
    def error_rate(prediction, target):
        return prediction.argmax(1) != target

    task = Task.supervised(
        lambda: layers.mlp(3, 4), (X, LABELS), loss=losses.cross_entropy, score=error_rate, better="lower"
    )
    assert (task.metric.name, task.metric.better) == ("error_rate", "lower")
    found = task.score(*task.init(0), task.parts["test"], {})["score"]
    assert found.dtype == torch.float32
    nameless = Task.supervised(
        lambda: layers.mlp(3, 4),
        (X, LABELS),
        loss=losses.cross_entropy,
        score=lambda p, t: (p.argmax(1) == t).float().mean(),
    )
    assert nameless.metric.name == "score"
    right = Task.supervised(lambda: layers.mlp(3, 4), (X, LABELS), loss=losses.cross_entropy)
    by_name = right.score(*right.init(0), right.parts["test"], {})["score"]
    assert torch.equal(1 - found, by_name)
    whole = nameless.score(*nameless.init(0), nameless.parts["test"], {})["score"]
    torch.testing.assert_close(whole, by_name.mean())
