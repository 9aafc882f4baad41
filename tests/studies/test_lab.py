"""The lab: its families of runs are those of a fleet, and its comparisons those of the whole protocol."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fallline import fleet, layers, losses, rules, specs
from fallline.errors import BadValue
from fallline.fleet import Stopped
from fallline.records import Record
from fallline.specs import Run
from fallline.studies.lab import Bench, Lab, Side, outputs
from fallline.tasks.base import Task

HERE = {"workers": 0}


def blobs(name: str = "blobs", width: int = 4) -> Task:
    random = np.random.default_rng(0)
    X = random.normal(size=(120, 3)).astype(np.float32)
    y = (X[:, 0] + 0.5 * X[:, 1] > 0).astype(int)
    return Task.supervised(lambda: layers.mlp(3, width, 2), (X, y), loss=losses.cross_entropy, name=name)


def lab_of(**options: object) -> tuple[Lab, list[Record]]:
    seen: list[Record] = []
    return Lab(replicates=3, bench=Bench(sink=seen.extend, fleet=HERE), **options), seen  # type: ignore[arg-type]


def test_it_trains_what_a_fleet_trains():
    task, runs = blobs(), [Run(rules.sgd(lr=0.1), seed=s) for s in (1, 2)]
    lab, seen = lab_of()
    ours = lab.train(task, runs, steps=20, weights=True)
    theirs = fleet.run(task, runs, steps=20, weights=True, workers=0)
    for one, other in zip(ours, theirs, strict=True):
        assert one.outcome.numbers == other.outcome.numbers
        assert all(np.array_equal(one.weights[name], other.weights[name]) for name in other.weights)
    assert [record.run.tags["task"] for record in seen] == ["blobs", "blobs"]


def test_trainings_of_one_task_are_told_apart():
    lab, seen = lab_of()
    for _ in range(2):
        lab.train(blobs(), [Run(rules.sgd())], steps=2)
    assert [record.run.tags["task"] for record in seen] == ["blobs", "blobs (2)"]


def test_a_comparison_repeats_the_whole_protocol_and_gives_its_models_again():
    lab, _ = lab_of()
    rule = rules.sgd(lr=specs.log_axis(1e-6, 0.3, 3))
    sides = {"noisy": Side(blobs(), rule, {"data": {"label_noise": 0.3}}), "clean": Side(blobs(), rule)}
    trials = lab.compare(sides, steps=30)
    assert trials.finals("clean").shape == (3,)
    assert [sorted(setting) for setting in trials.chosen("noisy") if setting] == [["lr"]] * 3
    draws = [record.run.data["draw"] for record in trials.records("noisy")]
    assert draws == [0, 1, 2]
    records = lab.again(trials, "clean")
    judged = [record.outcome.numbers["test_loss"] for record in trials.records("clean")]
    assert [record.outcome.numbers["test_loss"] for record in records] == judged
    task = sides["clean"].task
    logits = outputs(task, records[0], task.parts["test"]["inputs"])
    right = (logits.argmax(1) == task.parts["test"]["target"].numpy()).mean()
    assert right == pytest.approx(records[0].outcome.numbers["test_score"])


def test_an_arm_where_everything_diverges_has_no_numbers():
    lab, _ = lab_of()
    task = replace(blobs(), name="steep")
    trials = lab.compare({"steep": Side(task, rules.sgd(lr=specs.axis(1e30, 2e30)))}, steps=5)
    assert np.isnan(trials.finals("steep")).all()
    assert trials.chosen("steep") == [None] * 3
    assert lab.again(trials, "steep") == []


def test_it_stops_when_it_is_asked_to():
    lab, _ = lab_of()
    lab.stop()
    with pytest.raises(Stopped):
        lab.train(blobs(), [Run(rules.sgd())], steps=2)
    with pytest.raises(Stopped):
        lab.look()


def test_its_seeds_and_generators_are_its_own():
    quick, other = Lab(quick=True, seed=3), Lab(seed=4)
    assert (quick.replicates, other.replicates) == (4, 10)
    assert quick.seeds(3) == [3, 4, 5]
    assert quick.few(100, 10) == 10
    draws = [lab.random(1).random() for lab in (quick, other)] + [quick.random(2).random()]
    assert len(set(draws)) == 3
    assert quick.random(1).random() == draws[0]


@pytest.mark.parametrize(
    ("name", "value"), [("replicates", 1), ("replicates", 2.5), ("seed", -1), ("seed", True)]
)
def test_what_is_no_number_of_replicates_or_seed_is_refused(name: str, value: object):
    with pytest.raises(BadValue, match=rf"^{name} must be a whole number of at least \d, got "):
        Lab(**{name: value})  # type: ignore[arg-type]
