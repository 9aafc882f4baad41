"""What a run sees of its data: folds, subsets, resampled sets and noisy labels, and what holds for all of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fallline.errors import BadTask, BadValue, NotFound
from fallline.tasks import Metric, Task, Variables
from fallline.tasks.sampling import AXES, sample


def task_of(target, **columns):
    target = torch.as_tensor(target)
    train = {"inputs": torch.zeros(len(target), 2, dtype=torch.uint8), "target": target, **columns}
    start = Variables({"w": torch.zeros(1)}, {})
    return Task(
        "made", lambda seed: start, lambda *a: None, lambda *a: {}, {"train": train}, Metric("loss", "lower")
    )


classes = st.lists(st.sampled_from([0, 1, 2, 7]), min_size=10, max_size=80)
draws = st.integers(0, 2**40)


def counts(labels):
    return np.array([np.sum(np.asarray(labels) == c) for c in (0, 1, 2, 7)])


# --- what always holds ---------------------------------------------------------------------------------------


@given(classes, st.integers(2, 10), draws)
def test_folds_share_out_the_part_and_each_class_evenly(labels, folds, draw):
    task, n = task_of(labels), len(labels)
    seen = [sample(task, {"fold": k, "folds": folds, "draw": draw}) for k in range(folds)]
    assert np.array_equal(np.sort(np.concatenate([s.validation for s in seen])), np.arange(n))
    for s in seen:
        assert np.array_equal(np.sort(np.concatenate([s.train, s.validation])), np.arange(n))
        assert s.columns == {}
    sizes = np.array([len(s.validation) for s in seen])
    assert np.ptp(sizes) <= 1
    of_class = np.stack([counts(np.array(labels)[s.validation]) for s in seen])
    assert np.ptp(of_class, axis=0).max() <= 1


@given(classes, st.data(), draws)
def test_subsets_are_nested_and_keep_the_shares_of_classes(labels, data, draw):
    task, n = task_of(labels), len(labels)
    size = data.draw(st.integers(1, n))
    smaller = data.draw(st.integers(1, size))
    large, small = (sample(task, {"subset": m, "draw": draw}).train for m in (size, smaller))
    assert len(large) == len(set(large.tolist())) == size
    assert len(small) == smaller
    assert set(small.tolist()) <= set(large.tolist())
    whole = counts(labels)
    # each class is rounded to its share at one common quantile, which itself is off by half an example a class
    bound = 1 + whole / n * np.count_nonzero(whole) / 2
    assert (np.abs(counts(np.array(labels)[large]) - size * whole / n) <= bound).all()


@given(classes, st.integers(0, 1000), draws)
def test_a_resampled_set_is_as_large_and_inside_the_part(labels, number, draw):
    rows = sample(task_of(labels), {"resample": number, "draw": draw}).train
    assert len(rows) == len(labels)
    assert set(rows.tolist()) <= set(range(len(labels)))


@given(classes.filter(lambda labels: len(set(labels)) > 1), st.floats(0, 1), st.floats(0, 1), draws)
def test_label_noise_changes_exactly_its_share_and_is_nested(labels, one, other, draw):
    task = task_of(labels)
    clean = task.parts["train"]["target"]
    low, high = sorted((one, other))
    few, many = (
        sample(task, {"label_noise": s, "draw": draw}).columns.get("target", clean) for s in (low, high)
    )
    assert int((few != clean).sum()) == round(low * len(labels))
    assert int((many != clean).sum()) == round(high * len(labels))
    assert torch.equal(
        few[few != clean], many[few != clean]
    )  # what is changed at less stays changed, and alike
    assert set(many.tolist()) <= set(labels)
    assert clean.tolist() == labels  # the task's own column is untouched
    assert many.dtype == clean.dtype


@given(classes.filter(lambda labels: len(set(labels)) > 1), st.data(), draws)
def test_they_compose_in_their_order(labels, data, draw):
    task, n = task_of(labels), len(labels)
    asked = {"fold": 1, "folds": 4, "draw": draw}
    fold = sample(task, asked)
    size = data.draw(st.integers(1, len(fold.train)))
    subset = sample(task, {**asked, "subset": size})
    both = sample(task, {**asked, "subset": size, "resample": 3, "label_noise": 0.5})
    assert np.array_equal(both.validation, fold.validation)
    assert set(subset.train.tolist()) <= set(fold.train.tolist())
    assert set(both.train.tolist()) <= set(subset.train.tolist())
    assert len(both.train) == size
    clean = task.parts["train"]["target"]
    changed = (both.columns.get("target", clean) != clean).nonzero().flatten().tolist()
    assert len(changed) == round(0.5 * len(set(both.train.tolist())))
    assert set(changed) <= set(both.train.tolist())  # so that what validates stays clean
    assert len(both.columns.get("target", clean)) == n


# --- draws ----------------------------------------------------------------------------------------------------

ASKED = [{"fold": 2}, {"subset": 50}, {"resample": 0}, {"label_noise": 0.4}]


def told(seen):
    rows = [seen.train.tolist(), None if seen.validation is None else seen.validation.tolist()]
    return rows, {name: column.tolist() for name, column in seen.columns.items()}


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_one_draw_is_the_same_each_time_and_another_differs(asked):
    task = task_of(np.arange(200) % 4)
    torch.manual_seed(1)
    first = told(sample(task, asked))
    torch.manual_seed(2)
    assert told(sample(task, {**asked, "draw": 0})) == first
    assert told(sample(task, {name: float(value) for name, value in asked.items()})) == first
    assert told(sample(task, {**asked, "draw": 1})) != first


def test_bootstrap_samples_differ_and_leave_out_a_third():
    task = task_of(np.arange(20_000) % 4)
    one, two = (sample(task, {"resample": k}).train for k in (0, 1))
    assert not np.array_equal(one, two)
    n, p = 20_000, 1 - np.exp(-1)  # the share of distinct rows, whose deviation is below that of a binomial
    for rows in (one, two):
        assert abs(len(set(rows.tolist())) / n - p) < 5 * np.sqrt(p * (1 - p) / n)


def test_noisy_labels_fall_on_all_other_classes_alike():
    task = task_of(np.zeros(30_000, dtype=int) + np.arange(30_000) % 4)
    noisy = sample(task, {"label_noise": 1.0}).columns["target"].numpy()
    moved = np.bincount((noisy - np.arange(30_000)) % 4, minlength=4)
    assert moved[0] == 0
    assert (np.abs(moved[1:] - 10_000) < 5 * np.sqrt(30_000 * 2 / 9)).all()


def test_the_draws_stay_as_they_are():
    """Recorded studies depend on them."""
    task = task_of(np.arange(12) % 3)
    assert sample(task, {"fold": 0, "folds": 4}).validation.tolist() == [3, 4, 5]
    assert sample(task, {"subset": 5}).train.tolist() == [2, 3, 4, 6, 7]
    assert sample(task, {"resample": 2}).train.tolist() == [1, 1, 1, 3, 4, 5, 5, 6, 6, 7, 9, 9]
    assert sample(task, {"label_noise": 0.25}).columns["target"].tolist() == [
        2,
        1,
        1,
        1,
        1,
        2,
        0,
        1,
        2,
        0,
        1,
        2,
    ]


# --- columns of other kinds -----------------------------------------------------------------------------------


def test_without_data_axes_a_run_sees_the_whole_part():
    for asked in ({}, {"draw": 3}, {"label_noise": 0}):
        seen = sample(task_of([0, 1, 1]), asked)
        assert seen.train.tolist() == [0, 1, 2]
        assert seen.train.dtype == np.int64
        assert (seen.validation, seen.columns) == (None, {})


def test_small_types_and_mapped_columns_stay_what_they_are(tmp_path):
    np.save(tmp_path / "y.npy", (np.arange(40) % 2).astype(np.uint8))
    mapped = torch.from_numpy(np.load(tmp_path / "y.npy", mmap_mode="r+"))
    seen = sample(task_of(mapped), {"subset": 10, "label_noise": 0.5})
    assert seen.columns["target"].dtype == torch.uint8
    assert int((seen.columns["target"] != mapped).sum()) == 5
    assert np.load(tmp_path / "y.npy").tolist() == (np.arange(40) % 2).tolist()


def test_numbers_are_folded_and_sampled_without_classes():
    task = task_of(torch.arange(10.0))
    parts = [sample(task, {"fold": k}).validation.tolist() for k in range(5)]
    assert sorted(np.concatenate(parts)) == list(range(10))
    assert {len(part) for part in parts} == {2}
    assert len(sample(task, {"subset": 4, "resample": 1}).train) == 4


# --- sentences ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "error", "sentence"),
    [
        (
            {"label_nois": 0.1},
            NotFound,
            "the data of a run have no axis 'label_nois'; did you mean 'label_noise'",
        ),
        (
            {"label_noise": 1.5},
            BadValue,
            r"^data\(label_noise=1.5\): label_noise is the share of .* in \[0, 1\]; got 1.5",
        ),
        ({"subset": 0}, BadValue, "subset is the number of training examples and must be at least 1; got 0"),
        (
            {"subset": 2.5},
            BadValue,
            r"data\(subset=2.5\): subset is the number of training examples, which must be a whole number",
        ),
        ({"subset": 13}, BadValue, "subset=13 is more than the 12 training examples of made there are"),
        ({"subset": 12, "fold": 0}, BadValue, "subset=12 is more than the 9 training examples of made"),
        ({"fold": 5}, BadValue, "fold=5 does not exist: 5 folds are numbered from 0 to 4"),
        (
            {"folds": 3},
            BadValue,
            "folds=3 says how many folds there are, but not which one validates: give fold too",
        ),
        (
            {"fold": 0, "folds": 13},
            BadValue,
            "12 training examples of made cannot be cut into 13 folds: ask for fewer",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_asked_for(asked, error, sentence):
    with pytest.raises(error, match=sentence):
        sample(task_of(np.arange(12) % 3), asked)


def test_tasks_that_have_no_such_data():
    whole = task_of([0, 1, 1])
    with pytest.raises(
        BadTask, match="made streams its training data, which are seen once and cannot be chosen from: "
    ):
        sample(replace(whole, stream=lambda: iter([])), {"subset": 2})
    assert sample(replace(whole, stream=lambda: iter([])), {}).validation is None
    with pytest.raises(BadTask, match="made has no training data, so that a run cannot ask for subset, draw"):
        sample(replace(whole, parts={}), {"subset": 2, "draw": 1})
    for target in (torch.arange(3.0), torch.zeros(3, 2, dtype=torch.int64)):
        with pytest.raises(
            BadTask, match="changes classes, but the target of made is not one class for each example"
        ):
            sample(task_of(target), {"label_noise": 0.5})
    with pytest.raises(
        BadTask, match=r"label_noise=0.5 needs at least 2 classes, but all targets of made are 4"
    ):
        sample(task_of([4, 4, 4]), {"label_noise": 0.5})


def test_every_axis_has_a_meaning():
    assert all(domain.meaning for domain in AXES.values())
