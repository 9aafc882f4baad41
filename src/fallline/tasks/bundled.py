"""The data sets and pictures that come with scikit-learn, read from its files: importing scikit-learn takes longer than they do."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


def rows(name: str, *, skip: int = 0, separator: str | None = ",") -> Array:
    """The numbers in one of scikit-learn's files.

    Args:
        name: of the file, as in ``digits.csv.gz``.
        skip: lines at its head that hold something else.
        separator: between numbers; None for blanks.
    """
    return np.loadtxt(_folder() / "data" / name, delimiter=separator, skiprows=skip, ndmin=2)


def picture(name: str) -> Path:
    """The file of one of scikit-learn's pictures: china.jpg or flower.jpg."""
    return _folder() / "images" / name


def _folder() -> Path:
    found = importlib.util.find_spec("sklearn")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / "datasets"
