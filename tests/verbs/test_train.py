"""``fl.train``: what it gives, what it writes, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

import fallline as fl
from fallline import layers, losses, rules
from fallline.errors import BadRule, BadStore, BadTask, BadValue, NotFound
from fallline.tasks import Task

from .toys import bowl

KEYS = {
    "task", "rule", "seed", "steps", "metric", "better", "validation_score", "validation_loss", "test_score",
    "test_loss", "best_step", "stopped", "sentence", "seconds", "weights", "notes",
}  # fmt: skip


class Tied(nn.Module):
    """Tied weights, running averages, a buffer that is not saved, and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.norm = nn.Linear(4, 5), nn.BatchNorm1d(5)
        self.first = nn.Linear(5, 5)
        self.second = nn.Linear(5, 5)
        self.second.weight = self.first.weight
        self.out = nn.Linear(5, 2)
        self.register_buffer("scale", torch.tensor(0.5), persistent=False)
        self.base.requires_grad_(requires_grad=False)
        nn.init.constant_(self.base.bias, 0.25)

    def forward(self, x: Tensor) -> Tensor:
        z = self.norm(self.base(x))
        return self.out(torch.tanh(self.second(torch.tanh(self.first(z)))) * self.scale)


def signs(model: Any = None) -> Task:
    X = np.random.default_rng(0).normal(size=(120, 4))
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    return fl.Task.supervised(
        model or (lambda: layers.mlp(4, 8, 2)), (X, y), loss=losses.cross_entropy, name="signs"
    )


def go(task: Any = None, rule: Any = "adam(lr=0.01)", **options: Any) -> Any:
    asked = {"device": "cpu", "progress": False, "steps": None if "epochs" in options else 30, **options}
    return fl.train(task or signs(), rule, **asked)


def test_what_it_gives():
    task = signs()
    found = go(task, seed=4)
    assert set(found.document) == KEYS
    assert json.loads(json.dumps(found.document, allow_nan=False)) == found.document
    record = found.record
    assert found.document["validation_score"] == max(found.curves["validation_score"].values)
    assert (
        found.document["test_loss"]
        == record.outcome.numbers["test_loss"]
        == record.examples["test_loss"].mean(dtype=float)
    )
    assert (found.document["seed"], found.document["steps"], found.document["stopped"]) == (4, 30, "finished")
    score, step = found.document["validation_score"], found.document["best_step"]
    assert str(found).startswith(
        f"signs with adam(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-08), seed 4: validation accuracy {score:.4g} (loss "
    )
    assert f"by the weights of step {step}; 30 steps in " in str(found)
    page = found._repr_html_()
    assert page.count("<svg") == 2
    assert "validation score ends at" in page


def test_the_model_has_the_weights():
    task = signs(Tied)
    found = go(task, rules.adam(lr=0.02))
    held = task.parts["validation"]
    model = found.model()
    assert not model.training
    right = (model(held["inputs"]).argmax(1) == held["target"]).double().mean()
    assert float(right) == found.document["validation_score"]
    own = Tied()
    own.load_state_dict(found.state_dict(), strict=True)
    assert torch.equal(own.eval()(held["inputs"]), model(held["inputs"]))
    assert set(found.state_dict()) == set(Tied().state_dict())
    assert not torch.equal(found.state_dict()["norm.running_mean"], torch.zeros(5))


def test_the_weights_are_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = go(signs(Tied), out=tmp_path / "out")
    path = Path(found.document["weights"])
    assert path == tmp_path / "out" / "weights.safetensors"
    saved = load_file(path)
    Tied().load_state_dict(saved, strict=True)
    assert all(torch.equal(saved[k], t) for k, t in found.state_dict().items())
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["fallline"])["task"] == "signs"
    before = path.read_bytes()

    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadStore, match=r"the weights cannot be written to .* \(No space left on device\)"):
        found.save(path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in path.parent.iterdir()) == ["checkpoint.safetensors", "weights.safetensors"]


def test_a_task_without_a_module_gives_its_tensors():
    found = go(bowl(), "sgd(lr=0.1)")
    assert set(found.state_dict()) == {"w"}
    with pytest.raises(BadTask, match=r"bowl is not made of one nn\.Module, so there is none to give back"):
        found.model()


@pytest.mark.parametrize("rule", ["adam", fl.rules.adam])
def test_a_bare_name_gets_the_default_rate_and_says_so(rule: Any):
    found = go(rule=rule)
    assert found.record.run.rule == rules.adam()
    assert found.document["notes"] == [
        "adam ran at its default numbers, lr=0.001: fl.find_lr finds which ones work"
    ]
    assert found.document["notes"][0] in str(found)
    assert go(rule="adam(lr=0.001)").document["notes"] == []


def test_epochs_are_passes_over_the_training_examples():
    task = signs()
    assert go(task, epochs=2.5, batch=10).document["steps"] == -(-5 * task.size("train") // 20)
    assert go(task, epochs=2, batch=10_000).document["steps"] == 2


def test_a_training_goes_on(tmp_path: Path):
    whole = go(out=tmp_path / "one")
    again = go(out=tmp_path / "one", resume=True)
    assert {**again.document, "seconds": 0} == {**whole.document, "seconds": 0}
    fresh = go(out=tmp_path / "two", resume=True)
    assert fresh.document["test_loss"] == whole.document["test_loss"]


def test_ctrl_c_gives_the_best_so_far_and_says_so(tmp_path: Path):
    class Stops(nn.Linear):
        count = 0

        def forward(self, x: Tensor) -> Tensor:
            if self.training and torch.is_grad_enabled():
                Stops.count += 1
                if Stops.count == 12:
                    os.kill(os.getpid(), signal.SIGINT)
            return super().forward(x)

    task = signs(lambda: Stops(4, 2))
    Stops.count = 0
    found = go(task, out=tmp_path)
    done, best = found.document["steps"], found.document["best_step"]
    assert found.document["stopped"] == "interrupted"
    assert f"\nstopped at step {done} by Ctrl-C; the weights of step {best} are kept\n" in f"{found}\n"
    assert go(task, out=tmp_path, resume=True).document["steps"] == 30


def test_a_diverged_training_says_so():
    found = go(rule="sgd(lr=1e30)")
    assert found.document["stopped"] == "diverged"
    assert np.isfinite(found.document["validation_loss"])
    assert "left the finite numbers at step " in str(found)
    assert found._repr_html_().count("<svg") == 2


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"task": "digit"}, NotFound, "no task is called 'digit'; did you mean 'digits'"),
    ({"task": 3}, BadTask, r"task must be a fallline task such as fl.tasks.digits\(\), got a int"),
    ({"rule": "adm"}, NotFound, "no rule is called 'adm'; did you mean 'adam'"),
    ({"rule": 3}, BadRule, r"a rule is a name, or a value such as fl\.rules\.adam\(lr=1e-3\); got 3"),
    ({"rule": rules.clip_norm(1.0)}, BadRule, "gives a direction uphill, not a step"),
    ({"rule": rules.sgd(lr=fl.axis(0.1, 1.0))}, BadValue, "is an axis of a fleet: make one run for each"),
    ({"steps": 0}, BadValue, "steps must be a whole number of at least 1, got 0"),
    (
        {"epochs": 2, "steps": 3},
        BadValue,
        "steps=3 and epochs=2 both say how long to train: give one of them",
    ),
    ({"epochs": 0}, BadValue, "epochs must be a number above 0, got 0"),
    (
        {"epochs": 2, "task": bowl()},
        BadValue,
        "the training data of bowl have no end to count epochs by: give steps",
    ),
    ({"batch": True}, BadValue, "batch must be a whole number of at least 1, got True"),
    ({"patience": 0}, BadValue, "patience must be a whole number of at least 1, got 0"),
    ({"accumulate": 0}, BadValue, "accumulate must be a whole number of at least 1, got 0"),
    ({"seed": -1}, BadValue, "a seed is a whole number from 0"),
    ({"every": -1.0}, BadValue, "every must be a number of seconds of at least 0, got -1.0"),
    ({"resume": True}, BadValue, "resume=True goes on with the training in a folder: say which by out="),
]


@pytest.mark.parametrize(("options", "error", "told"), BAD, ids=[str(o) for o, _, _ in BAD])
def test_bad_input_teaches(options: dict[str, Any], error: type[Exception], told: str):
    with pytest.raises(error, match=told):
        go(**options)


def test_nothing_is_left_behind_where_nothing_was_trained(tmp_path: Path):
    with pytest.raises(BadValue):
        go(out=tmp_path / "a" / "b", precision="half")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        BadStore, match=r"the folder .*file cannot be made \(File exists\): choose another by out"
    ):
        go(out=tmp_path / "file")
