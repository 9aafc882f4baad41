"""Tasks on tables of numbers."""

from __future__ import annotations

from .. import layers, losses
from . import bundled
from .base import Task
from .sources import openml
from .sources.data import Array, standardized


def iris() -> Task:
    """Flowers of three species, by the length and width of sepals and petals in cm: 150 examples, 3 classes.

    The model is an MLP 4-16-3 (131 parameters), the loss cross-entropy, the score accuracy; columns are standardized
    by the training part. 90 examples train, 30 validate and 30 test, stratified, by a fixed seed.

    >>> iris()
    Task('iris', 90 + 30 + 30 examples, by accuracy)

    Source: Fisher, The use of multiple measurements in taxonomic problems, 1936.
    """
    return _classes("iris", bundled.rows("iris.csv", skip=1))


def wine() -> Task:
    """Wines of three growers, by 13 chemical measures: 178 examples, 3 classes.

    The model is an MLP 13-16-3 (275 parameters), the loss cross-entropy, the score accuracy; columns are standardized
    by the training part. 106 examples train, 36 validate and 36 test, stratified, by a fixed seed.

    >>> wine()
    Task('wine', 106 + 36 + 36 examples, by accuracy)

    Source: Aeberhard, Coomans and de Vel, Comparison of classifiers in high dimensional settings, 1992.
    """
    return _classes("wine", bundled.rows("wine_data.csv", skip=1))


def breast_cancer() -> Task:
    """Tumors, malignant (0) or benign (1), by 30 measures of cell nuclei: 569 examples, 2 classes.

    The model is an MLP 30-16-2 (530 parameters), the loss cross-entropy, the score accuracy; columns are standardized
    by the training part. 341 examples train, 114 validate and 114 test, stratified, by a fixed seed.

    >>> breast_cancer()
    Task('breast_cancer', 341 + 114 + 114 examples, by accuracy)

    Source: Street, Wolberg and Mangasarian, Nuclear feature extraction for breast tumor diagnosis, 1993.
    """
    return _classes("breast_cancer", bundled.rows("breast_cancer.csv", skip=1))


def diabetes() -> Task:
    """How far diabetes went in a year, by age, sex, body mass, blood pressure and blood sera: 442 examples.

    The model is an MLP 10-16-1 (193 parameters), the loss the mean squared error, the score r2; columns and target
    are standardized by the training part. 266 examples train, 88 validate and 88 test, by a fixed seed.

    >>> diabetes()
    Task('diabetes', 266 + 88 + 88 examples, by r2)

    Source: Efron, Hastie, Johnstone and Tibshirani, Least angle regression, 2004.
    """
    X = bundled.rows("diabetes_data_raw.csv.gz", separator=None)
    y = bundled.rows("diabetes_target.csv.gz")
    return standardized("diabetes", X, y).task(lambda width=16: layers.mlp(10, width, 1))


def adult() -> Task:
    """Whether a person earns above $50,000 a year, by census data: 48,842 examples, 2 classes.

    The model is an MLP with 64 hidden units, the loss cross-entropy, the score accuracy. Numbers are standardized by
    the training part, texts are one column for each category, and what is missing is a category of its own. 60 % of
    the examples train, 20 % validate and 20 % test, stratified, by a fixed seed. Fetched once from OpenML and kept.

    >>> adult()  # doctest: +SKIP
    Task('adult', 29306 + 9768 + 9768 examples, by accuracy)

    Source: Kohavi, Scaling up the accuracy of naive-Bayes classifiers: a decision-tree hybrid, 1996.
    """
    return openml.table("adult", 2).task(name="adult")


def _classes(name: str, rows: Array) -> Task:
    inputs, outputs = rows.shape[1] - 1, int(rows[:, -1].max()) + 1
    data = standardized(name, rows[:, :-1], rows[:, -1].astype(int))
    return data.task(lambda width=16: layers.mlp(inputs, width, outputs), loss=losses.cross_entropy)
