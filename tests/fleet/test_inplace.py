"""Models that change what they are given, or keep something between calls."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fallline as fl
from fallline import rules
from fallline.errors import BadTask, BadValue

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


class Changing(nn.Module):
    """Changes its inputs, as ``nn.ReLU(inplace=True)`` in the first place does."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.l, self.how = nn.Linear(4, 2), how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "in place":
            x.mul_(1.5)
        else:
            x = x * 1.5
        return self.l(x)


class Counting(nn.Module):
    """Counts its calls beside its buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.l, self.calls, self.seen = nn.Linear(4, 2), 0, [0]

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(self.calls)
        return self.l(x) / (1 + 0.05 * len(self.seen))


class Keeping(nn.Module):
    """Keeps a tensor that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.l = nn.Linear(4, 2)
        self.mean: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        z = self.l(x)
        self.mean = z.mean(0) if self.mean is None else 0.9 * self.mean + 0.1 * z.mean(0)
        return z - self.mean


def task(model, name="signs"):  # type: ignore[no-untyped-def]
    validation = X[:20].copy(), Y[:20]
    return fl.Task.supervised(
        model, (X, Y), validation, validation, loss=fl.losses.cross_entropy, name=name, batch=8
    )


def weights(record) -> np.ndarray:  # type: ignore[no-untyped-def,type-arg]
    return np.concatenate([w.ravel() for w in record.weights.values()])


@pytest.mark.parametrize("executor", ["auto", "traced", "compiled", "alone"])
def test_a_model_that_changes_its_inputs_trains_as_one_that_does_not(executor: str):
    before = X.copy()
    runs = [fl.Run(rules.sgd(lr=0.1), seed=s) for s in range(3)]
    found = [
        fl.fleet.run(
            task(lambda how=how: Changing(how)), runs, steps=12, workers=0, weights=True, executor=executor
        )
        for how in ("in place", "elsewhere")
    ]
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_array_equal(weights(ours), weights(theirs))
        assert ours.outcome.numbers == theirs.outcome.numbers
    trained = [
        fl.train(task(lambda how=how: Changing(how)), rules.sgd(lr=0.1), steps=12)
        for how in ("in place", "elsewhere")
    ]
    assert trained[0].curves["validation_loss"] == trained[1].curves["validation_loss"]
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("model", [Counting, Keeping])
@pytest.mark.filterwarnings("ignore:.*so each run trains alone")
def test_what_a_model_keeps_in_one_run_is_not_seen_by_the_next(model):  # type: ignore[no-untyped-def]
    runs = [fl.Run(rules.sgd(lr=0.1), seed=s) for s in range(4)]

    def trained(some):  # type: ignore[no-untyped-def]
        return fl.fleet.run(task(model), some, steps=12, workers=0, weights=True)

    together, turned, alone = trained(runs), trained(runs[::-1])[::-1], [trained([run])[0] for run in runs]
    for one, other, third in zip(together, turned, alone, strict=True):
        np.testing.assert_array_equal(weights(one), weights(other))
        np.testing.assert_array_equal(weights(one), weights(third))


def test_a_model_that_fails_in_training_is_told():
    class Failing(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if self.training and len(x) == 8:
                raise ValueError("boom")
            return super().forward(x)

    with pytest.raises(
        BadTask, match=r"signs cannot be trained: its model or its loss failed with ValueError: boom"
    ):
        fl.fleet.run(task(lambda: Failing(4, 2)), [fl.Run(rules.sgd(lr=0.1))], steps=12, workers=0)


def test_a_lazy_layer_is_told():
    with pytest.raises(
        BadTask, match=r"the parameter 0.weight of Sequential has no shape before the first call"
    ):
        task(lambda: nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 2)))


def test_weights_are_not_saved_under_another_formats_name(tmp_path: Path):
    trained = fl.train(task(lambda: nn.Linear(4, 2)), rules.sgd(lr=0.1), steps=2)
    with pytest.raises(
        BadValue, match=r"best.pt is called as torch.save's files are, .* call it best.safetensors"
    ):
        trained.save(tmp_path / "best.pt")
    assert not list(tmp_path.iterdir())
    torch.save(trained.state_dict(), tmp_path / "best.pt")
    nn.Linear(4, 2).load_state_dict(torch.load(tmp_path / "best.pt", weights_only=True))
    assert json.dumps(trained.document)
