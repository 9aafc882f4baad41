"""Programs in C compute what torch computes, for each operation and for whole models, in every place of a block."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import fallline as fl
from contracts.fleet_checks import tuned
from fallline import fleet
from fallline.errors import BadTask
from fallline.fleet import native
from fallline.fleet.block import train
from fallline.fleet.native import library
from fallline.fleet.programs import Program
from fallline.fleet.settings import Settings
from fallline.fleet.workshop import Workshop
from fallline.native import compiling
from fallline.native.recording import Unrecordable, record
from fallline.rules.parse import named

from .cases import check_same, classification, regression, table
from .models import BATCHED, RANDOM, task_of
from .test_steady import CONVOLUTIONS, DTYPES, FUNCTIONS, SIZES, normal

pytestmark = pytest.mark.skipif(native.compiler() is None, reason="this machine has no C compiler")
NEAR = {torch.float32: (1e-4, 2e-5), torch.float64: (1e-12, 1e-13)}
LEFT_OUT = {"sort", "hard sigmoid"}
"""The one has no text in C; of the other, torch computes the gradient with a float32 sixth."""


def check(function: Callable[..., Any], *rows: Tensor, shared: tuple[Tensor, ...] = ()) -> None:
    """In blocks of one and of five, in C and not otherwise, the same bits in each place, near torch's."""
    program = Program(function, (0,) * len(rows) + (None,) * len(shared), "compiled")
    found = []
    for runs in (1, 5):
        given = tuple(row.expand(runs, *row.shape).contiguous() for row in rows)
        out = program(*given, *shared)
        assert not program.note, program.note
        found += list(out)
    wanted = function(*rows, *shared)
    for one in found:
        assert one.tolist() == found[0].tolist() or torch.equal(one.isnan(), found[0].isnan())
    relative, absolute = NEAR[rows[0].dtype]
    torch.testing.assert_close(found[0], wanted, rtol=relative, atol=absolute, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - LEFT_OUT))
def test_functions_and_their_gradients(name: str, dtype: torch.dtype):
    x, function = normal(7, 13, dtype=dtype), FUNCTIONS[name]

    def both(x: Tensor) -> Tensor:
        slope = torch.func.grad(lambda x: (function(x) * function(x).cos()).sum())(x)
        return torch.cat([function(x).flatten(), slope.flatten()])

    check(both, x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [*SIZES, (9, 70, 49), (5, 3, 128)], ids=str)
def test_matrix_products(size: tuple[int, int, int], dtype: torch.dtype):
    """In all four layouts, alone and in sheets."""
    m, k, n = size
    a, b = normal(m, k, dtype=dtype, seed=1), normal(k, n, dtype=dtype, seed=2)

    def every(a: Tensor, at: Tensor, b: Tensor, bt: Tensor) -> Tensor:
        products = [x @ y for x in (a, at.t()) for y in (b, bt.t())]
        sheets = torch.stack([a, a + 1]) @ torch.stack([b, b - 1])
        return torch.stack([*products, *sheets])

    check(every, a, a.t().contiguous(), b, b.t().contiguous())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [(1, 3), (8, 16)])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_and_their_gradients(name: str, channels: tuple[int, int], dtype: torch.dtype):
    inputs, outputs = channels
    x, w = normal(4, inputs, 7, 7, dtype=dtype), normal(outputs, inputs, 3, 3, dtype=dtype, seed=1)
    function = CONVOLUTIONS[name]

    def both(x: Tensor, w: Tensor) -> Tensor:
        slopes = torch.func.grad(lambda x, w: (function(x, w) ** 2).sum() * 0.01, argnums=(0, 1))(x, w)
        return torch.cat([function(x, w).flatten(), *(s.flatten() for s in slopes)])

    check(both, x, w)


def _embedded(w: Tensor) -> Tensor:
    return F.embedding(torch.tensor([[0, 2], [2, 5]]), w)


OTHERS: dict[str, Callable[[Tensor], Tensor]] = {
    "max pooling": lambda x: F.max_pool2d(x.reshape(1, 7, 13).repeat(2, 1, 1), 3, stride=2, padding=1),
    "average pooling": lambda x: F.avg_pool2d(x.reshape(1, 1, 7, 13), 2),
    "cat and slices": lambda x: torch.cat([x[:, 3:], x[1:2].expand(7, -1), x[:, ::2]], 1),
    "stack and transposes": lambda x: torch.stack([x, x * 2], 1).transpose(0, 2),
    "padding": lambda x: F.pad(x, (1, 2, 0, 3), value=0.5),
    "looked up": lambda x: x[torch.tensor([3, -1, 3])],
    "looked up twice": lambda x: x[torch.tensor([[3], [0]]), torch.tensor([1, 1, 12])],
    "embedding": _embedded,
    "gather": lambda x: x.gather(1, torch.tensor([[0, 5], [12, 12]])),
    "cumulated": lambda x: x.cumsum(1) + x.cumsum(0),
    "powers": lambda x: x**2 + x**3 + (x * x + 1) ** 0.5 + (x * x + 1) ** -1.5,
    "largest and smallest": lambda x: torch.stack([x.amax(0), x.amin(0), x.clamp(-0.5, 0.5).sum(0)]),
    "where": lambda x: torch.where(x > 0, x, x * 0.1) + torch.where((x > 1) | ~(x > -1), 1.0, 0.0),
    "triangle": lambda x: (x @ x.t()).tril().masked_fill(torch.ones(7, 7).triu(1).bool(), 0.25),
    "diagonal": lambda x: (x @ x.t()).diagonal(),
    "attention": lambda x: F.scaled_dot_product_attention(x[None], x[None] * 2, x[None] - 1)[0],
    "chunks": lambda x: torch.cat([a * b for a, b in zip(x[:, :12].chunk(3, 1), x[:, 1:].chunk(3, 1), strict=True)]),
    "numbers of all kinds": lambda x: x * (x > 0) + (x * 3).floor() + (x * 3).trunc() + x.sign() + x.round(),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OTHERS)
def test_what_moves_entries_and_its_gradient(name: str, dtype: torch.dtype):
    x, function = normal(7, 13, dtype=dtype), OTHERS[name]

    def both(x: Tensor) -> Tensor:
        slope = torch.func.grad(lambda x: (function(x) * function(x).sin()).sum())(x)
        return torch.cat([function(x).flatten(), slope.flatten()])

    check(both, x)


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sigmoid"])
def test_functions_of_our_own_are_right_to_a_few_digits_in_the_last_place(name: str):
    """Over all magnitudes, and at the edges: zeros, infinities, what is not a number, what is hardly one."""
    x = torch.cat([s * torch.logspace(-44, 38, 20_001, dtype=torch.float64) for s in (1, -1)]).float()
    x = torch.cat(
        [x, torch.linspace(-110, 110, 50_001), torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan])]
    )
    ours = Program(getattr(torch, name), (0,), "compiled")(x[None])[0]
    wanted = getattr(torch, name)(x.double())
    rounded = wanted.float()
    assert torch.equal(ours.isnan(), rounded.isnan())
    finite = rounded.isfinite() & (rounded.abs() > 1.2e-38)
    far = (ours.double() - wanted).abs()[finite] / wanted.abs()[finite]
    assert far.max() < 4 * torch.finfo(torch.float32).eps
    rest = ~finite & ~rounded.isnan()
    assert (ours[rest] - rounded[rest]).nan_to_num(0.0).abs().max() < 1.2e-38


def test_integers_and_their_bits():
    def mixed(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = (x ^ (x >> 3)) * -7046029254386353131 & 0xFFFFFF
        return y | 1, (x < 0) & (y != 3), x.sum() + y

    x = torch.tensor([[-(2**62), -1, 0, 1, 2**62, 12345]])
    program = Program(mixed, (0,), "compiled")
    for ours, wanted in zip(program(x), mixed(x[0]), strict=True):
        assert torch.equal(ours[0], wanted)
        assert ours.dtype == wanted.dtype
    assert not program.note


def test_an_index_outside_is_an_error_and_no_memory_is_touched():
    program = Program(lambda x, i: x[i], (0, 0), "compiled")
    with pytest.raises(
        BadTask, match="looks up an entry that is not there: an index is outside of its table; check"
    ):
        program(torch.ones(2, 3), torch.tensor([[0, 1], [0, 3]]))


def test_what_c_has_no_text_for_is_traced_and_says_so():
    program = Program(lambda x: x.sort().values, (0,), "compiled")
    assert torch.equal(program(torch.tensor([[2.0, 1.0]])), torch.tensor([[1.0, 2.0]]))
    assert program.note == "traced, as C has no aten.sort.default"


def test_what_the_compiler_does_not_take_is_traced_and_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fallline.fleet.native.library.FLAGS", ("--no-such-flag",))
    program = Program(lambda x: x + 17.5, (0,), "compiled")
    with pytest.warns(
        UserWarning, match="the C compiler refused a program, and torch.s operations take its place: "
    ):
        assert program(torch.zeros(2)).tolist() == [17.5, 17.5]
    assert program.note.startswith("traced, as C has no compiler here that takes it: ")


@pytest.mark.parametrize("function", [lambda x: [x * x.sum().item()], lambda x: [x if x.sum() > 0 else -x]])
def test_a_decision_by_a_value_is_refused(function: Callable[..., Any]):
    with pytest.raises(Unrecordable, match="makes a decision hang on the value of a tensor"):
        record(function, [torch.ones(3)])


def test_numbers_from_torchs_own_stream_are_refused():
    with pytest.raises(Unrecordable, match="takes numbers from torch's own random stream"):
        record(lambda x: [x + torch.rand(3)], [torch.ones(3)])


def test_without_a_compiler_programs_are_traced(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native, "compiler", lambda: None)
    program = Program(lambda x: x + 1, (0,), "compiled")
    assert program(torch.zeros(2)).tolist() == [1.0, 1.0]
    assert program.note == "traced, as C has no compiler here"


def test_results_may_be_arguments_views_and_one_another():
    def several(x: Tensor, y: Tensor) -> list[Tensor]:
        z = x + y
        return [x, z, z.t(), z, z[1:], torch.ones(2), y]

    x, y = normal(4, 3, 3, dtype=torch.float32), normal(3, 3, dtype=torch.float32, seed=1)
    ours = Program(several, (0, None), "compiled")(x, y)
    for i in range(4):
        for one, wanted in zip(ours, several(x[i], y), strict=True):
            assert torch.equal(one[i], wanted)
    x += 1
    assert not torch.equal(ours[0], x), "a result is its own"


def test_memory_on_the_way_is_used_again():
    """A long chain needs memory for a few of its links."""

    def chain(x: Tensor, w: Tensor) -> Tensor:
        for _ in range(20):
            x = torch.tanh(x @ w)
        return x

    args = normal(50, 50, dtype=torch.float32), normal(50, 50, dtype=torch.float32, seed=1)
    source = native.write(record(lambda *a: [chain(*a)], args, native.table()), [True, False])
    assert source.scratch <= 3 * 50 * 50 * 4 + 3 * 64


# --- models ---------------------------------------------------------------------------------------------------


def trained(name: str, seeds: range, executor: str, steps: int = 8) -> list[Any]:
    runs = [fl.Run(fl.rules.momentum(lr=0.02 * (1 + s)), seed=s) for s in seeds]
    options: dict[str, Any] = {"workers": 0, "executor": executor, "weights": True}
    return fleet.run(task_of(name), runs, steps=steps, batch=7, **options)


@pytest.mark.parametrize("name", BATCHED)
def test_models_in_c_are_bit_equal_in_any_block_and_near_traced(name: str):
    whole = trained(name, range(5), "compiled")
    check_same(trained(name, range(3, 4), "compiled"), whole[3:4], "alone")
    check_same(trained(name, range(1, 4), "compiled"), whole[1:4], "among three")
    for ours, theirs in zip(whole, trained(name, range(5), "traced"), strict=True):
        for key, w in ours.weights.items():
            np.testing.assert_allclose(w, theirs.weights[key], rtol=1e-8, atol=1e-10)


def _trained_in_c(task: Any, runs: list[fl.Run], evaluations: tuple[int, ...]) -> Any:
    settings = fleet.Settings(20, 7, evaluations, weights=True, executor="compiled")
    return train(task, runs, settings, Workshop())[0].weights


@pytest.mark.parametrize("kind", sorted(named()))
def test_digits_do_not_hang_on_what_a_program_tells_or_masks(kind: str):
    """Products are rounded by themselves, be they measured too, or masked for a narrower neighbor, or neither."""
    task = fl.Task.supervised(
        lambda width=16: fl.layers.mlp(6, width, 3), table(), loss=fl.losses.cross_entropy
    )
    run = fl.Run(tuned(kind, 0.5), seed=1, model={"width": 16})
    narrow = fl.Run(tuned(kind, 0.5), seed=1, model={"width": 9})
    plain = _trained_in_c(task, [run, run], (0, 20))
    measured = _trained_in_c(task, [run, run], tuple(range(21)))
    masked = _trained_in_c(task, [run, narrow], (0, 20))
    for name, w in plain.items():
        assert w.tobytes() == measured[name].tobytes() == masked[name].tobytes(), name


def test_noise_is_each_runs_own():
    assert RANDOM
    one, other = (trained("dropout", range(s, s + 1), "compiled")[0] for s in (0, 1))
    assert one.series["train_loss"] != other.series["train_loss"]


def test_a_run_that_dies_is_frozen_in_c_as_it_is_traced():
    runs = [fl.Run(fl.rules.sgd(lr=lr)) for lr in (0.1, 1e30)]
    for executor in ("traced", "compiled"):
        records = fleet.run(regression(), runs, steps=30, workers=0, executor=executor)
        assert [r.outcome.status for r in records] == ["finished", "diverged"]


def test_programs_are_kept_for_the_next_process(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiling.folder.cache_clear()
    compiling.loaded.cache_clear()
    source = native.write(record(lambda x: [x * 3.25], [torch.ones(4)], native.table()), [True])
    assert native.Library(source).bind(2)(torch.ones(2, 4))[0].tolist() == [[3.25] * 4] * 2
    (kept,) = (tmp_path / "fallline").glob("*.so")
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    compiling.loaded.cache_clear()
    monkeypatch.setattr(compiling.subprocess, "run", None)
    assert isinstance(compiling.loaded(source.text, library.FLAGS, library.HERE), ctypes.CDLL)
    compiling.folder.cache_clear()
    compiling.loaded.cache_clear()


def _added_inside(x: Tensor) -> Tensor:
    whole = x.clone()
    whole[1:3, 1:4] += 100
    return whole


TRUTH: dict[str, Callable[[Tensor], Tensor]] = {
    "the largest of one number": lambda x: x.sum().amax(),
    "a sum of truths": lambda x: ((x > 0) + (x > 1)).to(x.dtype),
    "a product of truths": lambda x: ((x > 0) * (x > 1)).to(x.dtype),
    "a part that is changed in place": _added_inside,
    "a part of a part": lambda x: _added_inside(x)[:, ::2] * 2,
}


@pytest.mark.parametrize("name", TRUTH)
def test_what_lies_between_and_what_is_true(name: str):
    check(TRUTH[name], normal(4, 6, dtype=torch.float64))


TRACED: dict[str, Callable[[Tensor], Tensor]] = {
    "a remainder": lambda x: x % 0.1,
    "a floored quotient": lambda x: torch.div(x, 0.1, rounding_mode="floor"),
    "any of numbers": lambda x: x.any(1).to(x.dtype),
    "a change inside of an operation": lambda x: torch.nn.functional.cross_entropy(
        x, torch.tensor([0, -100, 2, 1]), reduction="none", label_smoothing=0.1
    ),
    "a product with a very long sum": lambda x: x.repeat(1, 2000) @ torch.ones(12000, 2, dtype=x.dtype),
    "a scatter": lambda x: x.scatter_reduce(0, torch.zeros(4, 6, dtype=torch.int64), x, "amax"),
}


@pytest.mark.parametrize("name", TRACED)
def test_what_c_would_compute_otherwise_or_not_at_all_is_traced(name: str):
    x, function = normal(4, 6, dtype=torch.float64), TRACED[name]
    program = Program(function, (0,), "compiled")
    found = program(x.expand(3, 4, 6).contiguous())
    torch.testing.assert_close(found[1], function(x))
    lacks = {
        "any of numbers": "any of numbers",
        "a product with a very long sum": "product of 4 rows with sums over 12000 entries",
    }
    assert program.note.startswith(f"traced, as C has no {lacks.get(name, '')}")
    assert len(program.note) > len("traced, as C has no ")


def test_a_library_that_was_cut_off_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiling, "folder", lambda: tmp_path)
    x = normal(3, 5, dtype=torch.float64)
    monkeypatch.setattr(compiling, "fingerprint", lambda *_: "kept")
    (tmp_path / "kept.so").write_bytes(b"")
    compiling.loaded.cache_clear()
    first = Program(lambda x: x.sin() + 7, (0,), "compiled")
    torch.testing.assert_close(first(x[None])[0], x.sin() + 7)
    assert "library that can be loaded" in first.note
    compiling.loaded.cache_clear()
    again = Program(lambda x: x.sin() + 7, (0,), "compiled")
    torch.testing.assert_close(again(x[None])[0], x.sin() + 7)
    assert not again.note


def test_a_state_that_is_changed_in_place_is_the_same_state(monkeypatch: pytest.MonkeyPatch):
    """Large states have one place; a run that leaves the finite numbers keeps its parameters in either case."""
    task = classification()
    asked = [fl.Run(fl.rules.adam(lr=lr, beta1=0.5), seed=s) for s, lr in enumerate((0.01, 1e39, 0.1))]
    settings = Settings(12, 8, (0, 3, 12), weights=True, executor="compiled")
    monkeypatch.setattr("fallline.fleet.native.source.LARGE", 1 << 30)
    turns = train(task, asked, settings, Workshop())
    monkeypatch.setattr("fallline.fleet.native.source.LARGE", 0)
    workshop = Workshop()
    check_same(train(task, asked, settings, workshop), turns)
    assert workshop.notes() == ()
    assert [record.outcome.diverged for record in turns] == [False, True, False]


def test_compiled_programs_take_no_more_room_than_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Those go first that were not used for longest; what was used lately, and what is another's, stays."""
    monkeypatch.setattr(compiling, "MOST", 250)
    now = time.time()
    for age, name in enumerate(["now.so", "lately.so", "hours.so", "days.so", "years.so", "old.npz"]):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (now - age * 0.9 * compiling.LATELY,) * 2)
    for name, at in (("program-killed", 0.0), ("program-at-work", now)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "program.c").write_text("int run;")
        os.utime(tmp_path / name, (at, at))
    compiling._make_room(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lately.so", "now.so", "old.npz", "program-at-work"]
    monkeypatch.setattr(compiling, "MOST", 0)
    compiling._make_room(tmp_path)
    assert (tmp_path / "now.so").exists()


def test_a_program_that_another_process_removes_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(compiling, "folder", lambda: tmp_path)
    source = native.write(record(lambda x: [x * 4.5], [torch.ones(4)], native.table()), [True])
    for _ in range(2):
        compiling.loaded.cache_clear()
        assert native.Library(source).bind(1)(torch.ones(1, 4))[0].tolist() == [[4.5] * 4]
        (kept,) = tmp_path.glob("*.so")
        kept.unlink()
    compiling.loaded.cache_clear()
