"""What a fleet does on a device, as far as a machine without a GPU can tell."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import fallline as fl
from fallline import fleet, rng, rules, schedules
from fallline.errors import BadTask, BadValue
from fallline.fleet import Fleet, Settings, Stopped, device, feed, graphed, probing, trial
from fallline.fleet import block as blocks
from fallline.fleet.guard import Guard
from fallline.fleet.probing import Measured, grown
from fallline.fleet.trial import Choice
from fallline.fleet.workshop import Workshop
from fallline.records import Record
from fallline.rules.parse import named
from fallline.tasks import Metric, Task, Variables

from . import pretended
from .cases import check_same, classification, regression
from .models import BATCHED, task_of
from .test_axes import streamed
from .test_isolation import CALM, EXPLODING, failing

SETTINGS = Settings(40, 7, (0, 1, 4, 15, 40), judge=True, weights=True)
GRAPHED = dataclasses.replace(SETTINGS, executor="graphed")
CPU = torch.device("cpu")


def both(task: Task, runs: Sequence[fl.Run], what: str = "") -> list[Record]:
    """Trained as a GPU would be, and as ever: the same records, bit for bit."""
    ours = blocks.train(task, runs, GRAPHED, Workshop())
    check_same(ours, blocks.train(task, runs, SETTINGS, Workshop()), what)
    return ours


# --- the steps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", list(BATCHED))
def test_steps_in_place_are_the_steps(model: str):
    numbers = (schedules.cosine(0.1, 40), 0.01, schedules.cosine(0.02, 30))
    both(task_of(model), [fl.Run(rules.adam(lr=lr), seed=i) for i, lr in enumerate(numbers)])


@pytest.mark.parametrize("rule", named())
def test_every_rule_keeps_its_state_in_place(rule: str):
    both(classification(), [fl.Run(getattr(rules, rule)(), seed=s) for s in range(3)])


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize("step", [0, 1, 2, 3, 14, 39])
def test_a_run_is_frozen_by_the_step_in_which_it_dies(step: int, chunk: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(graphed, "CHUNK", chunk)
    runs = [fl.Run(rules.momentum(lr=0.1), seed=s) for s in (4, 5, 6, 5)]
    alive, dead, *_ = both(failing(step), runs)
    assert [alive.outcome.status, dead.outcome.step] == ["finished", step + 1]


def test_runs_that_overflow_keep_their_last_finite_weights():
    wild = [fl.Run(EXPLODING, seed=s) for s in range(2)]
    records = both(regression(), [wild[0], *CALM, wild[1]])
    assert [r.outcome.diverged for r in records] == [True, False, False, False, False, True]
    assert all(np.isfinite(w).all() for r in records for w in r.weights.values())


def test_data_of_a_runs_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(graphed, "CHUNK", 5)
    rule = rules.sgd(lr=0.1)
    for data in ({"fold": 1}, {"subset": 20, "draw": 3}, {"label_noise": 0.4}, {"resample": 2}):
        runs = [fl.Run(rule, seed=s, data={**data, "draw": s}) for s in range(3)]
        both(classification(), runs, str(data))


def test_a_stream():
    task, *_ = streamed(400)
    both(task, [fl.Run(rules.adam(lr=0.01), seed=s) for s in range(2)])


def test_what_a_step_hands_on_as_another_variable_is_not_written_over():
    def init(seed: int) -> Variables:
        return Variables({"w": torch.tensor(float(seed))}, {"one": torch.tensor(1), "two": torch.tensor(2)})

    def loss(params: Any, buffers: Any, batch: Any, h: Any) -> Any:
        return params["w"] * buffers["one"], {"one": buffers["two"], "two": buffers["one"]}

    def score(params: Any, buffers: Any, batch: Any, h: Any) -> Any:
        return {"loss": params["w"], "score": buffers["one"] * 1.0}

    task = Task("swap", init, loss, score, {}, Metric("distance", "lower"))
    records = both(task, [fl.Run(rules.sgd(lr=1.0), seed=s) for s in range(2)])
    assert records[0].weights["w"] == -60  # 1 and 2 in turn
    assert records[0].series["validation_score"].values.tolist() == [1, 2, 1, 2, 1]


@pytest.mark.parametrize("steps", [1, 5, 17])
@pytest.mark.parametrize("executors", [("traced", "graphed"), ("graphed", "traced"), ("graphed", "graphed")])
def test_a_snapshot_goes_on_elsewhere(
    steps: int, executors: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
):
    """Stopped between two evaluations, within what is drawn at once."""
    monkeypatch.setattr(graphed, "CHUNK", 4)
    task, saved, left = failing(7), [], [steps]
    runs = [fl.Run(rules.adam(lr=0.1), seed=s) for s in (4, 5)]

    def stop() -> bool:
        left[0] -= 1
        return left[0] == 0

    first, second = (dataclasses.replace(SETTINGS, executor=e) for e in executors)
    with pytest.raises(Stopped):
        blocks.train(task, runs, first, Workshop(), guard=Guard(saved.append, np.inf, stop))
    ours = blocks.train(task, runs, second, Workshop(), start=saved[0])
    check_same(ours, blocks.train(task, runs, SETTINGS, Workshop()))


# --- graphs -------------------------------------------------------------------------------------------------


class _Rigid:
    """A graph that is captured without a step being taken, and that sees only the memory that it was captured on."""

    made = 0

    def __init__(self, step: Callable[[], None], stream: Any) -> None:
        _Rigid.made += 1
        self.step, self.loop = step, None
        cells = [cell.cell_contents for cell in step.__closure__ or ()]
        self.loop = next(cell for cell in cells if isinstance(cell, graphed.Loop))
        self.seen = self.memory()

    def memory(self) -> list[int]:
        loop, block = self.loop, self.loop.block
        numbers = [*block.numbers.fixed.values(), *block.numbers.loss.values(), *loop.tables.values()]
        own = [*loop.columns.values(), *block.own.values(), *block.mask.values(), block.seeds]
        counters = [loop.step, loop.slot, loop.died, loop.index, loop.losses]
        return [t.data_ptr() for t in (*loop.held, *numbers, *own, *counters)]

    def replay(self) -> None:
        assert self.memory() == self.seen
        self.step()
        assert self.memory() == self.seen


@pytest.mark.parametrize("kind", ["data", "stream"])
def test_a_graph_is_captured_once_and_sees_the_same_memory_ever_after(
    kind: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(graphed, "capture", _Rigid)
    monkeypatch.setattr(graphed, "CHUNK", 5)
    _Rigid.made = 0
    task = classification() if kind == "data" else streamed(400)[0]
    both(task, [fl.Run(rules.adam(lr=schedules.cosine(0.1, 40)), seed=s) for s in range(2)])
    assert _Rigid.made == 1


def test_a_block_that_is_done_gives_its_memory_back_at_once():
    workshop, runs = Workshop(), [fl.Run(rules.sgd())]
    gc.collect()
    gc.disable()
    try:
        with blocks.trained(classification(), runs, GRAPHED, workshop) as block:
            held = weakref.ref(block.loop)
        del block
        assert held() is None
    finally:
        gc.enable()


def test_a_step_that_cannot_be_captured_is_called_and_that_is_told(monkeypatch: pytest.MonkeyPatch):
    def refuse(step: Any, stream: Any) -> Any:
        raise graphed.Uncapturable("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphed, "capture", refuse)
    both(classification(), [fl.Run(rules.sgd(lr=0.1))])
    workshop = Workshop()
    blocks.train(classification(), [fl.Run(rules.sgd(lr=0.1))], GRAPHED, workshop)
    (note,) = workshop.notes()
    assert note.endswith(
        "called step by step, as it cannot be captured: operation not permitted when stream is capturing"
    )


# --- a device that is not the processor ---------------------------------------------------------------------


def elsewhere(task: Task, rule: Any, steps: int = 12, **options: Any) -> set[str]:
    """The devices on which variables are after a training on a device of its own."""
    plan = Settings(steps, 7, (0, 1, 4, steps), judge=True, executor="graphed", device=pretended.DEVICE)
    runs = [fl.Run(rule, seed=s, **options) for s in range(3)]
    block = pretended.train(task, runs, plan)
    return {str(t.device) for t in block.loop.held} | {str(t.device) for t in block.own.values()}


@pytest.mark.parametrize("model", list(BATCHED))
def test_models_train_on_a_device_of_its_own(model: str):
    rule = rules.adam(lr=schedules.cosine(0.1, 40))
    assert elsewhere(task_of(model), rule) == {pretended.DEVICE}


@pytest.mark.parametrize("rule", named())
def test_rules_train_on_a_device_of_its_own(rule: str):
    assert elsewhere(classification(), getattr(rules, rule)()) == {pretended.DEVICE}


def test_streams_and_runs_with_data_of_their_own_do():
    assert elsewhere(streamed(400)[0], rules.sgd()) == {pretended.DEVICE}
    noisy = {"label_noise": 0.4, "fold": 1}
    assert elsewhere(classification(), rules.sgd(), data=noisy) == {pretended.DEVICE}


def test_a_model_that_keeps_a_tensor_to_itself_is_found_out():
    class Apart(nn.Linear):
        def __init__(self) -> None:
            super().__init__(6, 3)
            self.scale = torch.ones(3)  # no buffer, so that it stays where it was made

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.scale

    with pytest.raises(
        RuntimeError, match=r"Expected all tensors to be on the same device|Unhandled FakeTensor Device"
    ):
        elsewhere(classification(Apart), rules.sgd())


def test_a_tensor_made_in_the_model_is_made_on_its_device():
    class Counting(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.arange(3.0)

    assert elsewhere(classification(lambda: Counting(6, 3)), rules.sgd()) == {pretended.DEVICE}


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(3), nn.InstanceNorm1d(3, track_running_stats=True)])
def test_norms_on_a_device_say_what_they_write(norm: nn.Module, monkeypatch: pytest.MonkeyPatch):
    """cuDNN's batch norm changes running averages behind the back of what records it."""
    asked: list[bool] = []

    class Seen(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in (torch.batch_norm, torch.instance_norm):
                asked.append(args[8])
            return func(*args, **(kwargs or {}))

    monkeypatch.setattr(torch.backends.cudnn, "enabled", True)
    for where in ("cpu", "meta"):
        x, norm = torch.ones(2, 3, 4, device=where), norm.to(where)
        with Seen(), device.made_on(torch.device(where)), rng.Noise(*torch.zeros(2, dtype=torch.int64)):
            norm(x)
    assert asked == [True, False]


def test_the_device_is_asked_for_nothing_between_evaluations(monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []
    for steps in (12, 24):
        with monkeypatch.context() as patch:
            fetched, count = Tensor.cpu, [0]

            def counted(self: Tensor, fetched: Any = fetched, count: list[int] = count) -> Tensor:
                count[0] += 1
                return fetched(self)

            patch.setattr(Tensor, "cpu", counted)
            elsewhere(classification(), rules.adam(), steps)
            asked.append(count[0])
    assert asked[0] == asked[1] > 0


# --- the order of the examples ------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4), st.integers(1, 9), st.integers(1, 12),
    st.integers(0, 30), st.integers(1, 20), st.integers(1, 200),
)  # fmt: skip
@settings(deadline=None)
def test_the_order_drawn_on_a_device_is_the_order(
    seeds: list[int], examples: int, batch: int, start: int, count: int, at_once: int
):
    rows = [None, *(np.sort(np.random.default_rng(i).integers(0, 50, examples)) for i in seeds[1:])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "AT_ONCE", at_once)
        ours = device.Order(seeds, examples, batch, rows, CPU)
        drawn = ours.between(start, start + count)
    assert torch.equal(drawn, feed.Order(seeds, examples, batch, rows).between(start, start + count))


def test_without_examples_there_is_no_order():
    assert device.Order([1, 2], 0, 3, [None, None], CPU).between(0, 4).shape == (4, 2, 0)


# --- which device -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["tpu", "meta", "cuda:x", "", None])
def test_an_unknown_device_is_refused(asked: Any):
    with pytest.raises(
        BadValue, match=r"^device must be auto, cpu, cuda or cuda:1 \(a GPU by its number\), got "
    ):
        fleet.run(classification(), [fl.Run(rules.sgd())], steps=1, device=asked)


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadValue, match=r"^device='cuda:1' needs a GPU, and torch finds none here \(torch \d"):
        fleet.run(classification(), [fl.Run(rules.sgd())], steps=1, device="cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(
        BadValue, match="'cuda:5' is not there: the GPUs of this machine are cuda:0 to cuda:1, so take one"
    ):
        device.place("cuda:5")
    assert device.place("cuda:1") == torch.device("cuda", 1)


def test_executors_that_do_not_go_with_a_device_are_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(
        BadValue, match=r"^executor='graphed' replays CUDA graphs and needs a GPU: ask for device='cuda'"
    ):
        Fleet([classification()], executor="graphed", device="cpu")
    monkeypatch.setattr(device, "place", lambda asked: torch.device("cuda", 0))
    with pytest.raises(
        BadValue, match="'compiled' is C for the processor, and cuda:0 is a GPU: ask for graphed"
    ):
        Fleet([classification()], executor="compiled", device="cuda")


class _Gpu:
    """A machine with a GPU, as far as the plan goes."""

    def __init__(self, patch: pytest.MonkeyPatch, step: float) -> None:
        self.there = Choice("graphed", 512, "measured", step, device="cuda:0")
        patch.setattr(device, "gpus", lambda: 1)
        patch.setattr(device, "place", lambda asked: torch.device("cpu" if asked == "cpu" else "cuda:0"))
        patch.setattr(device, "name", lambda where: "Some GPU")
        patch.setattr(probing, "choose", lambda *_: self.there)


def test_auto_takes_the_gpu_where_it_is_faster(monkeypatch: pytest.MonkeyPatch):
    tasks = [classification(name="one"), classification(name="two")]
    gpu = _Gpu(monkeypatch, 1e-9)
    with Fleet(tasks, workers=2, steps=trial.LONG) as crew:
        told = crew.plan()
        assert (told["device"], told["gpu"], told["workers"]) == ("cuda:0", "Some GPU", 1)
        assert set(crew.choices.values()) == {gpu.there}
    with Fleet(tasks, workers=16, plan=told) as again:
        assert again.plan() == told
        (row, *_) = again.forecast([(0, fl.Run(rules.sgd(), seed=s)) for s in range(600)], SETTINGS)
    assert (row["device"], row["executor"], row["blocks"], row["largest_block"]) == (
        "cuda:0",
        "graphed",
        2,
        300,
    )
    for slow in (
        {"steps": 10},
        {"steps": trial.LONG, "executor": "traced"},
        {"steps": trial.LONG, "device": "cpu"},
    ):
        with Fleet(tasks, workers=0, **slow) as crew:
            assert crew.plan()["device"] == "cpu"
    gpu.there = dataclasses.replace(gpu.there, step=1.0)
    with Fleet(tasks, workers=0, steps=trial.LONG) as crew:
        assert crew.plan()["device"] == "cpu"


def test_what_trains_alone_stays_on_the_processor():
    here = [Choice("alone", 1, "", 1.0)]
    assert not probing.faster([Choice("alone", 1, "", 0.1, device="cuda:0")], here, 1)
    assert probing.faster([Choice("traced", 1, "", 0.1, device="cuda:0")], here, 1)
    assert not probing.faster([Choice("traced", 1, "", 0.1, device="cuda:0")], here, 10)


def test_a_plan_for_another_device_is_made_anew_and_that_is_told():
    task = classification(name="mine")
    there = {"mine": Choice("graphed", 512, "measured", 1e-9, device="cuda:0").plain()}
    with Fleet([task], workers=0, device="cpu", plan={"device": "cuda:0", "tasks": there}) as crew:
        told = crew.plan()
    assert told["tasks"]["mine"]["executor"] == "traced"
    assert told["events"] == [
        "the plan was made for cuda:0 and is made anew for cpu: from here on runs may differ in their last digits"
    ]


def test_a_choice_is_plain_data_with_its_device():
    there = Choice("graphed", 512, "measured", 1e-9, 7, "cuda:1")
    assert Choice.rebuild(there.plain()) == there
    assert Choice.rebuild({"executor": "traced", "largest_block": 64, "reason": ""}).device == "cpu"


# --- the size of a block ------------------------------------------------------------------------------------


class _Memory:
    """Blocks of up to some runs fit; what they have in common is paid once a step."""

    def __init__(self, most: int, common: float = 100.0, each: float = 1.0) -> None:
        self.most, self.common, self.each, self.tried = most, common, each, list[int]()

    def __call__(self, runs: int) -> Measured:
        self.tried.append(runs)
        if runs > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return Measured((self.common + self.each * runs) / runs, 10)


def test_a_block_grows_while_that_pays():
    """Of 1 + 100 / n a step of a run: 256 runs take 1.39, 512 take 1.20, 1,024 take 1.10, which is not a tenth less."""
    free = _Memory(10**9)
    assert grown(free, 10**9)[0] == 512
    assert free.tried == [64, 128, 256, 512, 1024]
    assert grown(_Memory(10**9, common=0), 10**9)[0] == 64
    assert grown(_Memory(10**9, common=1e9), 10**9, most=256)[0] == 256


def test_a_block_stays_within_memory():
    assert grown(_Memory(200), 10**9)[0] == 128
    small = _Memory(9)
    assert grown(small, 10**9)[0] == 8
    assert small.tried == [64, 32, 16, 8]
    assert grown(_Memory(10**9), 10 * 300 / 0.8)[0] == 256
    with pytest.raises(torch.cuda.OutOfMemoryError):
        grown(_Memory(0), 10**9)


def test_an_error_of_another_kind_is_no_lack_of_memory():
    def broken(runs: int) -> Measured:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        grown(broken, 10**9)


def test_a_task_is_tried_and_measured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(probing, "MOST", 4)
    monkeypatch.setattr(probing, "grown", lambda measure, room: grown(measure, room, 2, 4))
    found = probing.choose(classification(), CPU)
    assert (found.executor, found.device) == ("graphed", "cpu")
    assert found.largest in (2, 4)
    assert found.reason.startswith("in a block and alone on the processor agree on 4 steps; ")
    assert found.memory >= 4 * 4 * (6 * 5 + 5 + 5 * 3 + 3)
    assert found.step > 0
    assert probing.choose(classification(), CPU, "traced").reason.startswith("asked for; ")
    assert probing.choose(classification(), CPU, "alone") == Choice("alone", 1, "asked for")


def test_what_cannot_be_batched_or_differs_trains_alone(monkeypatch: pytest.MonkeyPatch):
    found = probing.choose(task_of("branching"), CPU)
    assert (found.executor, found.largest) == ("alone", 1)
    assert found.reason.startswith("the model cannot be batched there: ")
    monkeypatch.setattr(trial, "differs", lambda *_: "1.weight")
    found = probing.choose(classification(), CPU)
    assert found.reason.startswith(
        "in a block and alone on the processor, 1.weight differs after 4 steps, so each"
    )


def test_a_step_without_a_graph_is_chosen_as_traced(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(probing, "measured", lambda *_: Measured(1e-6, 10, "step: called step by step"))
    found = probing.choose(classification(), CPU, "graphed")
    assert found.executor == "traced"
    assert "called step by step" in found.reason


def test_data_and_runs_that_do_not_fit_are_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(probing, "free", lambda where: 1000)
    with pytest.raises(
        BadTask, match=r"^the data of mine take 0\.0 MB, and 0\.0 MB are free on cpu, where runs need room"
    ):
        probing.choose(classification(name="mine"), CPU)
    monkeypatch.setattr(probing, "free", lambda where: 10**9)

    def full(*_: Any) -> Measured:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(probing, "measured", full)
    with pytest.raises(
        BadTask, match=r"^one run of mine does not fit into the memory of cpu, of which 1\.0 GB are free"
    ):
        probing.choose(classification(name="mine"), CPU)
