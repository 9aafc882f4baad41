"""The split is scikit-learn's own, row by row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from fallline.tasks.splitting import apart


def theirs(n, size, seed, labels):
    return [
        np.sort(rows)
        for rows in train_test_split(np.arange(n), test_size=size, random_state=seed, stratify=labels)
    ]


def same(ours, reference):
    return all(np.array_equal(one, other) for one, other in zip(ours, reference, strict=True))


@settings(max_examples=300)
@given(st.lists(st.integers(0, 5), min_size=4, max_size=120), st.data(), st.integers(0, 1000))
def test_stratified(labels, data, seed):
    n, labels = len(labels), np.array(labels)
    size = data.draw(st.integers(1, n - 1))
    try:
        reference = theirs(n, size, seed, labels)
    except ValueError:  # a class of one, or fewer places than classes: scikit-learn refuses
        reference = theirs(n, size, seed, None)
    assert same(apart(n, size, seed, labels), reference)


@given(st.integers(2, 300), st.data(), st.integers(0, 1000))
def test_without_classes(n, data, seed):
    size = data.draw(st.integers(1, n - 1))
    assert same(apart(n, size, seed), theirs(n, size, seed, None))


@pytest.mark.parametrize("size", [359, 360, 17, 1700])
def test_on_digits(size):
    labels = load_digits().target
    assert same(apart(len(labels), size, 0, labels), theirs(len(labels), size, 0, labels))


def test_large_and_uneven_classes(rng):
    labels = rng.choice(50, size=60_000, p=np.arange(1, 51) / np.arange(1, 51).sum())
    assert same(apart(60_000, 12_000, 0, labels), theirs(60_000, 12_000, 0, labels))
