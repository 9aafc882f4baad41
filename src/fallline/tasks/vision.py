"""Tasks on pictures."""

from __future__ import annotations

from torch import nn

from .. import layers, losses
from . import bundled
from .base import Task
from .sources import openml
from .sources.small import Pixels

TEST = 1 / 7
"""The last 10,000 of 70,000 pictures are the test part by custom."""
GARMENTS = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def digits() -> Task:
    """Handwritten digits, 8 × 8 pixels in 17 shades of gray, to be told apart: 1,797 examples, 10 classes.

    The model is an MLP 64-32-10 (2,410 parameters), the loss cross-entropy, the score accuracy; pixels are scaled
    to [0, 1]. 1,079 examples train, 359 validate and 359 test, stratified, by a fixed seed.

    >>> digits()
    Task('digits', 1079 + 359 + 359 examples, by accuracy)

    Source: Alpaydin and Kaynak, Optical recognition of handwritten digits, 1998 (its test set, as scikit-learn
    ships it).
    """
    rows = bundled.rows("digits.csv.gz")
    return Task.supervised(
        model=lambda: layers.mlp(64, 32, 10), train=(rows[:, :-1] / 16.0, rows[:, -1].astype(int)),
        loss=losses.cross_entropy, score="accuracy", name="digits",
    )  # fmt: skip


def mnist() -> Task:
    """Handwritten digits, 28 × 28 pixels in 256 shades of gray, to be told apart: 70,000 examples, 10 classes.

    The model is an MLP 784-64-10 (50,890 parameters), the loss cross-entropy, the score accuracy. The last 10,000
    examples test, as is custom, and 12,000 of the others validate. Fetched once from OpenML and kept.

    >>> mnist()  # doctest: +SKIP
    Task('mnist', 48000 + 12000 + 10000 examples, by accuracy)

    Source: LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, 1998.
    """
    digits = tuple(str(i) for i in range(10))
    data = openml.pictures("mnist_784", 1, (1, 28, 28), digits, last_test=TEST)
    return data.task(_perceptron, name="mnist")


def fashion_mnist() -> Task:
    """Pictures of clothes, 28 × 28 pixels in 256 shades of gray, to be told apart: 70,000 examples, 10 classes.

    The model is an MLP 784-64-10 (50,890 parameters), the loss cross-entropy, the score accuracy. The last 10,000
    examples test, as is custom, and 12,000 of the others validate. Fetched once from OpenML and kept.

    >>> fashion_mnist()  # doctest: +SKIP
    Task('fashion_mnist', 48000 + 12000 + 10000 examples, by accuracy)

    Source: Xiao, Rasul and Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine learning
    algorithms, 2017.
    """
    data = openml.pictures("Fashion-MNIST", 1, (1, 28, 28), GARMENTS, last_test=TEST)
    return data.task(_perceptron, name="fashion_mnist")


def cifar10() -> Task:
    """Color photographs of 32 × 32 pixels, to be told apart: 60,000 examples, 10 classes.

    The model is a CNN of two convolutions with 16 and 32 channels and a linear layer (25,578 parameters), the loss
    cross-entropy, the score accuracy. 36,000 examples train, 12,000 validate and 12,000 test, stratified, by a
    fixed seed (not the authors' own parts, which OpenML does not tell apart). Fetched once from OpenML, which takes
    about 3 GB of memory, and kept.

    >>> cifar10()  # doctest: +SKIP
    Task('cifar10', 36000 + 12000 + 12000 examples, by accuracy)

    Source: Krizhevsky, Learning multiple layers of features from tiny images, 2009.
    """
    return openml.pictures("CIFAR_10", 1, (3, 32, 32), THINGS).task(name="cifar10")


def _perceptron(width: int = 64) -> nn.Module:
    return nn.Sequential(Pixels(), layers.mlp(784, width, 10))
