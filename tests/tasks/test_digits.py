"""The built-in digits: real data, in fixed parts."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from fallline.tasks import digits

SIZES = {"train": 1079, "validation": 359, "test": 359}


@pytest.fixture(scope="module")
def task():
    return digits()


def test_sizes_and_facts(task):
    assert {part: task.size(part) for part in task.parts} == SIZES
    assert task.facts["parameters"] == 2410 == sum(p.numel() for p in task.init(0).params.values())
    assert task.facts["examples"] == SIZES
    assert (task.metric.name, task.batch) == ("accuracy", 32)
    task.check()


def test_every_picture_is_in_one_part(task):
    pictures = np.concatenate([c["inputs"].numpy() for c in task.parts.values()])
    labels = np.concatenate([c["target"].numpy() for c in task.parts.values()])
    X, y = load_digits(return_X_y=True)
    there = sorted(map(tuple, np.column_stack([np.rint(pictures * 16), labels]).astype(int).tolist()))
    assert there == sorted(map(tuple, np.column_stack([X, y]).astype(int).tolist()))
    assert len(np.unique(X, axis=0)) == len(X)  # so that no picture can be in two parts


def test_pixels_and_classes(task):
    whole = np.bincount(load_digits().target) / 1797
    for columns in task.parts.values():
        assert columns["inputs"].dtype == torch.float32
        assert columns["inputs"].shape[1:] == (64,)
        assert columns["inputs"].min() == 0
        assert columns["inputs"].max() == 1
        shares = np.bincount(columns["target"].numpy()) / len(columns["target"])
        assert np.abs(shares - whole).max() <= 1 / len(columns["target"])


def test_the_data_is_the_same_each_time(task):
    again = digits()
    assert again.facts == task.facts
    for part, columns in task.parts.items():
        assert all(torch.equal(column, again.parts[part][name]) for name, column in columns.items())
    assert (task.facts["data"], task.facts["test_data"]) == ("b35f7e083a7e51d3", "07085e527fa8a280")
