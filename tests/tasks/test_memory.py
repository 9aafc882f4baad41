"""Data lies once in memory, or on disk: what is shared, what is kept as it is stored, and what is converted when."""

import numpy as np
import pytest
import torch
from torch import nn

from fallline import layers, losses
from fallline.errors import BadTask
from fallline.tasks import data
from fallline.tasks.supervised import supervised

from .solo import both, runs

N = 60
X = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
Y = np.arange(N) % 3
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 4, 4), dtype=np.uint8)
TOKENS = np.random.default_rng(0).integers(0, 7, (N, 5))


@pytest.fixture
def mapped(tmp_path):
    """An array in a file, mapped into memory read-only."""

    def make(array, name="array"):
        np.save(tmp_path / f"{name}.npy", array)
        return np.load(tmp_path / f"{name}.npy", mmap_mode="r")

    return make


def of(train, model=lambda: layers.mlp(3, 3), parts=True, **options):
    others = [(train[0][:20], train[1][:20]), (train[0][20:50], train[1][20:50])] if parts else []
    return supervised(model, train, *others, **{"loss": losses.cross_entropy, **options})


def inputs(task, part="train"):
    return task.parts[part]["inputs"]


def at(array):
    return array.__array_interface__["data"][0]


# --- shared -----------------------------------------------------------------------------------------------


def test_an_array_of_the_right_type_is_shared():
    task = of((X, Y))
    assert inputs(task).data_ptr() == at(X)
    assert inputs(task, "test").data_ptr() == at(X[20:])
    assert task.parts["train"]["target"].data_ptr() == at(Y)
    tensor = torch.tensor(X)
    assert inputs(of((tensor, Y))).data_ptr() == tensor.data_ptr()
    fixed = X.copy()
    fixed.setflags(write=False)
    assert inputs(of((fixed, Y))).data_ptr() == at(fixed)


def test_an_array_of_another_type_is_converted_once():
    task = of((X, Y), dtype=torch.float64)
    assert inputs(task).dtype == torch.float64
    assert inputs(of((X.astype(np.float64), Y.astype(np.int32)))).dtype == torch.float32


# --- mapped -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_a_mapped_array_stays_in_its_file_and_gives_the_same_numbers(mapped, kind):
    stored = X.astype(kind)
    file = mapped(stored)
    task, expected = of((file, Y), dtype=torch.float64), of((stored, Y), dtype=torch.float64)
    for part, start in (("train", 0), ("validation", 0), ("test", 20)):
        assert inputs(task, part).data_ptr() == at(file[start:])
    assert inputs(task).dtype == torch.from_numpy(stored).dtype
    for one, other in zip(both(task, runs()), both(expected, runs()), strict=True):
        assert one.series == other.series
        assert all(np.array_equal(w, other.weights[name]) for name, w in one.weights.items())


def test_views_of_a_mapped_array_are_mapped(mapped):
    file = mapped(X)
    for view in (file, file[3:], np.asarray(file), np.asarray(file)[::2], file.reshape(-1, 1, 3)):
        assert data.mapped(view)
        assert inputs(of((view, Y[: len(view)]), lambda: layers.mlp(3, 3))).data_ptr() == at(view)
    for copied in (X, file[[1, 2]], file + 1, np.array(file), X.tolist(), torch.tensor(X), None):
        assert not data.mapped(copied)
    backwards = of((file[::-1], Y))
    assert torch.equal(inputs(backwards), torch.tensor(X[::-1].copy()))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.int64])
def test_mapped_whole_numbers_are_indices(mapped, kind):
    def model():
        return nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(20, 3))

    file, labels = mapped(TOKENS.astype(kind)), mapped(Y.astype(kind), "labels")
    task = of((file, labels), model, dtype=torch.float64)
    assert inputs(task).data_ptr() == at(file)
    assert task.parts["train"]["target"].data_ptr() == at(labels)
    expected = of((TOKENS, Y), model, dtype=torch.float64)
    for one, other in zip(both(task, runs()), both(expected, runs()), strict=True):
        assert one.series == other.series
    with pytest.raises(BadTask, match="the labels go from 0 to 2, but the model has 2 outputs"):
        of((file, labels), lambda: nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(20, 2)))


def test_a_large_mapped_array_is_not_split(mapped, monkeypatch):
    file = mapped(X)
    task = of((file, Y), parts=False)
    assert [task.size(part) for part in task.parts] == [36, 12, 12]
    monkeypatch.setattr(data, "COPIED", 100)
    with pytest.raises(BadTask, match=r"^X of the train part lies in a file of 0.0 GiB, and splitting off a validation part would "
                       r"read it into memory: pass validation=… and test=…, such as slices X\[:n\]$"):  # fmt: skip
        of((file, Y), parts=False)
    assert of((X, Y), parts=False).size("train") == 36
    assert of((file, Y)).size("train") == N


# --- looking at pieces ------------------------------------------------------------------------------------


def test_looking_at_pieces_sees_the_whole(monkeypatch):
    weight = np.where(np.arange(N) < 30, 1.0, 0.0)
    whole = of((X, Y), weight=weight).facts
    monkeypatch.setattr(data, "_PIECE", 7)
    assert of((X, Y), weight=weight).facts == whole
    bad = X.copy()
    bad[[11, 40, 59], 1] = np.nan
    with pytest.raises(
        BadTask, match=r"^X of the train part has 3 of 60 examples .* \(the first is number 11\)"
    ):
        of((bad, Y))
    with pytest.raises(BadTask, match=r"^the labels go from 0 to 3"):
        of((X, np.where(np.arange(N) == 59, 3, Y)))
    with pytest.raises(BadTask, match=r"^the weights of examples must be at least 0"):
        of((X, Y), weight=np.where(np.arange(N) == 59, -1.0, weight))


# --- pictures of bytes ------------------------------------------------------------------------------------


def test_pictures_of_bytes_stay_bytes_and_are_given_as_floats():
    task, expected = (
        of((x, Y), lambda: layers.mlp(16, 3), dtype=torch.float64)
        for x in (PIXELS, PIXELS.astype(np.float64))
    )
    assert inputs(task).dtype == torch.uint8
    assert inputs(task).data_ptr() == at(PIXELS)
    split = of((PIXELS, Y), lambda: layers.mlp(16, 3), parts=False)
    assert inputs(split).dtype == torch.uint8
    for one, other in zip(both(task, runs()), both(expected, runs()), strict=True):
        assert one.series == other.series


def test_a_part_of_bytes_and_one_of_floats_are_alike():
    parts = ((PIXELS, Y), (PIXELS.astype(np.float32), Y), (PIXELS, Y))
    task = supervised(lambda: layers.mlp(16, 3), *parts, loss=losses.cross_entropy)
    assert inputs(task, "validation").dtype == torch.float32


def test_rows_of_bytes_are_indices():
    rows = TOKENS.astype(np.uint8)
    task = of((rows, Y), lambda: nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(20, 3)))
    assert inputs(task).dtype == torch.int64
