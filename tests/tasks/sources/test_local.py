"""Local data as tasks, by function and by what is written on the command line."""

import numpy as np
import pytest
import torch
from torch import nn

import fallline as fl
from fallline.errors import BadTask, BadValue, NotFound
from fallline.tasks import find, from_file, read
from fallline.tasks.sources.small import Pixels, cnn, small

TABLE = "x,z,kind,size\n" + "\n".join(f"{i},{i % 7},{'ab'[i % 2]},{i * 2.5}" for i in range(60))


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    return path


def test_a_task_with_its_facts(table):
    task = from_file(table, target="kind")
    assert repr(task) == "Task('table', 36 + 12 + 12 examples, by accuracy)"
    assert task.facts["source"]["classes"] == ["a", "b"]
    assert task.facts["source"]["features"] == ["x", "z", "size"]
    assert task.variant({"width": 8}).facts["source"] == task.facts["source"]
    assert task.variant({"width": 8}).facts["parameters"] == 3 * 8 + 8 + 8 * 2 + 2
    task.check()
    numbers = from_file(table, target="size", drop=["kind"])
    assert (numbers.metric.name, tuple(numbers.parts["train"]["target"].shape[1:])) == ("r2", (1,))
    numbers.check()


def test_a_model_a_loss_and_a_score_of_ones_own(table):
    task = from_file(
        table, lambda: nn.Linear(3, 2), target="kind", loss=0.5 * fl.losses.cross_entropy, score="accuracy"
    )
    assert task.facts["model"] == "Linear"
    assert "0.5" in task.facts["loss"]


def test_it_trains(table):
    task = from_file(table, target="size", drop=["kind"])
    records = fl.fleet.run(
        task, [fl.Run(fl.rules.adam(lr=0.01), seed=s) for s in range(2)], steps=200, batch=16
    )
    assert all(
        record.outcome.numbers["validation_score"] > 0.9 for record in records
    )  # a straight line, with r2


def test_tasks_by_what_is_written(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find("table.csv:kind").metric.name == "accuracy"
    assert find(f"{table}:size").metric.name == "r2"
    np.savez("arrays.npz", X=np.random.default_rng(0).normal(size=(40, 3)), y=np.arange(40) % 2)
    assert find("arrays.npz").size("train") == 24
    (tmp_path / "mapped").mkdir()
    np.save("mapped/X.npy", np.zeros((40, 3)))
    np.save("mapped/y.npy", np.arange(40) % 2)
    assert find("mapped").name == "mapped"
    with pytest.raises(NotFound, match=r"which column is the target\?"):
        find("table.csv")
    with pytest.raises(NotFound, match=r"no task is called 'tabel'.* or data as in data.csv:target\)$"):
        find("tabel")


def test_paths_that_lead_nowhere(table, tmp_path):
    with pytest.raises(NotFound, match=r"there is no file or folder .*tabel.csv; did you mean 'table.csv'"):
        read(tmp_path / "tabel.csv")
    with pytest.raises(
        NotFound, match=r"there is no file or folder /nowhere/a.csv; there is nothing in /nowhere"
    ):
        read("/nowhere/a.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        BadTask, match=r"empty holds neither NPY files .* nor sub-folders with pictures, one for each class"
    ):
        read(tmp_path / "empty")
    (tmp_path / "data.xlsx").write_text("x")
    with pytest.raises(
        BadTask, match=r"data.xlsx is not a kind of data that is read here; known: .csv, .tsv"
    ):
        read(tmp_path / "data.xlsx")
    np.savez(tmp_path / "a.npz", X=np.zeros(3), y=np.zeros(3))
    with pytest.raises(
        BadValue, match=r"a.npz is read as an array file, which has no option 'target'; there are none"
    ):
        read(tmp_path / "a.npz", target="y")


def test_a_text_byte_by_byte(tmp_path):
    path = tmp_path / "poem.txt"
    written = bytes(range(32, 127)) * 10 + "über".encode()
    path.write_bytes(written)
    data = read(path, context=8)
    assert isinstance(data.parts["train"][0], np.memmap)
    assert {part: len(y) for part, (_, y) in data.parts.items()} == {
        "train": 71,
        "validation": 24,
        "test": 24,
    }
    before = np.concatenate([inputs.reshape(-1) for inputs, _ in data.parts.values()])
    after = np.concatenate([target.reshape(-1) for _, target in data.parts.values()])
    assert before.tobytes() == written[: 119 * 8]
    assert after.tobytes() == written[1 : 119 * 8 + 1]
    task = find(str(path))
    assert (task.metric.name, task.facts["source"]["context"]) == ("loss", 64)
    task.check()
    assert task.parts["train"]["inputs"].dtype == torch.uint8
    with pytest.raises(
        BadTask, match=r"poem.txt has 955 bytes, which fill 0 windows of 1000: it must fill at least 5"
    ):
        read(path, context=1000)
    with pytest.raises(
        BadValue, match="context is the bytes that a model sees at once, a whole number of at least 1; got 0"
    ):
        read(path, context=0)
    path.write_bytes(b"")
    with pytest.raises(BadTask, match=r"poem.txt has 0 bytes, which fill 0 windows of 64"):
        read(path)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 12, 9), (5,), (28, 28)])
def test_models_that_fit_their_inputs(shape, kind):
    example = np.ones(shape, dtype=kind)
    make = small(example, 4)
    model = make()
    has = any(isinstance(module, Pixels) for module in model.modules())
    assert has == (kind is np.uint8)
    assert model(torch.from_numpy(example)[None].float()).shape == (1, 4)
    assert any(isinstance(module, nn.Conv2d) for module in model.modules()) == (shape[0] in (1, 3))
    wider = make(width=32)
    assert sum(p.numel() for p in wider.parameters()) != sum(p.numel() for p in model.parameters())


def test_bytes_become_numbers_of_the_models_own_type():
    x = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    for dtype in (torch.float32, torch.float64):
        out = Pixels().to(dtype)(x)
        assert out.dtype == dtype
        assert out[0].tolist() == pytest.approx([0, 0.2, 1])
    with pytest.raises(
        BadTask, match="pictures of 3 × 9 are too small for a CNN that halves them twice: pass a model"
    ):
        cnn((1, 3, 9), 16, 10)
