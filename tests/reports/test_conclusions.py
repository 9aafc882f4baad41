"""The sentences above the figures, from made-up views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fallline.records import Series
from fallline.reports.comparison.curves import curves
from fallline.reports.comparison.ends import bulk, padded
from fallline.reports.comparison.measured import band
from fallline.reports.comparison.ranking import conclusion, ranking
from fallline.reports.comparison.rates import rates, spoken
from fallline.reports.comparison.speed import speed
from fallline.reports.comparison.view import Arm, Difference, Estimate, Rates, View, Working, read

NOT_SIGNIFICANT = {"value": 1.0, "low": -1.0, "high": 3.0, "p": 0.5, "p_holm": 1.0, "significant": False}


def arm(label: str, value: float, rank: int | None = 1, half: float = 0.01, **given: Any) -> Arm:
    return Arm(label, 0, rank, score=Estimate(value, value - half, value + half), **given)


def view(*arms: Arm, **given: Any) -> View:
    return View(("digits",), "accuracy", arms, **given)


def tied(measure: str) -> tuple[Difference, ...]:
    return (Difference(measure, "", "a", "b", **NOT_SIGNIFICANT),)


# --- ranking ----------------------------------------------------------------------------------------------


def test_all_tie():
    assert (
        conclusion(view(*(arm(n, 0.9) for n in "abcde")))
        == "All five arms tie on accuracy: every interval overlaps"
    )


def test_a_tie_of_intervals_that_do_not_all_overlap():
    found = conclusion(view(arm("a", 0.9), arm("b", 0.8), arm("c", 0.85)))
    assert found == "All three arms tie on accuracy: no difference is significant"


def test_one_is_ahead_of_all():
    found = conclusion(view(arm("a", 0.9), arm("b", 0.8, 2), arm("c", 0.7, 3)))
    assert found == "a has the best accuracy, 0.900 [0.890, 0.910], significantly ahead of b and c"


def test_one_leads_but_ties_with_some():
    found = conclusion(view(arm("a", 0.9, tied_with=("b",)), arm("b", 0.8, 2), arm("c", 0.7, 3)))
    assert found == "a has the best accuracy, 0.900 [0.890, 0.910], significantly ahead of c only"


def test_several_lead():
    found = conclusion(view(arm("a", 0.9), arm("b", 0.9), arm("c", 0.7, 3), arm("d", np.nan, 4)))
    assert found == "a and b tie for the best accuracy; c falls behind; d diverged"


def test_those_that_finished_tie():
    found = conclusion(view(arm("a", 0.9), arm("b", 0.9), arm("c", np.nan, 3)))
    assert found == "Both arms that finished tie on accuracy: every interval overlaps; c diverged"


def test_no_ranking_without_scores():
    assert ranking(view(arm("a", np.nan))) is None


def test_one_arm_is_not_held_against_others():
    made = ranking(view(arm("a", 0.9)))
    assert made is not None
    assert "overlap" not in made.caption
    assert all(mark.shape != "vspan" for mark in made.panels[0].marks)


# --- learning rates ---------------------------------------------------------------------------------------


def searched(scores: list[float], lost: list[int] | None = None, name: str = "lr") -> Rates:
    values, s = np.logspace(-3, 0, len(scores)), np.array(scores, dtype=float)
    diverged = np.array(lost or [0] * len(scores), dtype=float)
    return Rates(values, s, s - 0.01, s + 0.01, diverged, np.full(len(scores), 3.0), name)


def test_working_ranges_are_named_widest_first():
    wide, narrow = Working(0.001, 0.1, 2.0, open_high=True), Working(0.01, 0.08, 0.9)
    arms = [
        arm(n, 0.9, rates=searched([0.5, 0.9, 0.9, 0.5]), working=w)
        for n, w in (("a", narrow), ("b", wide), ("c", None))
    ]
    made = rates(view(*arms, target=0.8))
    assert (
        made[0].title
        == "b works over at least 2.0 decades of learning rate, a over 0.9; c reaches the target nowhere"
    )
    assert spoken(wide) == "at least 2.0 decades, 0.001 to 0.1"
    assert spoken(None) == "no setting reaches the target"
    assert {"right"} == {mark.shape for mark in made[0].panels[0].marks} & {"left", "right"}


def test_working_ranges_that_tie_say_so():
    arms = [
        arm(n, 0.9, rates=searched([0.9] * 4), working=Working(0.001, 0.1, d))
        for n, d in (("a", 2.0), ("b", 1.9))
    ]
    made = rates(view(*arms, target=0.8, differences=tied("working range")))
    assert made[0].title.endswith("b over 1.9: no difference is significant")


def test_what_a_wrong_rate_costs():
    made = rates(view(arm("a", 0.9, rates=searched([0.5, 0.9, 0.8, 0.1]))))
    assert made[-1].title == "A learning rate ten times off costs a 0.40 of accuracy"
    lost = searched([0.5, 0.9, np.nan, np.nan], [0, 0, 3, 3])
    made = rates(view(arm("a", 0.9, rates=lost)))
    assert made[-1].title == "A learning rate ten times off makes a diverge"


def test_costs_count_downward_where_lower_is_better():
    made = rates(view(arm("a", 0.9, rates=searched([0.9, 0.2, 0.5, 0.7])), better="lower"))
    assert made[-1].title == "A learning rate ten times off costs a 0.70 of accuracy"


def test_nothing_is_said_where_nothing_finished():
    made = rates(view(arm("a", 0.9, rates=searched([np.nan] * 3, [3] * 3))))
    assert made[-1].title == "Validation accuracy at each learning rate that was searched"
    assert [mark.role for mark in made[-1].panels[0].marks if mark.shape == "crosses"] == ["main"]


def test_arms_may_search_different_numbers():
    made = rates(
        view(
            arm("a", 0.9, rates=searched([0.9] * 3)), arm("b", 0.9, rates=searched([0.9] * 3, name="weight"))
        )
    )
    assert made[-1].panels[0].x.label == "value searched, log scale"


# --- time to target ---------------------------------------------------------------------------------------


def test_the_first_and_the_last_to_the_target():
    arms = (
        arm("a", 0.9, steps=120.0, seconds=2.0, reached=(3, 3)),
        arm("b", 0.9, steps=340.0),
        arm("c", 0.9, reached=(0, 3)),
    )
    made = speed(view(*arms, target=0.8))
    assert made is not None
    assert made.title == "a reaches a validation accuracy of 0.8 in 120 steps, b in 340; c does not reach it"
    assert [panel.x.label for panel in made.panels] == ["steps to target", "time to target (s)"]
    assert "c not reached (0 of 3)" in made.panels[0].alt
    assert made.caption.startswith("Target: validation accuracy 0.800. ")


def test_steps_that_tie_say_so():
    made = speed(
        view(arm("a", 0.9, steps=120.0), arm("b", 0.9, steps=340.0), differences=tied("steps to target"))
    )
    assert made is not None
    assert made.title == "The steps to target tie, from 120 (a) to 340 (b): no difference is significant"


def test_no_target():
    assert speed(view(arm("a", 0.9))) is None
    assert view(target_sentence="no target: no run finished").target_words == "No target: no run finished."


# --- learning curves --------------------------------------------------------------------------------------


def series(*values: float) -> Series:
    return Series(np.arange(len(values)), np.array(values))


def test_a_band_is_over_the_runs_that_are_still_finite():
    made = band([series(1.0, 2.0, 3.0), series(3.0, np.inf), series(5.0, 4.0, np.nan)])
    assert made is not None
    assert made.middle.tolist() == [3.0, 3.0, 3.0]
    assert made.runs == 3
    assert band([]) is None
    assert band([series(np.nan)]) is None


def test_curves_that_rise_again_are_named():
    found = {
        n: {"validation_loss": made}
        for n, made in (("a", band([series(2, 1, 1)])), ("b", band([series(2, 1, 1.5)])))
        if made
    }
    made = curves(view(arm("a", 0.9), arm("b", 0.9)), found)
    assert (
        made[0].title == "The median validation loss ends between 1.00 (a) and 1.50 (b); it rises again for b"
    )


def test_a_curve_that_blows_up_does_not_press_the_others_flat():
    found = {
        n: {"validation_loss": made}
        for n, made in (("a", band([series(2, 1, 1)])), ("b", band([series(2, 1e9)])))
        if made
    }
    y = curves(view(arm("a", 0.9), arm("b", 0.9)), found)[0].panels[0].y
    assert y is not None
    assert y.high is not None
    assert y.log
    assert y.high < 10


@pytest.mark.parametrize("values", [(0.0, -1.0, -2.0), (0.0, 0.0, 0.0)])
def test_losses_that_are_not_positive_are_drawn_on_a_linear_scale(values: tuple[float, ...]):
    made = band([series(*values)])
    assert made is not None
    y = curves(view(arm("a", 0.9)), {"a": {"validation_loss": made}})[0].panels[0].y
    assert y is not None
    assert not y.log


def test_no_curves():
    assert curves(view(arm("a", 0.9)), {}) == []


# --- axes and reading -------------------------------------------------------------------------------------


def test_ends_of_axes():
    assert padded(np.array([np.nan])) == (0.0, 1.0)
    assert padded(np.array([2.0, 2.0])) == (1.9, 2.1)
    assert bulk(np.array([0.0, 1.0])) == (-0.04, 1.04)
    low, high = bulk(np.array([-1e9, *np.linspace(0.5, 0.9, 20)]))
    assert -1 < low < 0.5
    assert 0.9 < high < 1.5


def test_a_result_is_read_as_far_as_it_goes():
    found = read(
        {
            "ranking": [
                {"arm": "a", "score": None, "seeds": [None, 0.5], "reached": [1], "rates": {"values": []}}
            ]
        }
    )
    assert (found.metric, found.better, found.level, found.replicates) == ("score", "higher", 0.95, 2)
    assert not found.arms[0].score.known
    assert found.arms[0].reached is None
    assert found.arms[0].rates is None
    assert read({}).replicates is None
