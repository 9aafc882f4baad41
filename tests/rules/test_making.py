"""Making rules: what is refused, what is declared, and what a rule sees."""

import dataclasses

import pytest
import torch

from fallline import rules, schedules, specs
from fallline.errors import BadRule, BadValue, NotFound
from fallline.rules.base import EITHER, RATE, UNIT, behavior
from fallline.rules.making import zeros
from fallline.specs import Rule


def step_of(rule, gradient, params=None, h=None):
    params = gradient if params is None else params
    return rules.update(rule, gradient, rules.init(rule, params, h), params, h)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: rules.adam(learning_rate=0.1), BadValue, r"^adam takes lr, beta1, beta2, eps, got 'learning_rate'; known: beta1"),
        (lambda: rules.adam(bta1=0.1), BadValue, r"got 'bta1'; did you mean 'beta1'\?"),
        (lambda: rules.adam(1, 2, 3, 4, 5), BadValue, r"adam takes lr, beta1, beta2, eps: too many positional arguments"),
        (lambda: rules.scale_by_rms(0.9), BadValue, r"scale_by_rms takes gamma, eps: missing a required argument: 'eps'"),
        (lambda: rules.identity(1), BadValue, r"identity takes no arguments"),
        (lambda: rules.adam(beta1=1.0), BadValue, r"adam\(beta1=1\): beta1 is a decay rate per step, .* must be in \[0, 1\); got 1"),
        (lambda: rules.sgd(lr=specs.axis(0.1, -0.1, log=False)), BadValue, r"sgd\(lr=-0.1\)"),
        (lambda: rules.average(0.9, 0.9), BadRule, r"average takes rules such as fl.rules.adam\(lr=1e-3\), got 0.9"),
        (lambda: rules.average(rules.clip_norm(1.0), 0.9), BadRule, r"clip_norm\(max_norm=1\) gives a direction uphill, not a step"),
        (lambda: rules.average(rules.sgd()), BadValue, r"average takes rule, decay: missing a required argument: 'decay'"),
        (lambda: rules.chain(), BadRule, r"a chain needs at least one rule, got none"),
        (lambda: rules.chain(rules.adam), BadRule, r"chain takes rules such as .*, got <function adam.*: call it, as in adam\(\)"),
        (lambda: rules.chain(rules.adam(), rules.sgd()), BadRule, r"sgd\(lr=0.01\) takes a gradient, but what comes before it already gives a step"),
        (lambda: rules.check_trains(rules.chain(rules.clip_norm(1.0), rules.shrink(0.1, 0.1))), BadRule, r"shrink.* takes a step, but a gradient comes in"),
        (lambda: rules.chain(rules.adamw(), rules.clip_norm(1.0)), BadRule, r"clip_norm.* cannot follow a rule that ends in a step of its own"),
        (lambda: rules.chain(rules.average(rules.sgd(), 0.9), rules.accumulate(0.9)), BadRule, r"accumulate.* cannot follow"),
        (lambda: rules.route({}), BadRule, r"route needs at least one pattern with its rule, got none"),
        (lambda: rules.route({"a": rules.clip_norm(1.0)}, otherwise=rules.sgd()), BadRule, r"must all give a step, or none"),
        (lambda: rules.update(Rule("adma"), {}, None, {}), NotFound, r"no rule is called 'adma'; did you mean 'adam'\?"),
        (lambda: rules.init(rules.sgd(lr=schedules.constant(0.1)), {}), BadRule, r"lr=constant\(value=0.1\) is not a fixed number: give its value at this step as h\['lr'\]"),
    ],
)  # fmt: skip
def test_a_wrong_call_teaches(call, error, said):
    with pytest.raises(error, match=said):
        call()


def test_a_signature_shows_what_a_rule_takes():
    import inspect

    assert list(inspect.signature(rules.scale_by_rms).parameters) == ["gamma", "eps"]
    assert list(inspect.signature(rules.average).parameters) == ["rule", "decay"]
    assert inspect.signature(rules.adam).parameters["beta2"].default == 0.999
    assert rules.average.__name__ == "average"
    assert "w̄" in rules.average.__doc__


def test_numbers_by_place_and_by_name_are_one():
    assert rules.average(rules.sgd(0.1), 0.9) == rules.average(rule=rules.sgd(lr=0.1), decay=0.9)
    assert rules.scale_by_rms(0.9, 1e-8) == rules.scale_by_rms(eps=1e-8, gamma=0.9)


def test_needs_and_flags_reach_through_recipes_chains_and_wrappers():
    @rules.per_tensor(discontinuous=True, elementwise=False, lr=RATE)
    def jumpy(g, s, p, h):
        return g.sign() * h.lr, {}

    known = behavior(jumpy(0.1))
    specs.register(Rule, "jumpy", dataclasses.replace(known, needs=frozenset({"value"})))

    @rules.recipe(lr=RATE)
    def made(lr=0.1):
        return rules.chain(jumpy(1.0), rules.descend(lr))

    for rule in (
        made(),
        rules.chain(rules.clip_value(1.0), made()),
        rules.average(made(), 0.9),
        rules.route({"*": made()}),
    ):
        assert rules.needs(rule) == {"value"}
        assert rules.discontinuous(rule)
        assert not rules.elementwise(rule)
    assert rules.elementwise(rules.average(rules.adam(), 0.9))
    assert not rules.elementwise(rules.chain(rules.clip_norm(1.0), rules.sgd()))
    assert not rules.discontinuous(rules.adam())
    assert rules.needs(rules.adam()) == frozenset()


def test_a_number_may_differ_from_parameter_to_parameter():
    gradient = {"a": torch.ones(2), "b": torch.ones(2)}
    h = {"lr": rules.PerParameter({"a": 0.5, "b": 2.0})}
    step, _, _ = step_of(rules.sgd(), gradient, h=h)
    assert (step["a"].tolist(), step["b"].tolist()) == ([-0.5] * 2, [-2.0] * 2)
    with pytest.raises(BadValue, match=r"sgd\(lr=-1\)|descend\(lr=-1\)"):
        step_of(rules.sgd(), gradient, h={"lr": rules.PerParameter({"a": 0.5, "b": -1.0})})


def test_a_rule_over_the_tree_takes_one_number_for_its_own_part():
    gradient = {"a": torch.tensor([2.0]), "b": torch.tensor([3.0])}
    h = {"max_norm": rules.PerParameter({"a": 1.0, "b": 1.5})}
    with pytest.raises(
        BadRule, match=r"clip_norm acts on all parameters together, .* got \[1.0, 1.5\]: use fl.route"
    ):
        step_of(rules.clip_norm(1.0), gradient, h=h)
    routed = rules.route({"a": rules.clip_norm(1.0)}, otherwise=rules.clip_norm(1.0))
    apart = {f"{i}.max_norm": h["max_norm"] for i in (0, 1)}
    step, _, info = step_of(routed, gradient, h=apart)
    assert (step["a"].item(), step["b"].item()) == pytest.approx((1.0, 1.5))
    assert {name: value.item() for name, value in info.items() if "norm" in name} == {
        "0.norm": 2.0,
        "1.norm": 3.0,
    }


def test_a_part_of_a_route_without_any_gradient_waits():
    rule = rules.route(
        {"a": rules.chain(rules.clip_norm(1.0), rules.momentum(0.1))}, otherwise=rules.momentum(0.1)
    )
    params = {"a": torch.zeros(1), "b": torch.zeros(1)}
    state = rules.init(rule, params)
    only_b = type(state)({"b": state.params["b"]}, state.tree)
    step, after, _ = rules.update(rule, {"b": torch.ones(1)}, only_b, params)
    assert list(step) == list(after.params) == ["b"]


def test_zero_dimensional_parameters_keep_their_dtype():
    @rules.per_tensor(takes=EITHER, state={"m": zeros}, beta=UNIT)
    def widen(d, s, p, h):
        return h.beta * d, {"m": h.beta * d}

    h = {"beta": torch.tensor(0.5, dtype=torch.float64)}
    for dtype in (torch.float32, torch.bfloat16):
        step, state, _ = step_of(widen(0.5), {"w": torch.ones((), dtype=dtype)}, h=h)
        assert step["w"].dtype == state.params["w"]["m"].dtype == dtype


def test_a_wrapper_sees_the_step_and_may_change_it():
    def start(params, h):
        return {name: {"sum": torch.zeros_like(p)} for name, p in params.items()}

    def after(step, own, params, h):
        sums = {name: own[name]["sum"] + h.share * d for name, d in step.items()}
        return sums, {name: {"sum": t} for name, t in sums.items()}

    gather = rules.wrap("gather", start=start, after=after, share=UNIT, doc="s ← s + share · d.")
    rule = rules.chain(rules.clip_value(1.0), gather(rules.sgd(lr=1.0), share=0.5))
    params = {"w": torch.zeros(1)}
    state = rules.init(rule, params)
    taken = []
    for _ in range(3):
        step, state, _ = rules.update(rule, {"w": torch.ones(1)}, state, params)
        taken.append(step["w"].item())
    assert taken == [-0.5, -1.0, -1.5]
    assert torch.equal(rules.view(rule, params, state)["w"], params["w"])


def test_chain_is_associative():
    a, b, c = rules.clip_value(0.5), rules.accumulate(0.9), rules.descend(0.1)
    gradient = {"w": torch.tensor([0.2, -3.0])}
    flat = step_of(rules.chain(a, b, c), gradient)[0]
    for nested in (rules.chain(rules.chain(a, b), c), rules.chain(a, rules.chain(b, c))):
        assert torch.equal(step_of(nested, gradient)[0]["w"], flat["w"])


def test_what_a_chain_of_changes_to_a_step_is():
    tail = rules.chain(rules.accumulate(0.9), rules.shrink(0.1, 0.1))
    assert rules.base.passes(tail, "step") == "done"
    with pytest.raises(BadRule, match="takes a step, but a gradient comes in"):
        rules.check_trains(tail)
