"""What stands around a rule: averages, lookahead, accumulation, schedule-free training; alone and in fleets."""

import copy

import numpy as np
import pytest
import torch

from fallline import optim, rules, schedules
from fallline.rules import reference

EVERY = (1, 2, 3, 5)


def wind(steps=17, seed=0):
    random = torch.Generator().manual_seed(seed)
    return [{"w": torch.randn(3, 2, generator=random, dtype=torch.float64)} for _ in range(steps)]


def start():
    return {"w": torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(3, 2)}


def path(rule, gradients, params=None):
    """The weights that are trained, and those to evaluate, after each step."""
    params, found = params or start(), []
    state = rules.init(rule, params)
    for gradient in gradients:
        step, state, _ = rules.update(rule, gradient, state, params)
        params = {name: p + step[name] for name, p in params.items()}
        found.append((params["w"], rules.view(rule, params, state)["w"]))
    return found


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("first", EVERY)
def test_equal_averages_follow_their_twin(first, every):
    rule = rules.average_equally(rules.momentum(lr=0.1), first=first, every=every)
    twins = reference.follow(rule, [start()["w"].numpy()], [[g["w"].numpy()] for g in wind()])
    for (trained, seen), (twin,) in zip(path(rule, wind()), twins, strict=True):
        np.testing.assert_allclose(seen, twin, rtol=1e-12)
        assert seen is not trained
    assert not torch.equal(seen, trained)


def test_equal_averages_are_those_of_torch():
    w = torch.nn.Parameter(start()["w"].clone())
    theirs = torch.optim.swa_utils.AveragedModel(torch.nn.ParameterList([w]))
    optimizer = torch.optim.SGD([w], lr=0.1)
    rule = rules.average_equally(rules.sgd(lr=0.1), first=4, every=2)
    for t, (gradient, (_, seen)) in enumerate(zip(wind(), path(rule, wind()), strict=True), start=1):
        w.grad = gradient["w"]
        optimizer.step()
        if t >= 4 and t % 2 == 0:
            theirs.update_parameters(torch.nn.ParameterList([w]))
            torch.testing.assert_close(seen, theirs.module[0].data, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("every", EVERY)
def test_lookahead_follows_its_twin_and_its_words(every):
    rule = rules.lookahead(rules.adam(lr=0.1), every=every, share=0.3)
    twins = reference.follow(rule, [start()["w"].numpy()], [[g["w"].numpy()] for g in wind()])
    for (trained, _), (twin,) in zip(path(rule, wind()), twins, strict=True):
        np.testing.assert_allclose(trained, twin, rtol=1e-12, atol=1e-12)
    whole = path(rules.lookahead(rules.adam(lr=0.1), every=every, share=1.0), wind())
    alone = path(rules.adam(lr=0.1), wind())
    torch.testing.assert_close(whole[-1][0], alone[-1][0], rtol=1e-12, atol=1e-12)


def test_lookahead_goes_back_with_rules_that_read_the_weights():
    """φ ← φ + share · (w − φ) by hand around AdamW, whose decay sees where it stands."""
    rule, inner = rules.lookahead(rules.adamw(lr=0.1), every=3, share=0.5), rules.adamw(lr=0.1)
    params = slow = start()
    state, found = rules.init(inner, params), path(rule, wind())
    for t, (gradient, (trained, _)) in enumerate(zip(wind(), found, strict=True), start=1):
        step, state, _ = rules.update(inner, gradient, state, params)
        params = {"w": params["w"] + step["w"]}
        if t % 3 == 0:
            params = slow = {"w": slow["w"] + 0.5 * (params["w"] - slow["w"])}
        torch.testing.assert_close(trained, params["w"], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize(
    "inner",
    [rules.adamw(lr=0.1), rules.average(rules.momentum(lr=0.1), 0.9), rules.prodigy(), rules.lion(lr=0.1)],
    ids=lambda rule: rule.kind,
)
def test_accumulated_gradients_are_one_step_for_their_mean(inner, every):
    gradients = wind(15)
    rule = rules.accumulate_gradients(inner, every)
    means = [
        {"w": torch.stack([g["w"] for g in gradients[i : i + every]]).sum(0) / every}
        for i in range(0, 15 - every + 1, every)
    ]
    found = path(rule, gradients)
    for i, (trained, seen) in enumerate(path(inner, means)):
        torch.testing.assert_close(found[(i + 1) * every - 1], (trained, seen), rtol=1e-12, atol=1e-12)
    for t, (trained, _) in enumerate(found[1:], start=2):
        assert torch.equal(trained, found[t - 2][0]) is (t % every != 0 and every > 1)


def test_numbers_of_steps_differ_from_run_to_run_in_a_fleet():
    every = torch.tensor([1.0, 2.0, 3.0, 5.0], dtype=torch.float64)
    for make in (
        lambda k: rules.accumulate_gradients(rules.adam(lr=0.1), k),
        lambda k: rules.lookahead(rules.adam(lr=0.1), k, 0.5),
        lambda k: rules.average_equally(rules.adam(lr=0.1), 2, k),
    ):
        rule = make(1)
        params = {"w": start()["w"].expand(4, 3, 2).clone()}
        h = {key: torch.full((4,), value, dtype=torch.float64) for key, value in rules.numbers(rule).items()}
        h["every"] = every
        state = torch.func.vmap(lambda p, n, rule=rule: rules.init(rule, p, n))(params, h)
        update = torch.func.vmap(lambda p, g, s, n, rule=rule: rules.update(rule, g, s, p, n))
        for gradient in wind():
            step, state, _ = update(params, {"w": gradient["w"].expand(4, 3, 2)}, state, h)
            params = {"w": params["w"] + step["w"]}
        seen = torch.func.vmap(lambda p, s, rule=rule: rules.view(rule, p, s))(params, state)["w"]
        for i, k in enumerate(EVERY):
            alone = path(make(k), wind())[-1]
            torch.testing.assert_close((params["w"][i], seen[i]), alone, rtol=1e-12, atol=1e-12)


def test_wrappers_nest():
    rule = rules.accumulate_gradients(
        rules.average(rules.lookahead(rules.schedule_free_sgd(lr=0.1), 2, 0.5), 0.9), 3
    )
    found = path(rule, wind())
    assert torch.equal(found[0][0], start()["w"])
    assert not torch.equal(found[-1][0], found[-1][1])


def test_groups_have_numbers_of_their_own_in_wrappers():
    rule = rules.schedule_free_sgd(lr=0.1, beta=0.5)
    a, b = (torch.nn.Parameter(start()["w"].clone()) for _ in range(2))
    optimizer = optim.Optimizer([{"params": [a]}, {"params": [b], "lr": 0.3, "beta": 0.9}], rule)
    for gradient in wind():
        a.grad = b.grad = gradient["w"]
        optimizer.step()
    for p, alone in ((a, rule), (b, rules.schedule_free_sgd(lr=0.3, beta=0.9))):
        torch.testing.assert_close(p.data, path(alone, wind())[-1][0], rtol=1e-12, atol=1e-12)


# --- schedule-free ----------------------------------------------------------------------------------------


def test_schedule_free_evaluates_the_average_and_trains_on():
    w = torch.nn.Parameter(start()["w"].clone())
    optimizer = optim.Optimizer([w], rules.schedule_free_adamw(lr=0.1))
    for gradient, (trained, seen) in zip(
        wind(), path(rules.schedule_free_adamw(lr=0.1), wind()), strict=True
    ):
        w.grad = gradient["w"]
        optimizer.step()
        torch.testing.assert_close(w.data, trained, rtol=1e-12, atol=1e-12)
        with optimizer.evaluating():
            torch.testing.assert_close(w.data, seen, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(w.data, trained, rtol=1e-12, atol=1e-12)


def test_schedule_free_starts_at_a_rate_of_zero():
    rule = rules.schedule_free_sgd(lr=0.0)
    (trained, seen), *_ = path(rule, wind())
    assert torch.equal(trained, start()["w"])
    assert torch.equal(seen, start()["w"])


def test_schedule_free_weighs_warm_up_by_the_square_of_its_rate():
    rule = rules.schedule_free_sgd(
        lr=schedules.joined(schedules.constant(0.0), schedules.constant(0.5), lengths=(2,))
    )
    w = torch.nn.Parameter(start()["w"].clone())
    optimizer = optim.Optimizer([w], rule)
    for gradient in wind(3):
        w.grad = gradient["w"]
        optimizer.step()
    with optimizer.evaluating():
        torch.testing.assert_close(w.data, start()["w"] - 0.5 * wind(3)[2]["w"], rtol=1e-12, atol=1e-12)


# --- random rounding --------------------------------------------------------------------------------------


def bfloat(value, n=20_000):
    return {"w": torch.full((n,), value, dtype=torch.bfloat16)}


def rounded_path(rule, params, gradient, steps):
    state = rules.init(rule, params)
    for _ in range(steps):
        step, state, _ = rules.update(rule, gradient, state, params)
        params = {name: p + step[name] for name, p in params.items()}
    return params["w"]


@pytest.mark.parametrize("value", [1.0, -3.0, 100.0])
def test_steps_that_rounding_to_the_nearest_loses_are_taken_on_average(value):
    """40 steps of 1/1000 of the weight: each is below half of the last place, 1/512 at best."""
    params, gradient = bfloat(value), bfloat(-value)
    plain = rounded_path(rules.sgd(lr=1e-3), params, gradient, 40)
    chance = rounded_path(rules.round_at_random(rules.sgd(lr=1e-3)), params, gradient, 40)
    assert torch.equal(plain, params["w"])
    expected = 1 + 40 * 1e-3
    spread = float((chance.double() / value).std())
    assert abs(float((chance.double() / value).mean()) - expected) < 5 * spread / 20_000**0.5
    assert spread > 0


def test_the_rounded_weight_is_a_neighbor_of_the_exact_one():
    random = torch.Generator().manual_seed(0)
    params = {"w": torch.randn(5000, generator=random).bfloat16()}
    gradient = {"w": torch.randn(5000, generator=random).bfloat16()}
    rule = rules.round_at_random(rules.sgd(lr=0.3))
    after = rounded_path(rule, params, gradient, 1)
    exact = params["w"].float() - 0.3 * gradient["w"].float()
    unit, coarse = (2.0 ** (torch.frexp(t).exponent - 8) for t in (exact, exact - params["w"].float()))
    mild = (exact - params["w"].float()).abs() <= 0.5 * params["w"].float().abs()
    assert ((after.float() - exact).abs()[mild] < unit[mild]).all()
    assert ((after.float() - exact).abs() <= 1.5 * unit + 0.5 * coarse).all()


def test_the_state_and_the_arithmetic_are_in_float32():
    params = {"w": torch.randn(50, generator=torch.Generator().manual_seed(0)).bfloat16()}
    state = rules.init(rules.round_at_random(rules.adam()), params)
    assert {str(t.dtype) for t in state.params["w"].values()} == {"torch.float32", "torch.float64"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wide_parameters_are_trained_as_they_would_be(dtype):
    gradients = [{"w": g["w"].to(dtype)} for g in wind()]
    first = {"w": start()["w"].to(dtype)}
    for a, b in zip(path(rules.round_at_random(rules.adam()), gradients, first), path(rules.adam(), gradients, first), strict=True):  # fmt: skip
        assert torch.equal(a[0], b[0])


def test_rounding_is_the_runs_own_the_same_in_any_fleet_and_after_a_resume():
    params, gradient, rule = (
        bfloat(1.0, 64),
        bfloat(0.01, 64),
        rules.round_at_random(rules.sgd(lr=0.1), seed=3),
    )
    assert torch.equal(rounded_path(rule, params, gradient, 20), rounded_path(rule, params, gradient, 20))
    other = rounded_path(rules.round_at_random(rules.sgd(lr=0.1), seed=4), params, gradient, 20)
    assert not torch.equal(rounded_path(rule, params, gradient, 20), other)

    h = {
        "seed": torch.tensor([4.0, 3.0], dtype=torch.float64),
        "0.lr": torch.full((2,), 0.1, dtype=torch.float64),
    }
    fleet = {"w": params["w"].expand(2, -1).clone()}
    state = torch.func.vmap(lambda p, n: rules.init(rule, p, n))(fleet, h)
    for _ in range(20):
        step, state, _ = torch.func.vmap(lambda p, g, s, n: rules.update(rule, g, s, p, n))(
            fleet, {"w": gradient["w"].expand(2, -1)}, state, h
        )
        fleet = {"w": fleet["w"] + step["w"]}
    assert torch.equal(fleet["w"][1], rounded_path(rule, params, gradient, 20))
    assert torch.equal(fleet["w"][0], other)

    w = torch.nn.Parameter(params["w"].clone())
    optimizer = optim.Optimizer([w], rule)
    for t in range(20):
        if t == 7:
            saved, v = copy.deepcopy(optimizer.state_dict()), torch.nn.Parameter(w.detach().clone())
            optimizer = optim.Optimizer([v], rule)
            optimizer.load_state_dict(saved)
            w = v
        w.grad = gradient["w"].clone()
        optimizer.step()
    assert torch.equal(w.data, rounded_path(rule, params, gradient, 20))


def test_what_is_not_finite_stays_so_in_rounding():
    params = {"w": torch.tensor([1.0, 1.0, 1.0]).bfloat16()}
    gradient = {"w": torch.tensor([torch.nan, torch.inf, 1.0]).bfloat16()}
    after = rounded_path(rules.round_at_random(rules.sgd(lr=1.0)), params, gradient, 1)
    assert after[0].isnan()
    assert after[1] == -torch.inf
    assert after[2] == 0


# --- centralization ---------------------------------------------------------------------------------------


def test_centralized_steps_leave_the_mean_of_each_output_alone():
    params = {"w": torch.randn(4, 3, 2, 2), "b": torch.randn(4)}
    gradient = {name: torch.randn_like(p) for name, p in params.items()}
    rule = rules.chain(rules.centralize(), rules.sgd(lr=1.0))
    step, _, _ = rules.update(rule, gradient, rules.init(rule, params), params)
    torch.testing.assert_close(step["w"].mean((1, 2, 3)), torch.zeros(4), atol=1e-6, rtol=0)
    assert torch.equal(step["b"], -gradient["b"])
