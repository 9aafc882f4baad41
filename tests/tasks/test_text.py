"""Text: characters by number, windows that stay within a file, and parts that share no file."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fallline as fl
from fallline.errors import BadValue, NotFound
from fallline.tasks.text import (
    CHARACTERS,
    VOCABULARY,
    by_fives,
    encode,
    library,
    spread,
    stdlib_text,
    windows,
)


def decoded(codes: Tensor) -> str:
    return "".join((VOCABULARY + "\0")[code] for code in codes.flatten().tolist())


@given(st.text())
def test_every_text_has_its_numbers(text: str):
    codes = encode(text)
    assert codes.dtype == torch.int64
    assert decoded(codes) == "".join(c if c in VOCABULARY else "\0" for c in text)


@settings(deadline=None)
@given(st.lists(st.text(alphabet=VOCABULARY, max_size=60), max_size=6), st.integers(1, 9))
def test_windows_follow_each_text_and_no_text_follows_another(texts: list[str], context: int):
    expected = [
        (text[i : i + context], text[i + 1 : i + 1 + context])
        for text in texts
        for i in range(0, len(text) - context, context)
    ]
    if not expected:
        with pytest.raises(BadValue, match=r"^no text is longer than a window: take more characters, or "):
            windows(texts, context)
        return
    inputs, target = windows(texts, context)
    assert inputs.shape == target.shape == (len(expected), context)
    assert [(decoded(x), decoded(y)) for x, y in zip(inputs, target, strict=True)] == expected


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60))
def test_a_few_windows_are_spread_over_all(count: int, most: int):
    whole = torch.arange(count).unsqueeze(1)
    inputs, target = spread(whole, whole + 1, most)
    assert torch.equal(target, inputs + 1)
    steps = inputs.flatten().diff(append=torch.tensor([count]))
    assert len(inputs) == min(count, most)
    assert inputs[0] == 0
    assert steps.min() >= 1
    assert steps.max() - steps.min() <= 1


@given(st.lists(st.text()))
def test_a_file_lies_in_one_part(texts: list[str]):
    train, validation, test = by_fives(texts)
    assert sorted(train + validation + test) == sorted(texts)
    assert abs(len(validation) - len(texts) / 5) <= 1


def test_the_library_is_read_by_name_and_cut():
    folder = Path(sysconfig.get_paths()["stdlib"])
    first = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))[:2]]
    short = len(first[0]) + 5
    assert library(short) == [first[0], first[1][:5]]
    assert sum(map(len, library(100_000))) == 100_000


def test_a_python_without_source_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(
        NotFound, match=r"^there is no .py file in .*: this Python comes without the source of its "
    ):
        stdlib_text()
    (tmp_path / "a.py").write_text("x = 'é'\n" * 9, encoding="utf-8")
    assert library(1000) == ["x = 'é'\n" * 9]


@pytest.mark.parametrize("context", [0, 2.0, True])
def test_a_context_that_is_none_is_refused(context: object):
    with pytest.raises(BadValue, match=r"^context is a whole number of at least 1, got "):
        stdlib_text(context=context)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def task() -> fl.Task:
    return stdlib_text(context=16, characters=60_000)


def test_the_task_fits_together(task: fl.Task):
    for columns in task.parts.values():
        assert columns["inputs"].dtype == columns["target"].dtype == torch.int64
        assert columns["inputs"].shape[1:] == (16,)
        assert torch.equal(columns["inputs"][:, 1:], columns["target"][:, :-1])
        assert columns["target"].max() < CHARACTERS
    assert sum(task.size(part) for part in task.parts) <= 60_000 // 16
    assert max(task.size(part) for part in ("validation", "test")) <= 256 < task.size("train")
    assert (task.metric.name, task.metric.better) == ("loss", "lower")
    task.check()


def test_it_begins_near_chance_and_learns(task: fl.Task):
    """Less than what the frequencies of characters alone would give: it has learned from the context."""
    target = task.parts["train"]["target"]
    shares = torch.bincount(target.flatten()).double() / target.numel()
    alone = float(-(shares[shares > 0].log() * shares[shares > 0]).sum())
    record = fl.fleet.run(task, [fl.Run(fl.rules.adam(lr=0.01))], steps=150, workers=0, executor="traced")[0]
    losses = record.series["validation_loss"].values
    assert abs(losses[0] - torch.tensor(float(CHARACTERS)).log()) < 0.5
    assert losses[-1] < alone
