"""Arrays in NPZ files and in folders of NPY files, which stay on the disk."""

import tracemalloc

import numpy as np
import pytest

from fallline.errors import BadTask
from fallline.tasks.sources import arrays as arrays_module
from fallline.tasks.sources import read


@pytest.fixture
def save(tmp_path):
    def save(kind="npz", name="made", **arrays):
        if kind == "npz":
            np.savez(tmp_path / f"{name}.npz", **arrays)
            return tmp_path / f"{name}.npz"
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for key, array in arrays.items():
            np.save(folder / f"{key}.npy", array)
        return folder

    return save


KINDS = pytest.mark.parametrize("kind", ["npz", "npy"])


@KINDS
@pytest.mark.parametrize(
    "names",
    [("X", "y"), ("inputs", "target"), ("data", "labels"), ("train_X", "train_y"), ("x_train", "y_train")],
)
def test_arrays_by_their_names(save, kind, names):
    X, y = np.arange(40.0).reshape(20, 2), np.arange(20) % 3
    data = read(save(kind, **dict(zip(names, (X, y), strict=True))))
    assert list(data.parts) == ["train"]
    assert np.array_equal(data.parts["train"][0], X)
    assert np.array_equal(data.parts["train"][1], y)
    assert (data.name, data.outputs) == ("made", 3)


@KINDS
def test_parts_that_come_apart(save, kind):
    made = {
        f"{part}_{c}": np.full(5, i) for i, part in enumerate(("train", "val", "test")) for c in ("X", "y")
    }
    data = read(save(kind, **made))
    assert {part: int(y[0]) for part, (_, y) in data.parts.items()} == {
        "train": 0,
        "validation": 1,
        "test": 2,
    }


def test_npy_files_are_mapped(save):
    data = read(save("npy", X=np.zeros((20, 2)), y=np.zeros(20, dtype=int)))
    assert isinstance(data.parts["train"][0], np.memmap)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.int32])
def test_large_arrays_are_split_on_the_disk_as_small_ones_are_in_memory(save, monkeypatch, dtype):
    X, y = np.arange(200).reshape(100, 2).astype(dtype), np.arange(100) % 3
    folder = save("npy", X=X, y=y, test_X=X[:10], test_y=y[:10])
    small = read(folder).task(loss=None, model=None) if dtype == np.float64 else None
    monkeypatch.setattr(arrays_module, "LARGE", 1)
    data = read(folder)
    assert {part: len(rows) for part, (rows, _) in data.parts.items()} == {
        "train": 80,
        "validation": 20,
        "test": 10,
    }
    expected = {np.uint8: np.uint8, np.float64: np.float32, np.int32: np.int64}[dtype]
    assert {pair[0].dtype for pair in data.parts.values()} == {np.dtype(expected)}
    both = np.concatenate([data.parts["train"][0], data.parts["validation"][0]])
    assert np.array_equal(
        both[np.argsort(both[:, 0].astype(float), kind="stable")], np.sort(X.astype(expected), axis=0)
    ) or (dtype == np.uint8)
    assert np.array_equal(data.parts["test"][0], X[:10].astype(expected))
    if small is not None:
        for part, (inputs, target) in data.parts.items():
            assert np.array_equal(small.parts[part]["inputs"].numpy(), inputs)
            assert np.array_equal(small.parts[part]["target"].numpy(), target)


def test_large_arrays_are_never_wholly_in_memory(save, monkeypatch):
    monkeypatch.setattr(arrays_module, "LARGE", 1)
    folder = save("npy", X=np.zeros((40_000, 100), dtype=np.float32), y=np.arange(40_000) % 2)
    read(save("npy", "first", X=np.zeros((40, 1)), y=np.arange(40) % 2))
    tracemalloc.start()
    try:
        data = read(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(data.parts["train"][1]) == 24_000
    assert peak < 40_000 * 100 * 4 / 2


@KINDS
@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (
            {"X": [1.0], "z": [1]},
            "holds an array 'z', which says neither X nor y: call them X and y, or train_X",
        ),
        ({"train_X_test": [1.0]}, "holds an array 'train_X_test', which says neither X nor y"),
        (
            {"test_X": [1.0], "test_y": [1]},
            "has no training part: it needs arrays X and y, or train_X and train_y",
        ),
        ({"X": [1.0]}, "the train part of made.* has only X: it needs both X and y"),
        (
            {"X": [1.0, 2.0], "y": [1]},
            r"X and y of the train part of made.* must have equally many rows, got \[2\] and \[1\]",
        ),
        (
            {"X": [1.0], "y": ["a"]},
            "the array 'y' of .* holds <U1 and not numbers: number the classes 0, 1, …",
        ),
    ],
    ids=str,
)
def test_arrays_that_cannot_be_used(save, kind, made, sentence):
    with pytest.raises(BadTask, match=sentence):
        read(save(kind, **{name: np.array(value) for name, value in made.items()}))


def test_files_that_are_damaged(save):
    packed = save("npz", X=np.zeros((50, 2)), y=np.zeros(50))
    packed.write_bytes(packed.read_bytes()[:200])
    with pytest.raises(BadTask, match=r"made.npz cannot be read as an NPZ file of numbers: "):
        read(packed)
    folder = save("npy", X=np.zeros((50, 2)), y=np.zeros(50))
    (folder / "X.npy").write_bytes((folder / "X.npy").read_bytes()[:200])
    with pytest.raises(BadTask, match=r"X.npy cannot be mapped as an NPY file of numbers: "):
        read(folder)
    np.savez(packed, X=np.array([{}, {}], dtype=object), y=np.zeros(2))
    with pytest.raises(
        BadTask, match=r"made.npz cannot be read as an NPZ file of numbers: Object arrays cannot be loaded"
    ):
        read(packed)
