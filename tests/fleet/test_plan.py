"""How blocks are made, what is fed to them, and how parts are evaluated."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fallline as fl
from fallline import fleet, layers, losses, rng, rules, schedules
from fallline.errors import BadTask
from fallline.fleet import block, trial
from fallline.fleet.counting import numbers_per_example
from fallline.fleet.feed import Numbers, Order
from fallline.fleet.members import Cast
from fallline.fleet.plan import LEAST, Job
from fallline.fleet.plan import jobs as jobs_of
from fallline.fleet.settings import LARGEST
from fallline.fleet.trial import Choice, choose, fitted
from fallline.fleet.variables import Room
from fallline.tasks import Metric, Task, Variables

from .cases import check_same, classification, order, regression, table, train


def jobs(asked: Any, choices: Any) -> list[Job]:
    """The jobs for runs of tasks of one kind of data, with a choice for each task."""
    cast = Cast(classification())
    kinds = [cast.kind(run, 7) for _, run in asked]
    return jobs_of(asked, kinds, {(i, ()): c for i, c in enumerate(choices)}, [0] * len(asked), {})


# --- the plan -----------------------------------------------------------------------------------------------


def test_a_model_that_can_be_batched_is():
    choice = choose(classification())
    assert choice == Choice("traced", LARGEST, choice.reason)
    assert choice.reason.startswith("batched and alone agree on 4 steps")
    assert choice.step > 0
    assert choice.memory >= 4 * 4 * (6 * 5 + 5 + 5 * 3 + 3)
    assert Choice.rebuild(choice.plain()).plain() == choice.plain()


def test_an_executor_that_is_asked_for_is_taken():
    for executor, largest in (("traced", LARGEST), ("compiled", 4 * LARGEST), ("alone", 1)):
        assert choose(classification(), executor) == Choice(executor, largest, "asked for")  # type: ignore[arg-type]


def test_blocks_are_smaller_the_larger_the_model():
    wide = Task.supervised(lambda: layers.mlp(6, 5000, 3), table(), loss=losses.cross_entropy)
    assert choose(wide, "traced").largest == 64 * 10_000 // (7 * 5000 + 5001 * 3)
    huge = Task.supervised(lambda: layers.mlp(6, 99_999, 3), table(), loss=losses.cross_entropy)
    assert choose(huge, "traced").largest == 1


def test_a_model_that_is_another_when_batched_trains_alone(monkeypatch: pytest.MonkeyPatch):
    train_block = trial.trained

    def wrong(task: Task, runs: Any, settings: Any, *others: Any) -> Any:
        runs = [fl.Run(rules.sgd(lr=0.5), run.seed) for run in runs] if settings.executor == "alone" else runs
        return train_block(task, runs, settings, *others)

    monkeypatch.setattr(trial, "trained", wrong)
    choice = choose(classification())
    assert (choice.executor, choice.largest) == ("alone", 1)
    assert choice.reason == "batched and alone, 1.weight differs after 4 steps, so each run trains alone"


def test_a_kernel_that_rounds_by_place_is_told_in_the_plan(monkeypatch: pytest.MonkeyPatch):
    def by_place(x: torch.Tensor) -> torch.Tensor:
        places = torch.arange(x.numel(), dtype=x.dtype).reshape(x.shape)
        return 1 - 2 / (torch.exp(2 * x) + 1) + 1e-12 * places

    monkeypatch.setattr(fleet.steady, "table", lambda: {torch.ops.aten.tanh.default: by_place})
    told = "; the last digits of a run depend on its place in a block, as a kernel here rounds by it"
    assert choose(classification(dtype=torch.float64)).reason.endswith(told)


def test_a_run_that_is_faster_alone_trains_alone(monkeypatch: pytest.MonkeyPatch):
    measured = trial.tried

    def slow_in_a_block(task: Task, executor: Any, rows: int) -> Any:
        found = measured(task, executor, rows)
        return dataclasses.replace(found, step=3e-3 if executor == "traced" else 2e-3)

    monkeypatch.setattr(trial, "tried", slow_in_a_block)
    choice = choose(classification())
    assert (choice.executor, choice.largest, choice.step) == ("alone", 1, 2e-3)
    assert choice.reason.startswith("alone a run is faster: 2 ms a step, against 3 ms in a block")


def test_what_does_not_fit_into_memory_gets_smaller_blocks_then_fewer_workers_then_a_sentence():
    free = 10_000_000_000
    small = Choice("traced", 64, "agreed", memory=10_000_000)
    assert fitted(small, 2, free, "mine") == (Choice("traced", 64, "agreed"), 2)
    smaller, workers = fitted(Choice("traced", 64, "agreed", memory=1_000_000_000), 2, free, "mine")
    assert (smaller.largest, workers) == (3, 2)
    assert smaller.reason == "agreed; blocks of 3 in 2 processes, as a run takes 1.0 GB"
    few, workers = fitted(Choice("alone", 1, "agreed", memory=5_000_000_000), 2, free, "mine")
    assert (few.largest, workers) == (1, 1)
    with pytest.raises(
        BadTask, match=r"^one run of mine takes about 11.0 GB in training, and 10.0 GB are free here"
    ):
        fitted(Choice("alone", 1, "agreed", memory=11_000_000_000), 2, free, "mine")


def test_a_model_too_large_for_a_trial_in_a_block_is_tried_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trial, "free_memory", lambda: 500)
    choice = choose(classification())
    assert (choice.executor, choice.largest) == ("alone", 1)
    assert choice.reason.startswith("three runs at once do not fit into memory")


def test_the_memory_of_a_run_is_measured():
    """Parameters, gradient and new parameters of a model of 8 MB cannot take less than three times that."""
    task = Task.supervised(lambda: layers.mlp(6, 200_000, 3), table(), loss=losses.cross_entropy)
    choice = choose(task, "auto")
    assert 3 * 8_000_000 <= choice.memory <= 40 * 8_000_000


def test_a_forecast_has_a_row_for_each_kind_of_run():
    asked = [(0, fl.Run(rule, seed=seed)) for rule in (rules.sgd(), rules.adam()) for seed in range(70)]
    with fleet.Fleet([classification(name="mine")], workers=0) as crew:
        told = crew.forecast(asked, fleet.Settings(100, 7, (0, 100)))
    assert [(row["task"], row["runs"], row["blocks"], row["largest_block"]) for row in told] == [
        ("mine", 70, 2, 35), ("mine", 70, 2, 35),
    ]  # fmt: skip
    assert all(row["core_seconds"] > 0 and row["bytes"] > 0 for row in told)


@pytest.mark.parametrize(
    ("rule", "least"),
    [
        (rules.sgd(), 0),
        (rules.adam(), 2 * (50 * 6 + 50 + 3 * 50 + 3)),  # two moments
        (rules.shampoo(), 50 * 50 + 6 * 6 + 3 * 3 + 50 * 50),  # a factor for each side
    ],
)
def test_a_run_takes_what_its_rule_keeps_and_a_larger_batch_takes_more(rule: Any, least: int):
    task = Task.supervised(lambda: layers.mlp(6, 50, 3), table(), loss=losses.cross_entropy)
    kept = Cast(task).state(fl.Run(rule), {})
    assert 4 * least <= kept <= 4 * least * 1.5 + 64
    with fleet.Fleet([task], workers=0, executor="traced", batch=7) as crew:
        crew.choices = dict.fromkeys(crew.choices, Choice("traced", 64, "measured", memory=1_000_000))
        settings = [fleet.Settings(10, batch, (0, 10)) for batch in (7, 14, 28)]
        told = [crew.forecast([(0, fl.Run(rule))], own)[0]["bytes"] for own in settings]
    assert told == [times * 1_000_000 + 2 * kept for times in (1, 2, 4)]


def test_runs_of_a_larger_batch_get_smaller_blocks_or_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fallline.fleet.fleet.free_memory", lambda: 10_000_000)
    asked = [(0, fl.Run(rules.sgd(), seed=seed)) for seed in range(12)]
    with fleet.Fleet([classification(name="mine")], workers=0, executor="traced", batch=2) as crew:
        crew.choices = dict.fromkeys(crew.choices, Choice("traced", 64, "measured", memory=1_000_000))
        settings = [fleet.Settings(10, batch, (0, 10)) for batch in (2, 4, 6, 24)]
        assert [crew.forecast(asked, own)[0]["largest_block"] for own in settings[:3]] == [6, 3, 2]
        with pytest.raises(
            BadTask,
            match=r"^one run of mine takes about 12.0 MB in training, and 10.0 MB are free here: ask for",
        ):
            crew.forecast(asked, settings[3])


def test_the_plan_is_plain_data_by_task():
    with fleet.Fleet([classification(name="one"), regression(name="two")], workers=0) as crew:
        told = crew.plan()
    assert told["workers"] == 1
    assert set(told["tasks"]) == {"one", "two"}
    assert told["tasks"]["one"]["executor"] == "traced"


def test_a_recorded_plan_is_taken_over():
    task = classification(name="mine")
    with fleet.Fleet([task], workers=0, executor="alone") as crew:
        recorded = crew.plan()
    with fleet.Fleet([task], workers=0, plan=recorded) as crew:
        assert crew.plan() == recorded


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=200),
    st.integers(1, 64),
    st.integers(1, 64),
)
@settings(max_examples=50, deadline=None)
def test_every_run_is_in_one_block_of_its_task_and_structure(
    asked: list[tuple[int, int]], first: int, second: int
):
    kinds = [rules.sgd(), rules.adam(), rules.chain(rules.clip_norm(1.0), rules.sgd())]
    choices = [Choice("traced", first, ""), Choice("alone", second, "")]
    runs = [(task, fl.Run(kinds[k], seed=i)) for i, (task, k) in enumerate(asked)]
    made = jobs(runs, choices)
    assert sorted(p for job in made for p in job.positions) == list(range(len(runs)))
    sizes = [len(job.positions) for job in made]
    assert sizes == sorted(sizes, reverse=True)
    for job in made:
        assert len({asked[p] for p in job.positions}) == 1
        assert len(job.positions) <= choices[job.task].largest
    for key in set(asked):
        own = [len(job.positions) for job in made if asked[job.positions[0]] == key]
        assert max(own) - min(own) <= max(own) // len(own) + 1
        assert len(own) == math.ceil(sum(own) / choices[key[0]].largest)


def test_rules_of_one_structure_share_a_block_whatever_their_numbers():
    runs = [rules.sgd(lr=0.1), rules.sgd(lr=schedules.cosine(0.1, 10)), rules.momentum()]
    made = jobs([(0, fl.Run(rule)) for rule in runs], [Choice("traced", 64, "")])
    assert [job.positions for job in made] == [(0, 1), (2,)]


@given(st.integers(1, 500), st.integers(1, 8))
@settings(max_examples=50, deadline=None)
def test_every_worker_gets_its_share_unless_blocks_become_too_small(count: int, workers: int):
    cast, runs = Cast(classification()), [fl.Run(rules.sgd(), seed=i) for i in range(count)]
    kinds, choices = [cast.kind(run, 7) for run in runs], {(0, ()): Choice("compiled", 256, "")}
    made = jobs_of([(0, run) for run in runs], kinds, choices, [0] * count, {}, workers=workers)
    assert sorted(p for job in made for p in job.positions) == list(range(count))
    assert len(made) >= min(workers, max(1, count // LEAST))
    assert max(len(job.positions) for job in made) <= max(LEAST, math.ceil(count / workers))


def test_where_c_has_no_text_the_plan_says_so():
    """A sort is traced, and the events of the fleet tell it."""

    def ranked(model: Any = None) -> nn.Module:
        class Sorted(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.out = nn.Linear(6, 3)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.out(x.sort(1).values)

        return Sorted()

    asked = [(0, fl.Run(rules.sgd(lr=0.1), seed=seed)) for seed in range(2)]
    for workers in (0, 1):
        with fleet.Fleet([classification(ranked)], workers=workers, executor="compiled") as crew:
            list(crew.train(asked, fleet.Settings(3, 7, (0, 3))))
            (event,) = crew.plan()["events"]
        assert "traced, as C has no" in event
        assert "sort" in event


# --- evaluations --------------------------------------------------------------------------------------------


@given(st.integers(1, 10**6), st.integers(1, 50))
def test_evaluations_begin_at_0_end_at_the_last_step_and_thin_out(steps: int, points: int):
    found = fleet.evaluations(steps, points)
    assert found[0] == 0
    assert found[-1] == steps
    assert list(found) == sorted(set(found))
    assert len(found) <= points + 1
    gaps = np.diff(found)
    assert (np.diff(gaps) >= -1).all()


def test_a_part_is_evaluated_in_pieces_that_do_not_depend_on_the_fleet(monkeypatch: pytest.MonkeyPatch):
    """Pieces of 4 examples; every example is seen once, whatever the size of the block."""
    task, runs = classification(), [fl.Run(rules.sgd(lr=0.1), seed=s) for s in range(5)]
    whole = train(task, runs)
    monkeypatch.setattr(block, "_piece", lambda *_: 4)
    pieces = train(task, runs)
    check_same(train(task, runs[3:4]), pieces[3:4], "alone, in pieces")
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(one.examples["test_loss"], other.examples["test_loss"], rtol=1e-5)
        assert one.examples["test_loss"].shape == (task.size("test"),)


def test_the_size_of_a_piece_keeps_what_a_block_computes_within_memory():
    room = Room(classification())
    for numbers, per_example, few, size in (
        (50_000, 1000, 0, 82),
        (10, 1000, 0, 32),
        (10, 1000, 1 << 20, 1048),
    ):
        room.numbers, room.per_example = numbers, per_example
        assert block._piece(room, 32, few) == size


def test_what_an_example_takes_is_counted_layer_by_layer():
    """Two layers: 100 and 3 numbers before and after each activation, and a few for loss and score."""
    wide = Task.supervised(lambda: layers.mlp(6, 100, 3), table(), loss=losses.cross_entropy)
    assert 203 <= numbers_per_example(wide) <= 230
    deep = Task.supervised(lambda: layers.mlp(6, 100, 100, 3), table(), loss=losses.cross_entropy)
    assert numbers_per_example(deep) == numbers_per_example(wide) + 200


def test_a_measure_of_the_whole_part_is_never_put_together_from_pieces(monkeypatch: pytest.MonkeyPatch):
    def spread(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return prediction.max() - prediction.min()

    task = classification(score=spread, better="lower")
    runs = [fl.Run(rules.sgd(lr=0.1), seed=s) for s in range(3)]
    whole = train(task, runs)
    monkeypatch.setattr(block, "_piece", lambda *_: 4)
    for one, other in zip(whole, train(task, runs), strict=True):
        np.testing.assert_array_equal(
            one.series["validation_score"].values, other.series["validation_score"].values
        )
        assert set(other.examples) == {"test_loss"} or other.examples["test_loss"].shape == (10,)


# --- the order of the data ----------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 60), st.lists(st.integers(1, 20), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_every_epoch_sees_each_example_once_without_gaps(examples: int, batch: int, stretches: list[int]):
    """Asked for in any stretches, the examples are one permutation after another, cut into batches."""
    seeds, feed, t = [3, 4, 3], Order([3, 4, 3], examples, batch), 0
    batch = min(batch, examples)
    found = []
    for length in stretches:
        found.append(feed.between(t, t + length))
        t += length
    index = torch.cat(found)
    assert index.shape == (t, len(seeds), batch)
    for i, seed in enumerate(seeds):
        np.testing.assert_array_equal(index[:, i].numpy(), np.stack(order(seed, examples, batch, t)))
    stream = index[:, 0].flatten()
    for epoch in range(len(stream) // examples):
        assert sorted(stream[epoch * examples : (epoch + 1) * examples].tolist()) == list(range(examples))


def test_a_task_without_data_is_fed_nothing():
    assert Order([1, 2], 0, 32).between(3, 7).shape == (4, 2, 0)


def test_a_batch_larger_than_the_part_is_the_whole_part():
    task, run = classification(), fl.Run(rules.sgd(lr=0.1), seed=1)
    large, whole = (train(task, [run], batch=b)[0] for b in (10_000, task.size("train")))
    check_same([large], [whole])


# --- the numbers --------------------------------------------------------------------------------------------


def test_numbers_are_columns_of_runs_at_each_step():
    task = classification(loss=losses.cross_entropy + fl.axis(1.0, 2.0) * losses.cross_entropy)
    plan_ = schedules.cosine(1.0, 10)
    runs = [
        fl.Run(rules.adam(lr=0.1), loss={"1.weight": 3.0}),
        fl.Run(rules.adam(lr=plan_, beta1=0.5), loss={"1.weight": 4.0}),
    ]
    fed = Numbers(Cast(task), runs)
    found, scheduled = fed.between(3, 6)
    assert scheduled == {"lr"}
    for t in range(3):
        column = {path: values[t] if path in scheduled else values for path, values in found.items()}
        assert {k: v.tolist() for k, v in fed.at(3 + t).items()} == {k: v.tolist() for k, v in column.items()}
        assert column["lr"].tolist() == [0.1, plan_.at(3 + t)]
        assert column["beta1"].tolist() == [0.9, 0.5]
        assert {c.dtype for c in column.values()} == {torch.float64}
    assert {k: v.tolist() for k, v in fed.loss.items()} == {"1.weight": [3.0, 4.0]}


# --- a task that cannot be trained --------------------------------------------------------------------------


def bare(**changed: Any) -> Task:
    given_ = {
        "name": "bowl",
        "init": lambda seed: Variables({"w": torch.ones(2)}, {}),
        "loss": lambda p, b, batch, h: ((p["w"] ** 2).sum(), b),
        "score": lambda p, b, batch, h: {"loss": (p["w"] ** 2).sum(), "score": p["w"].norm()},
        "parts": {},
        "metric": Metric("distance", "lower"),
    }
    return Task(**{**given_, **changed})


def test_a_start_that_is_not_the_same_twice_is_refused():
    generator = np.random.default_rng(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.as_tensor(generator.normal(size=(6, 3)), dtype=torch.float32))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.w

    task = fl.Task.supervised(Net, table(), loss=losses.cross_entropy, name="mine")
    told = r"^the initial w of mine differs for the same seed: draw it from torch's generator \(torch.manual_seed is"
    with pytest.raises(BadTask, match=told):
        fleet.run(task, [fl.Run(rules.sgd())], steps=1)


def test_a_task_without_parameters_or_with_many_losses_is_refused():
    frozen = bare(init=lambda seed: Variables({}, {"w": torch.ones(2)}))
    with pytest.raises(
        BadTask, match=r"^the model of bowl has no parameters that are trained: nothing to learn$"
    ):
        train(frozen, [fl.Run(rules.sgd())])
    many = bare(loss=lambda p, b, batch, h: (p["w"] ** 2, b))
    with pytest.raises(BadTask, match=r"^the loss of bowl must be one number, got shape \[2\]$"):
        train(many, [fl.Run(rules.sgd())])


def test_a_plan_tries_axes_of_the_loss_at_their_first_values():
    task = regression(loss=fl.axis(0.5, 1.0) * losses.mse + fl.schedules.constant(2.0) * losses.mae)
    assert task.first_numbers() == {"0.weight": 0.5, "1.weight": 2.0}
    assert choose(task).executor == "traced"


def test_training_leaves_torchs_generator_as_it_was():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    make = lambda: nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5), nn.Linear(5, 3))  # noqa: E731
    fleet.run(classification(make), [fl.Run(rules.sgd())], steps=3)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_runs_of_one_seed_share_their_start_in_every_call():
    task = classification()
    ours, again = (train(task, [fl.Run(rules.sgd(lr=0.0), seed=s) for s in (4, 9)]) for _ in range(2))
    check_same(ours, again)
    assert any(not np.array_equal(ours[0].weights[k], ours[1].weights[k]) for k in ours[0].weights)
    assert rng.seed_for(4, "init") != rng.seed_for(4, "order")
