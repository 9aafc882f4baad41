"""Learning rates: the closed forms of the edge of stability, what is read from curves, and models left untouched."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import fallline as fl
from fallline import rules, schedules, tasks
from fallline.errors import BadRule, BadTask, BadValue
from fallline.studies.find_lr import Curve, edge, judged, ladder, with_rate, working
from fallline.tasks import Metric, Task, Variables

ONCE = {"workers": 0, "executor": "traced", "progress": False}


def quadratic(largest, ratios=(1.0, 0.3, 0.02)):
    """½ Σ λᵢ wᵢ², whose largest curvature is known, in float64."""
    curvature = largest * torch.tensor(ratios, dtype=torch.float64)

    def init(seed):
        return Variables(
            {"w": 1 + torch.rand(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)}, {}
        )

    def value(p):
        return 0.5 * (curvature * p["w"] ** 2).sum()

    def score(p, b, batch, h):
        return {"loss": value(p), "score": value(p)}

    return Task("quadratic", init, lambda p, b, batch, h: (value(p), b), score, {}, Metric("loss", "lower"))


@pytest.mark.parametrize("largest", [1e-4, 0.07, 1.0, 7.3, 50.0, 3e5])
@pytest.mark.parametrize(
    ("rule", "edge_of"),
    [
        (rules.sgd(), 2.0),
        (rules.momentum(beta=0.5), 2 * 1.5),
        (rules.momentum(beta=0.9), 2 * 1.9),
        (rules.nesterov(beta=0.9), 2 * 1.9 / 2.8),
        (rules.chain(rules.add_decay(0.0), rules.descend(0.1)), 2.0),
    ],
)
def test_the_edge_of_a_quadratic_is_its_closed_form_within_the_spacing(largest, rule, edge_of):
    """w ← (1 − lr · λ) w grows from lr = 2/λ on; with heavy ball from 2 (1 + β) / λ on, with Nesterov's look-ahead
    from 2 (1 + β) / (1 + 2 β) / λ on. The ladder is continued where that lies beyond its ends."""
    found = fl.find_lr(quadratic(largest), rule, seeds=2, **ONCE)
    spacing = found.document["rates"][1] / found.document["rates"][0]
    assert found.edge / spacing <= edge_of / largest <= found.edge * spacing
    known = found.document["edge"]
    assert known["low"] / spacing <= edge_of / largest <= known["high"] * (1 + 1e-3)
    assert found.suggestion <= found.edge / 2 * (1 + 1e-9)
    low, high = found.range
    assert low < high <= found.edge


# --- what is read from curves -------------------------------------------------------------------------------


def curve(*ends, start=1.0):
    rates = 10.0 ** np.arange(len(ends[0]))
    return Curve(rates, np.full(len(ends), start), np.array(ends, dtype=float).T)


def test_the_edge_is_the_last_stable_rate_above_the_best_one():
    assert edge(curve([0.9, 0.1, 0.8, 1.5, math.inf]), 0) == 2
    assert edge(curve([1.1, 0.1, 1.0, 1.5, 0.9]), 0) == 2  # an island above, and noise below
    assert edge(curve([0.9, 0.5, 0.2]), 0) == 2
    assert edge(curve([1.2, 1.5, math.inf]), 0) == -1


def test_the_range_is_what_is_around_the_best_rate():
    assert working(curve([1.0, 0.15, 0.1, 0.5, 0.1]), 0) == (1, 2)
    assert working(curve([1.0, 1.0, 1.2]), 0) is None


def test_intervals_are_over_seeds_and_on_a_logarithmic_scale():
    known = judged(
        curve([0.9, 0.1, 0.8, 2.0, 2.0, 2.0], [0.9, 0.1, 0.8, 0.8, 2.0, 2.0], [0.9, 0.1, 0.9, 0.8, 0.9, 2.0])
    )
    assert known.edge.value == pytest.approx(1000.0)
    half = 4.302652729911275 / math.sqrt(3)
    assert known.edge.low == pytest.approx(10 ** (3 - half))
    assert known.edge.high == pytest.approx(10 ** (3 + half + 1))  # up to the next rate of the ladder
    assert known.edge.n == 3
    assert (known.low.value, known.low.low, known.low.high) == pytest.approx((10.0, 10.0, 10.0))
    assert known.suggestion == 10.0


def test_a_rate_that_diverged_for_one_seed_is_not_suggested():
    known = judged(curve([0.9, 0.5, 0.01, 2.0], [0.9, 0.5, math.inf, 2.0]))
    assert known.suggestion == 5.0
    assert "half of the lowest edge of stability among the seeds" in known.reason


def test_without_an_edge_or_without_a_rate_that_works_it_says_so():
    open_ended = judged(curve([0.9, 0.5, 0.2]))
    assert open_ended.edge.value is None
    assert open_ended.suggestion == 100.0
    nothing = judged(curve([1.1, 1.2, 1.3]))
    assert nothing.suggestion is None
    assert "no rate on the ladder ends below where it began" in nothing.reason


def test_ladders_have_equal_ratios():
    assert ladder(0.5, 4.0, 4).tolist() == pytest.approx([0.5, 1.0, 2.0, 4.0])


# --- asking -------------------------------------------------------------------------------------------------


def test_a_model_is_untouched_and_every_run_starts_from_its_weights():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
    before = {name: t.clone() for name, t in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    random = np.random.default_rng(0)
    X = random.normal(size=(80, 4)).astype(np.float32)
    state = torch.get_rng_state()
    found = fl.find_lr(
        model,
        "sgd",
        train=(X, X.sum(1, keepdims=True)),
        loss=fl.losses.mse,
        steps=10,
        points=6,
        seeds=3,
        **ONCE,
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    assert len(set(found.document["loss_at_start"])) == 1
    assert len({tuple(row) for row in found.document["losses"]}) > 1


def test_each_rate_is_the_run_that_it_would_be_alone():
    task = tasks.iris()
    found = fl.find_lr(task, "sgd", steps=12, points=3, seeds=2, low=0.01, high=1.0, **ONCE)
    for i, rate in enumerate(found.document["rates"]):
        (record,) = fl.fleet.run(
            task, [fl.Run(rules.sgd(lr=rate), seed=1)], steps=12, workers=0, executor="traced"
        )
        assert record.series["validation_loss"].values[-1] == found.document["losses"][i][1]
        assert record.series["validation_loss"].values[0] == found.document["loss_at_start"][1]


def test_rates_of_one_rule_keep_their_ratios():
    rule = rules.route(
        {"w": rules.sgd(lr=0.1)}, otherwise=rules.chain(rules.descend(0.02), rules.shrink(0.02, 0.5))
    )
    moved = dict(fl.rules.base.specs.flatten(with_rate(rule, 1.0)))
    assert moved == pytest.approx({"0.lr": 1.0, "1.0.lr": 0.2, "1.1.lr": 0.2, "1.1.weight_decay": 0.5})


def test_an_end_that_was_asked_for_is_kept():
    found = fl.find_lr(quadratic(1.0), "sgd", low=1e-3, high=0.5, points=4, steps=10, seeds=2, **ONCE)
    assert found.document["rates"][-1] == pytest.approx(0.5)
    assert found.edge is None
    assert "edge:       not between 0.001 and 0.5" in str(found)


def test_it_prints_and_shows_itself():
    found = fl.find_lr(quadratic(1.0), "sgd", steps=20, points=8, seeds=1, **ONCE)
    text = str(found)
    for part in (
        "sgd(lr=",
        "on quadratic: 8 learning rates × 1 seed, 20 steps each",
        "works: ",
        "edge: ",
        "suggestion: ",
        "n = 1",
    ):
        assert part in text
    shown = found._repr_html_()
    assert "<svg" in shown
    assert "learning rate" in shown


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: fl.find_lr("iris", points=2), BadValue, r"find_lr\(points=2\): points must be a whole number of at least 3"),
        (lambda: fl.find_lr("iris", seeds=True), BadValue, r"find_lr\(seeds=True\): seeds must be a whole number of at least 1"),
        (lambda: fl.find_lr("iris", low=1.0, high=0.1), BadValue, "a ladder of learning rates needs 0 < low < high, got low=1.0 and high=0.1"),
        (lambda: fl.find_lr("iris", level=2), BadValue, "level is the share of intervals"),
        (lambda: fl.find_lr("iris", rules.clip_value(1.0)), BadRule, "has no learning rate above 0 that is called lr, so there is none to find"),
        (lambda: fl.find_lr("iris", rules.sgd(schedules.cosine(0.1, 10))), BadRule, r"lr=cosine.* is not one learning rate: give the rule a number"),
        (lambda: fl.find_lr(nn.Linear(2, 1)), BadTask, "a Linear alone cannot be trained: give its data and its loss"),
        (lambda: fl.find_lr("iris", loss=fl.losses.mse), BadTask, "train and loss go with a module; a task has its own"),
        (lambda: fl.find_lr(3), BadTask, "find_lr takes a task such as .*, a name or a module, got a int"),
        (lambda: fl.find_lr(quadratic(math.nan), **ONCE), BadValue, "the loss of quadratic is not finite before the first step, so no learning rate"),
    ],
)  # fmt: skip
def test_a_wrong_call_teaches(call, error, said):
    with pytest.raises(error, match=said):
        call()
