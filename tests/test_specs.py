"""Plain data asked for: it prints, compares, nests, and survives a trip through JSON."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_line import environment
from fallline import losses, rules, schedules, specs
from fallline.errors import BadValue, NotFound
from fallline.specs import Axis, Domain, Loss, Rule, Run, Schedule, Spec, Study, axis, log_axis

# --- values -----------------------------------------------------------------------------------------------

names = st.text("abcxyz_", min_size=1, max_size=5)
floats = st.floats(allow_nan=False)
axes = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=4).map(lambda v: Axis(tuple(v)))
options = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab*.", max_size=4),
    lambda inner: st.lists(inner).map(tuple),
)


def values(family: type[Spec], numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def one(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.builds(
            family,
            names,
            st.dictionaries(names, numbers),
            st.dictionaries(names, options, max_size=2),
            children,
        )

    return st.recursive(
        one(st.just(())), lambda inner: one(st.lists(inner, max_size=3).map(tuple)), max_leaves=4
    )


shaped = values(Schedule, floats | axes)
anything = values(Rule, floats | axes | shaped) | values(Loss, floats | axes | shaped)


@given(anything)
def test_a_value_comes_back_from_json(value: Spec):
    text = json.dumps(specs.plain(value), allow_nan=False)
    again = specs.rebuild(json.loads(text))
    assert again == value
    assert hash(again) == hash(value)
    assert repr(again) == repr(value)
    assert specs.structure(again) == specs.structure(value)


@given(anything)
def test_settled_axes_leave_the_structure_and_the_other_numbers(value: Spec):
    found = specs.axes(value)
    settled = specs.settle(value, {path: one.values[0] for path, one in found.items()})
    assert specs.axes(settled) == {}
    assert specs.structure(settled) == specs.structure(value)
    assert specs.settle(settled, {}) == settled
    if not found:
        assert settled == value


def test_values_of_another_family_or_kind_or_number_differ():
    one = Rule("sgd", {"lr": 0.1})
    assert one == Rule("sgd", {"lr": 0.1})
    others = [
        Rule("sgd", {"lr": 0.2}),
        Rule("adam", {"lr": 0.1}),
        Rule("sgd", {"lr": 0.1}, {"a": 1}),
        Loss("sgd", {"lr": 0.1}),
    ]
    assert all(one != other for other in others)


def test_numbers_are_found_and_replaced_by_path():
    chained = rules.chain(rules.clip_norm(1.0), rules.sgd(lr=schedules.cosine(0.1, 10)))
    assert list(dict(specs.flatten(chained))) == ["0.max_norm", "1.lr"]
    changed = chained.replace(**{"0.max_norm": 2.0})
    assert dict(specs.flatten(changed))["0.max_norm"] == 2.0
    assert dict(specs.flatten(chained))["0.max_norm"] == 1.0
    with pytest.raises(NotFound, match=r"^chain has no number '0.max_nrom'; did you mean '0.max_norm'\?$"):
        chained.replace(**{"0.max_nrom": 2.0})


def test_a_schedule_with_an_axis_is_settled_by_its_path():
    rule = rules.sgd(lr=schedules.cosine(axis(0.1, 1.0), 10))
    assert specs.axes(rule) == {"lr.start": axis(0.1, 1)}
    assert specs.settle(rule, {"lr.start": 1.0}) == rules.sgd(lr=schedules.cosine(1.0, 10))


def test_losses_add_and_scale():
    both = losses.mse + 0.5 * losses.mae + 2 * losses.mse
    assert repr(both) == "sum(mse(), scaled(mae(), weight=0.5), scaled(mse(), weight=2))"
    assert specs.axes(losses.mse * axis(0.1, 1)) == {"weight": axis(0.1, 1)}
    with pytest.raises(BadValue, match=r"^a loss adds to a loss, got 3$"):
        losses.mse + 3
    for weight in ("2", True, None):
        with pytest.raises(
            BadValue, match=f"^a loss scales by a finite number, a schedule or an axis, got {weight!r}$"
        ):
            losses.mse * weight


# --- axes -------------------------------------------------------------------------------------------------


def test_an_axis_prints_as_it_is_made():
    assert repr(axis(0.001, 1e-7, 12345678.0)) == "axis(0.001, 1e-07, 1.23457e+07)"
    assert axis(1, 2).values == (1.0, 2.0)
    assert axis(-1, 0, log=False).values == (-1.0, 0.0)


@given(st.floats(1e-6, 1), st.floats(1.1, 1e6), st.integers(2, 12))
def test_a_logarithmic_axis_holds_both_ends_and_increases(low: float, ratio: float, points: int):
    found = log_axis(low, low * ratio, points).values
    assert len(found) == points
    assert found[0] == pytest.approx(low, rel=1e-5)
    assert found[-1] == pytest.approx(low * ratio, rel=1e-5)
    assert list(found) == sorted(found)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: axis(), "^an axis needs at least one value, got none$"),
        (lambda: axis(1.0, math.nan), r"^the values of an axis must be finite numbers, got \(1.0, nan\)$"),
        (lambda: axis(0.1, 0.0), "^a logarithmic axis needs values above 0, got 0: pass log=False$"),
        (
            lambda: log_axis(1, 0.1, 3),
            "^log_axis needs 0 < low < high and at least 2 points, got low=1, high=0.1, points=3$",
        ),
        (
            lambda: log_axis(0.1, 1, 1),
            "^log_axis needs 0 < low < high and at least 2 points, got low=0.1, high=1, points=1$",
        ),
    ],
)
def test_an_axis_that_cannot_be_is_refused(make: Any, told: str):
    with pytest.raises(BadValue, match=told):
        make()


# --- kinds ------------------------------------------------------------------------------------------------


def test_a_kind_that_nobody_registered_is_refused():
    with pytest.raises(NotFound, match=r"^no rule is called 'adm'; did you mean 'adam'\?$"):
        specs.behavior(Rule("adm"))
    with pytest.raises(NotFound, match=r"^no rule is called 'json:dumps'; "):
        specs.behavior(Rule("json:dumps"))


CUSTOM = """
from fallline import rules, specs

specs.register(specs.Rule, "my_kinds:halved", rules.base.behavior(rules.sgd()))
"""


def test_a_kind_of_a_module_of_ones_own_is_found_again(tmp_path: Path):
    """In a new process, from plain data alone."""
    (tmp_path / "my_kinds.py").write_text(CUSTOM)
    program = (
        "from fallline import specs\nprint(specs.behavior(specs.rebuild({'rule': 'my_kinds:halved'})).named)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


# --- plain data -------------------------------------------------------------------------------------------


def test_infinities_survive_and_what_is_not_data_is_refused():
    data = specs.plain({"low": -math.inf, "names": ("a", 1), "rule": rules.sgd(lr=0.1)})
    assert data == {"low": "-inf", "names": ["a", 1], "rule": {"rule": "sgd", "numbers": {"lr": 0.1}}}
    assert specs.rebuild(["inf", "-inf"]) == (math.inf, -math.inf)
    with pytest.raises(
        BadValue, match="is not plain data: only names, numbers, lists and specs can be stored"
    ):
        specs.plain({"model": object()})


def test_a_run_and_a_study_come_back():
    run = Run(
        rules.sgd(lr=schedules.cosine(0.1, 5)), 3, {"1.weight": 0.5}, {"arm": "sgd", "settings": {"lr": 0.1}}
    )
    assert Run.rebuild(json.loads(json.dumps(run.plain()))) == run
    study = Study("compare", ("digits",), ({"label": "sgd", "rule": specs.plain(run.rule)},), {"steps": 3})
    assert json.loads(json.dumps(study.plain()))["arms"] == [{"label": "sgd", "rule": specs.plain(run.rule)}]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Run("adam"), r"^a run needs a rule such as fl.rules.adam\(lr=1e-3\), got 'adam'$"),  # type: ignore[arg-type]
        (lambda: Run(rules.sgd(), seed=-1), r"^a seed is a whole number from 0 to 2\*\*62 - 1, got -1$"),
        (
            lambda: Run(rules.sgd(), seed=2**62),
            r"^a seed is a whole number from 0 to 2\*\*62 - 1, got 4611686018427387904$",
        ),
        (lambda: Run(rules.sgd(), seed=0.5), r"^a seed is a whole number from 0 to 2\*\*62 - 1, got 0.5$"),  # type: ignore[arg-type]
        (
            lambda: Run(rules.sgd(lr=axis(0.1, 1))),
            r"^lr=axis\(0.1, 1\) is an axis of a fleet: make one run for each of its values$",
        ),
    ],
)
def test_a_run_that_cannot_be_is_refused(make: Any, told: str):
    with pytest.raises(BadValue, match=told):
        make()


# --- domains ----------------------------------------------------------------------------------------------

SIZE = Domain("the size of a thing, in meters", low=0.0, open_low=True)
SHARE = Domain("a share", low=0.0, high=1.0, open_high=True)


def test_a_domain_says_what_it_holds():
    assert (str(SIZE), str(SHARE), str(Domain("x", low=2))) == ("above 0", "in [0, 1)", "at least 2")
    assert 0 not in SIZE
    assert 1e-300 in SIZE
    assert 0 in SHARE
    assert 1 not in SHARE


@pytest.mark.parametrize("fine", [0.5, 1e-9, axis(0.1, 0.9), schedules.constant(7.0), 0.25])
def test_a_number_in_its_domain_passes(fine: Any):
    SHARE.check("thing", "share", fine)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (1, r"^thing\(share=1\): share is a share and must be in \[0, 1\); got 1$"),
        (-0.5, r"^thing\(share=-0.5\): share is a share and must be in \[0, 1\); got -0.5$"),
        (
            math.nan,
            r"^thing\(share=nan\): share is a share and must be a finite number in \[0, 1\); got nan$",
        ),
        (axis(0.5, 2), r"^thing\(share=2\): share is a share and must be in \[0, 1\); got 2$"),
        ("half", r"^thing\(share='half'\): share is a share, a number in \[0, 1\); got a str$"),
        (None, r"^thing\(share=None\): share is a share, a number in \[0, 1\); got nothing$"),
        (True, r"^thing\(share=True\): share is a share, a number in \[0, 1\); got a bool$"),
    ],
)
def test_a_number_outside_of_its_domain_is_refused_with_its_meaning(wrong: Any, told: str):
    with pytest.raises(BadValue, match=told):
        SHARE.check("thing", "share", wrong)


def test_no_hyperparameter_is_infinite():
    with pytest.raises(BadValue, match=r"must be a finite number above 0; got inf$"):
        SIZE.check("thing", "size", math.inf)


def test_numbers_that_are_put_in_place_are_looked_at_as_those_given_at_first():
    chain = rules.chain(rules.clip_norm(1.0), rules.adam(lr=0.1))
    assert chain.replace(**{"1.lr": 0.2, "0.max_norm": 3.0}) == rules.chain(
        rules.clip_norm(3.0), rules.adam(lr=0.2)
    )
    for path, wrong in (
        ("1.lr", math.nan),
        ("1.lr", -1.0),
        ("1.beta1", 1.5),
        ("0.max_norm", 0.0),
        ("1.lr", "big"),
    ):
        with pytest.raises(BadValue, match=path[2:]):
            chain.replace(**{path: wrong})


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf])
def test_a_loss_scales_by_finite_numbers(weight: float):
    with pytest.raises(
        BadValue, match=r"^a loss scales by a finite number, a schedule or an axis, got -?(nan|inf)$"
    ):
        losses.mse * weight


def test_losses_are_summed_as_python_sums():
    assert sum([losses.mse, losses.mae]) == losses.mse + losses.mae
    assert sum([losses.mse]) == losses.mse
    for other in (1, 0.0, False, "mse"):
        with pytest.raises(BadValue, match=r"^a loss adds to a loss, got "):
            other + losses.mse
