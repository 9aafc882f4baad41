"""The data sets that come with scikit-learn, as tasks."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn import datasets

from command_line import environment
from fallline.tasks import BUILT_IN, breast_cancer, bundled, diabetes, find, iris, wine

LOADED = {
    "digits": (datasets.load_digits, {}), "iris": (datasets.load_iris, {}), "wine": (datasets.load_wine, {}),
    "breast_cancer": (datasets.load_breast_cancer, {}), "diabetes": (datasets.load_diabetes, {"scaled": False}),
}  # fmt: skip


@pytest.mark.parametrize("name", LOADED)
def test_the_data_are_those_that_scikit_learn_loads(name):
    load, options = LOADED[name]
    X, y = load(return_X_y=True, **options)
    files = {"digits": ["digits.csv.gz"], "wine": ["wine_data.csv"], "diabetes": ["diabetes_data_raw.csv.gz", "diabetes_target.csv.gz"]}  # fmt: skip
    skip, separator = (0 if name in ("digits", "diabetes") else 1), None if name == "diabetes" else ","
    ours = np.column_stack(
        [bundled.rows(f, skip=skip, separator=separator) for f in files.get(name, [f"{name}.csv"])]
    )
    assert np.array_equal(ours, np.column_stack([X, y]))


@pytest.mark.parametrize("make", [iris, wine, breast_cancer, diabetes])
def test_columns_are_standardized_by_the_training_part(make):
    task = make()
    train = task.parts["train"]
    assert train["inputs"].numpy().mean(0) == pytest.approx(0, abs=1e-5)
    assert train["inputs"].numpy().std(0) == pytest.approx(1, rel=1e-5)
    for part in ("validation", "test"):
        assert np.abs(task.parts[part]["inputs"].numpy().mean(0)).max() > 1e-3
    if make is diabetes:
        assert (train["target"].mean().item(), train["target"].numpy().std()) == pytest.approx(
            (0, 1), abs=1e-5
        )
    task.check()


@pytest.mark.parametrize("name", LOADED)
def test_each_says_how_large_its_model_is(name):
    parameters = find(name).facts["parameters"]
    assert f"({parameters:,} parameters)" in " ".join((BUILT_IN[name].__doc__ or "").split())


def test_reading_them_loads_no_scikit_learn():
    code = "import sys, fallline.tasks.bundled as b; b.rows('digits.csv.gz'); assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)
