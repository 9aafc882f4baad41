"""``fl.compare``: arms whose order is known by hand, arms that diverge, arms that are the same."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import fallline as fl
from fallline import registry, specs
from fallline.errors import BadRule, BadTask, BadValue
from fallline.records import Record
from fallline.store import Store
from fallline.verbs.compare import Comparison

from .conftest import Compare
from .toys import bowl, line


def rows(found: Comparison) -> dict[str, dict[str, Any]]:
    return {row["arm"]: row for row in found.ranking}


def pairs(found: Comparison, measure: str) -> list[dict[str, Any]]:
    return [pair for pair in found.document["comparisons"] if pair["measure"] == measure]


def records(found: Comparison, stage: str | None = None) -> list[Record]:
    with Store.open(found.store) as store:
        return list(store.records(stage=stage))


# --- what comes back --------------------------------------------------------------------------------------


class Balanced(HTMLParser):
    """Refuses HTML with tags that do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_answer_shows_itself(compare: Compare, tmp_path: Path):
    found = compare(bowl(name="<bowl>"), ["sgd(lr=0.5)", fl.rules.sgd(lr=1e-4)], out=tmp_path / "here")
    assert found.store == tmp_path / "here" / "study.db"
    assert found.report == tmp_path / "here" / "report.html"
    assert "<svg" in found.report.read_text(encoding="utf-8")
    assert found.document["tasks"] == ["<bowl>"]
    assert found.worse is False
    assert found.verdict in str(found)
    assert all(arm in str(found) for arm in rows(found))
    page = found._repr_html_()
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "&lt;bowl&gt;" in page or "bowl" not in found.verdict
    assert "<bowl>" not in page
    assert "sgd(lr=0.5)" in page
    with Store.open(found.store) as store:
        assert store.result == found.document


def test_without_a_folder_each_comparison_makes_its_own(
    compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    first, second = (compare(bowl(), ["sgd(lr=0.5)"], replicates=2, out=None) for _ in range(2))
    assert first.store != second.store
    assert first.store.parent.parent == second.store.parent.parent == Path("fallline-out")
    assert first.document["ranking"][0]["seeds"] == second.document["ranking"][0]["seeds"]


def test_rules_may_be_names_texts_values_and_functions(compare: Compare):
    given = [
        "sgd",
        "momentum(lr=0.1)",
        fl.rules.nesterov,
        fl.rules.adam(lr=0.1),
        fl.rules.rmsprop(lr=fl.axis(0.01, 0.1)),
    ]
    found = rows(compare(bowl(), given, replicates=2))
    assert sorted(found) == ["adam", "momentum", "nesterov", "rmsprop", "sgd"]
    tried = {arm: None if row["rates"] is None else len(row["rates"]["values"]) for arm, row in found.items()}
    assert (tried["momentum"], tried["adam"]) == (None, None)
    assert tried["rmsprop"] >= 2
    assert tried["sgd"] == tried["nesterov"] >= 3
    assert found["adam"]["settings"] == {"lr": 0.1, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}


def test_the_learning_rate_inside_a_schedule_can_be_tuned(compare: Compare):
    shaped = fl.rules.sgd(lr=fl.schedules.cosine(fl.axis(0.1, 1.0, 1.9), 20))
    (row,) = compare(bowl(), shaped, replicates=3).ranking
    assert row["settings"] == {"lr.start": 1.0}


def test_one_arm_has_nothing_to_be_compared_with(compare: Compare):
    found = compare(bowl(), "sgd(lr=0.5)")
    assert found.verdict.endswith("with one arm there is nothing to compare.")
    assert found.ranking[0]["tied_with"] == []
    assert found.document["comparisons"] == []


# --- the right answer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_a_clear_winner_is_called_one(compare: Compare, better: str):
    found = compare(bowl(better=better), ["sgd(lr=1e-4)", "sgd(lr=0.5)"])
    assert [(row["arm"], row["rank"]) for row in found.ranking] == [("sgd(lr=0.5)", 1), ("sgd(lr=0.0001)", 2)]
    assert found.document["better"] == better
    assert found.verdict.startswith("sgd(lr=0.5) is be")
    best, worst = found.ranking
    assert best["low"] <= best["score"] <= best["high"]
    (pair,) = pairs(found, found.document["metric"])
    gap = best["score"] - worst["score"]
    assert pair["difference"] == pytest.approx(gap if pair["a"] == best["arm"] else -gap)
    assert pair["low"] <= pair["difference"] <= pair["high"]
    assert (gap > 0) == (better == "higher")
    assert pair["winner"] == "sgd(lr=0.5)"
    assert pair["p"] == 2 / 2**10
    assert (best["tied_with"], worst["tied_with"]) == ([], [])
    assert any("nothing was tuned" in note for note in found.document["notes"])


def test_the_scores_are_those_of_the_closed_form(compare: Compare):
    (row,) = compare(bowl(), "sgd(lr=0.5)", steps=3, seeds=2, replicates=2).ranking
    for replicate, score in enumerate(row["seeds"]):
        fresh = [1000 * replicate + 500 + k for k in range(2)]
        far = [float(bowl().init(seed).params["w"].norm()) / 2**3 for seed in fresh]
        assert score == pytest.approx(sum(far) / 2, rel=1e-6)


def test_a_regression_is_judged_by_r2(compare: Compare):
    found = compare(line(), ["sgd(lr=0.1)", "sgd(lr=1e-4)"], steps=60)
    assert (found.document["metric"], found.document["better"]) == ("r2", "higher")
    assert found.ranking[0]["arm"] == "sgd(lr=0.1)"
    assert 0.98 < found.ranking[0]["score"] <= 1
    with Store.open(found.store) as store:
        one = next(store.records(arm="sgd(lr=0.1)", stage="final"))
    assert one.examples["test_score"].mean() == pytest.approx(one.outcome.numbers["test_score"], abs=1e-6)


def test_a_metric_that_is_the_loss_is_ranked_once(compare: Compare):
    found = compare(line("loss"), ["sgd(lr=0.1)", "sgd(lr=1e-4)"], steps=60)
    assert (found.document["metric"], found.document["better"]) == ("loss", "lower")
    assert "test loss" not in {pair["measure"] for pair in found.document["comparisons"]}
    assert found.ranking[0]["arm"] == "sgd(lr=0.1)"


def test_ranges_grow_toward_an_optimum_that_lies_outside(compare: Compare):
    """The best learning rate is 200, sgd begins with 0.01 … 10; every arm gets as many values more."""
    found = compare(bowl(curvature=1 / 200), ["sgd", "adam"], rates=9, replicates=3)
    grown = rows(found)
    tried = grown["sgd"]["rates"]["values"]
    assert max(tried) > 200 > min(tried)
    assert (
        len(tried)
        == len(grown["adam"]["rates"]["values"])
        == 9 + 2 * found.document["protocol"]["rounds_grown"]
    )
    nearest = min(tried, key=lambda lr: abs(1 - lr / 200))
    assert grown["sgd"]["settings"] == {"lr": nearest}
    assert grown["sgd"]["boundary"] is False
    assert any("range grew" in note for note in found.document["notes"])


def test_an_optimum_that_stays_out_of_reach_is_told(compare: Compare):
    found = compare(bowl(curvature=1e-5), ["sgd", "adam"], rates=9, replicates=2)
    assert rows(found)["sgd"]["boundary"] is True
    assert found.document["protocol"]["rounds_grown"] == 2
    assert any(note.startswith("sgd: the best lr sits at the edge") for note in found.document["notes"])


# --- divergence -------------------------------------------------------------------------------------------


def test_an_arm_that_diverges_everywhere_is_last(compare: Compare):
    found = compare(bowl(curvature=1e12), ["sgd", "adam"])
    assert [row["arm"] for row in found.ranking] == ["adam", "sgd"]
    last = found.ranking[-1]
    assert (last["rank"], last["score"], last["low"], last["settings"]) == (2, None, None, {})
    assert last["seeds"] == [None] * 10
    failed, of = last["diverged"]["tune"]
    assert failed == of == last["rates"]["of"][0] * len(last["rates"]["values"])
    assert last["diverged"]["final"] == [0, 0]
    assert f"diverged {failed} of {of}" in str(found)
    assert f"diverged {failed} of {of}" in found._repr_html_()
    sentence = next(record.outcome.sentence for record in records(found) if record.arm == "sgd")
    assert sentence.startswith("left the finite numbers at step ")


def test_some_settings_that_diverge_are_passed_over(compare: Compare):
    """From a learning rate of 2 on, gradient descent on the bowl diverges; in 400 steps it leaves float32."""
    (row,) = compare(bowl(), fl.rules.sgd(lr=fl.axis(0.5, 1.0, 3.0)), steps=400, replicates=2).ranking
    assert row["settings"] == {"lr": 1.0}
    assert row["rates"]["diverged"] == [0, 0, 2]
    assert row["rates"]["scores"][2] is None


def test_where_every_arm_diverges_the_verdict_says_so(compare: Compare):
    found = compare(bowl(curvature=1e12), ["sgd", "momentum"], replicates=2)
    assert found.verdict.startswith("No arm finished on bowl")
    assert [(row["score"], row["rank"]) for row in found.ranking] == [(None, None)] * 2
    assert found.document["target"]["score"] is None
    assert "diverged" in found.report.read_text(encoding="utf-8")


# --- ties -------------------------------------------------------------------------------------------------


@pytest.fixture
def same_rules(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Five names for gradient descent."""
    monkeypatch.setattr(registry, "_behaviors", dict(registry._behaviors))
    names = ["one", "two", "three", "four", "five"]
    for name in names:

        def body(lr: specs.Number = 0.01) -> specs.Rule:
            """Gradient descent by another name."""
            return fl.rules.descend(lr)

        body.__name__ = name
        fl.rules.recipe(search={"lr": (0.01, 1.0)}, lr=fl.rules.base.RATE)(body)
    return names


def test_identical_rules_tie_exactly(compare: Compare, same_rules: list[str]):
    found = compare(line(), same_rules, replicates=3)
    assert {row["rank"] for row in found.ranking} == {1}
    assert len({tuple(row["seeds"]) for row in found.ranking}) == 1
    assert all(set(row["tied_with"]) == set(same_rules) - {row["arm"]} for row in found.ranking)
    assert len(pairs(found, "r2")) == math.comb(len(same_rules), 2)
    for pair in found.document["comparisons"]:
        assert (pair["difference"], pair["low"], pair["high"]) == (0, 0, 0), pair["measure"]
        assert (pair["p"], pair["p_holm"], pair["significant"], pair["winner"]) == (1, 1, False, None)
    assert f"all {len(same_rules)} arms tie" in found.verdict


def test_runs_are_paired(compare: Compare):
    """In a replicate all arms share their seeds, so with one seed they start alike; replicates differ."""
    found = compare(line(), ["sgd(lr=0.1)", "adam(lr=0.1)", "momentum"], replicates=3, seeds=2)
    first: dict[tuple[int, int], set[float]] = {}
    arms: dict[tuple[int, int], set[str]] = {}
    for record in records(found, stage="final"):
        key = (record.run.tags["replicate"], record.run.seed)
        first.setdefault(key, set()).add(float(record.series["validation_loss"].values[0]))
        arms.setdefault(key, set()).add(record.arm)
    assert sorted(first) == [(r, 1000 * r + 500 + k) for r in range(3) for k in range(2)]
    assert all(len(starts) == 1 for starts in first.values())
    assert len(set.union(*first.values())) == len(first)
    assert all(len(there) == len(found.ranking) for there in arms.values())
    tuned = {(r.run.tags["replicate"], r.run.seed) for r in records(found, stage="tune")}
    assert tuned == {(r, 1000 * r + k) for r in range(3) for k in range(2)}


# --- options ----------------------------------------------------------------------------------------------


def test_a_single_tuning_says_what_it_holds_for(compare: Compare):
    rule = fl.rules.sgd(lr=fl.axis(0.5, 1.0, 1.5))
    whole = compare(bowl(), [rule, "adam(lr=0.1)"], replicates=4, seeds=2)
    once = compare(bowl(), [rule, "adam(lr=0.1)"], replicates=4, seeds=2, retune=False)
    assert whole.document["runs"] == 4 * (3 * 2 + 2) + 4 * 2
    assert once.document["runs"] == 3 * 2 + 4 * 2 + 4 * 2
    said = [note for note in once.document["notes"] if note.startswith("settings were tuned once")]
    assert len(said) == 1
    assert said[0] not in whole.document["notes"]
    assert rows(once)["sgd"]["rates"]["of"] == [2, 2, 2]


def test_a_target_can_be_asked_for(compare: Compare):
    """‖w‖ halves at each step, from about 2: the first of the evaluated steps at 0.25 or below is 3 or 4."""
    found = compare(bowl(), ["sgd(lr=0.5)", "sgd(lr=1e-4)"], target=0.25)
    assert found.document["target"]["score"] == 0.25
    assert 3 <= rows(found)["sgd(lr=0.5)"]["steps_to_target"] <= 4
    assert rows(found)["sgd(lr=0.5)"]["seconds_to_target"] > 0
    assert rows(found)["sgd(lr=0.0001)"]["steps_to_target"] is None
    assert rows(found)["sgd(lr=0.0001)"]["reached"] == [0, 10]


def test_a_target_that_nobody_reaches(compare: Compare):
    found = compare(bowl(), ["sgd(lr=0.5)", "sgd"], target=-1.0, replicates=3)
    assert all(row["steps_to_target"] is None and row["working_range"] is None for row in found.ranking)


def test_a_baseline_is_held_against(compare: Compare):
    good = compare(bowl(), "sgd(lr=0.5)")
    assert compare(bowl(), "sgd(lr=0.4)", baseline=good.store).worse is True
    assert compare(bowl(), "sgd(lr=0.6)", baseline=good.store.parent).worse is False
    assert (
        compare(bowl(), "adam(lr=1e-5)", baseline=good.store).worse is True
    )  # the only arm against the only one


def test_more_confidence_gives_wider_intervals(compare: Compare):
    usual, sure = (compare(bowl(), "sgd(lr=0.1)", level=level).ranking[0] for level in (0.8, 0.99))
    assert sure["low"] < usual["low"] < usual["score"] < usual["high"] < sure["high"]


def test_several_tasks_are_arms(compare: Compare):
    tasks = [bowl(1.0, "flat"), bowl(1.5, "steep")]
    found = compare(tasks, "sgd(lr=0.5)")
    assert [(row["arm"], row["task"], row["rank"]) for row in found.ranking] == [
        ("steep", "steep", 1),
        ("flat", "flat", 2),
    ]
    both = compare(tasks, ["sgd(lr=0.5)", "adam(lr=0.1)"], replicates=2)
    assert set(rows(both)) == {f"{task} / {rule}" for task in ("flat", "steep") for rule in ("sgd", "adam")}


# --- what cannot be compared --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "rules", "error", "told"),
    [
        ([], ["sgd"], BadTask, "a comparison needs at least one task, got none"),
        (3, ["sgd"], BadTask, r"a comparison takes tasks such as fl.tasks.digits\(\), got a int"),
        (
            [bowl(), bowl()],
            ["sgd"],
            BadTask,
            r"tasks need names that tell them apart, got \['bowl', 'bowl'\]: pass name=",
        ),
        ([bowl(), line()], ["sgd"], BadTask, "scored differently: bowl by distance, line by r2"),
        (bowl(), [], BadValue, "a comparison needs at least one rule, got none"),
        (bowl(), [3], BadRule, r"a rule is a name, or a value such as fl.rules.adam\(lr=1e-3\); got 3"),
        (
            bowl(),
            [fl.rules.clip_norm(1.0)],
            BadRule,
            "gives a direction uphill, not a step: end it with descend",
        ),
        (
            bowl(),
            [fl.rules.check_trains],
            BadRule,
            "a rule is a name, or a value such as .*; got <function check_trains",
        ),
        (
            bowl(),
            ["adam(lr=0.01)", "adam(lr=0.01, beta1=0.9)"],
            BadValue,
            r"the rule adam\(lr=0.01\) is given twice: give",
        ),
        (
            bowl(),
            fl.rules.adam(lr=fl.axis(0.1, 1), beta1=fl.axis(0.5, 0.9)),
            BadValue,
            r"adam has 2 axes \(lr, beta1\): a comparison tunes one number of each arm; fix the others",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(
    compare: Compare, tmp_path: Path, tasks: Any, rules: Any, error: type[Exception], told: str
):
    with pytest.raises(error, match=told):
        compare(tasks, rules)
    assert list(tmp_path.iterdir()) == []
