"""An optimizer around one rule: numbers in groups, whole trees, names, averages, saving."""

import copy
import pickle

import pytest
import torch
from torch.optim import lr_scheduler

from fallline import optim, registry, rules, schedules, specs
from fallline.errors import BadRule, BadValue, NotFound

from .cases import Problem


def leaf(*values, dtype=torch.float64):
    p = torch.nn.Parameter(torch.tensor(values, dtype=dtype))
    p.grad = torch.ones_like(p)
    return p


def net():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    x, y = torch.randn(8, 3, dtype=torch.float64), torch.randn(8, 1, dtype=torch.float64)

    def backward():
        model.zero_grad()
        ((model(x) - y) ** 2).mean().backward()

    return model, backward


# --- numbers in the groups --------------------------------------------------------------------------------


def test_a_number_stands_under_its_own_name_where_it_is_alone():
    rule = rules.average(rules.chain(rules.clip_norm(1.0), rules.adam(lr=0.01)), decay=0.9)
    group = optim.Optimizer([leaf(1.0)], rule).param_groups[0]
    assert {k: v for k, v in group.items() if k not in ("params", "__tree__")} == {
        "decay": 0.9, "max_norm": 1.0, "lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "maximize": False,
    }  # fmt: skip


def test_numbers_that_share_a_name_stand_under_their_paths():
    rule = rules.route({"0": rules.sgd(lr=1.0)}, otherwise=rules.momentum(lr=2.0))
    w, v = leaf(0.0), leaf(0.0)
    optimizer = optim.Optimizer([w, v], rule)
    assert "lr" not in optimizer.param_groups[0]
    assert (optimizer.param_groups[0]["0.lr"], optimizer.param_groups[0]["1.lr"]) == (1.0, 2.0)
    optimizer.param_groups[0]["1.lr"] = 3.0
    optimizer.step()
    assert (w.item(), v.item()) == (-1.0, -3.0)


def test_groups_with_numbers_of_their_own():
    w, v = leaf(0.0), leaf(0.0)
    optimizer = optim.Optimizer([{"params": [w], "lr": 1.0}, {"params": [v]}], rules.sgd(lr=0.5))
    optimizer.step()
    assert (w.item(), v.item()) == (-1.0, -0.5)


def test_a_nested_rate_follows_a_torch_scheduler():
    w = leaf(0.0)
    optimizer = optim.Optimizer([w], rules.chain(rules.clip_norm(0.5), rules.sgd(lr=1.0)))
    scheduler = lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    optimizer.step()
    scheduler.step()
    optimizer.step()
    assert w.item() == pytest.approx(-0.55)


def test_maximize_climbs():
    w, v = leaf(0.0), leaf(0.0)
    optim.Optimizer(
        [{"params": [w]}, {"params": [v], "maximize": False}], rules.sgd(lr=1.0), maximize=True
    ).step()
    assert (w.item(), v.item()) == (1.0, -1.0)


def test_a_whole_tree_rule_sees_all_groups():
    w, v = leaf(0.0), leaf(0.0)
    w.grad, v.grad = torch.full_like(w, 3.0), torch.full_like(v, 4.0)
    rule = rules.chain(rules.clip_norm(1.0), rules.sgd(lr=1.0))
    optimizer = optim.Optimizer([{"params": [w], "lr": 2.0}, {"params": [v]}], rule)
    optimizer.step()
    assert (w.item(), v.item()) == pytest.approx((-1.2, -0.8))
    assert optimizer.info["norm"].item() == 5.0
    optimizer.param_groups[0]["max_norm"] = 7.0
    with pytest.raises(BadRule, match=r"clip_norm acts on all parameters together, so max_norm must be one number .* got \[1.0, 7.0\]"):  # fmt: skip
        optimizer.step()


def test_inside_a_route_the_whole_tree_is_the_part():
    w, v = leaf(0.0), leaf(0.0)
    w.grad, v.grad = torch.full_like(w, 3.0), torch.full_like(v, 4.0)
    clipped = rules.chain(rules.clip_norm(1.0), rules.sgd(lr=1.0))
    optim.Optimizer([w, v], rules.route({"0": clipped}, otherwise=clipped)).step()
    assert (w.item(), v.item()) == (-1.0, -1.0)


# --- names ------------------------------------------------------------------------------------------------


def test_route_sees_names():
    model, backward = net()
    rule = rules.route({"*.bias": rules.sgd(lr=0.0), "0.*": rules.sgd(lr=0.1)}, otherwise=rules.adam(lr=0.1))
    before = copy.deepcopy(model)
    optimizer = optim.Optimizer(model.named_parameters(), rule)
    backward()
    optimizer.step()
    for i in (0, 2):
        assert torch.equal(model[i].bias, before[i].bias)
    assert torch.equal(model[0].weight, before[0].weight - 0.1 * model[0].weight.grad)
    assert set(optimizer.state[model[2].weight]) == {
        f"2.0.{name}" for name in ("mu", "nu", "power1", "power2")
    }


def test_a_pattern_that_meets_nothing_is_refused_when_the_optimizer_is_made():
    model, _ = net()
    with pytest.raises(NotFound, match=r"the pattern 'head.\*' of route matches no parameter that is left"):
        optim.Optimizer(model.named_parameters(), rules.route({"head.*": rules.sgd()}, otherwise=rules.sgd()))
    with pytest.raises(
        NotFound, match=r"no pattern of route matches the parameters \['2.weight', '2.bias'\]"
    ):
        optim.Optimizer(model.named_parameters(), rules.route({"0.*": rules.sgd()}))


def test_names_that_occur_twice_are_told_apart_by_their_groups():
    one, two = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    groups = [{"params": one.named_parameters()}, {"params": two.named_parameters()}]
    rule = rules.route({"group 0: *": rules.sgd(lr=0.0)}, otherwise=rules.sgd(lr=1.0))
    optimizer = optim.Optimizer(groups, rule)
    for p in (*one.parameters(), *two.parameters()):
        p.grad = torch.ones_like(p)
    before = copy.deepcopy((one, two))
    optimizer.step()
    assert torch.equal(one.weight, before[0].weight)
    assert torch.equal(two.weight, before[1].weight - 1)


# --- schedules --------------------------------------------------------------------------------------------


def test_scheduled_numbers_show_the_value_of_the_next_step():
    w = leaf(0.0)
    optimizer = optim.Optimizer([w], rules.sgd(lr=schedules.inverse_time(1.0)))
    rates = []
    for _ in range(3):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
    assert rates == [1.0, 0.5, 1 / 3]
    assert w.item() == pytest.approx(-(1 + 1 / 2 + 1 / 3), rel=1e-15)


def test_a_group_may_have_a_schedule_of_its_own():
    w, v = leaf(0.0), leaf(0.0)
    groups = [{"params": [w], "lr": schedules.inverse_time(2.0)}, {"params": [v], "lr": 0.25}]
    optimizer = optim.Optimizer(groups, rules.sgd(lr=schedules.constant(9.0)))
    optimizer.step()
    optimizer.step()
    assert (w.item(), v.item()) == (-3.0, -0.5)
    optimizer.param_groups[1]["lr"] = 0.5
    optimizer.step()
    assert v.item() == -1.0


def test_a_resumed_schedule_goes_on_where_it_was():
    rule = rules.sgd(lr=schedules.inverse_time(1.0))
    w = leaf(0.0)
    optimizer = optim.Optimizer([w], rule)
    for _ in range(3):
        optimizer.step()
    resumed = optim.Optimizer([w], rule)
    resumed.load_state_dict(optimizer.state_dict())
    assert resumed.param_groups[0]["lr"] == 0.25
    resumed.step()
    assert w.item() == pytest.approx(-(1 + 1 / 2 + 1 / 3 + 1 / 4))


def test_a_torch_scheduler_on_a_scheduled_rate_is_refused():
    optimizer = optim.Optimizer([leaf(0.0)], rules.sgd(lr=schedules.cosine(0.1, 10)))
    lr_scheduler.ExponentialLR(optimizer, 0.9)
    with pytest.raises(BadRule, match=r"lr of parameter group 0 follows cosine\(start=0.1, steps=10, end=0\), and .* keep one of the two"):  # fmt: skip
        optimizer.step()


# --- evaluation -------------------------------------------------------------------------------------------


def test_evaluating_swaps_the_average_in_and_out():
    model, backward = net()
    rule = rules.average(rules.momentum(lr=0.1), decay=0.8)
    optimizer = optim.Optimizer(model.named_parameters(), rule)
    before = copy.deepcopy(model.state_dict())
    with optimizer.evaluating():
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    average = copy.deepcopy(before)
    for _ in range(5):
        backward()
        optimizer.step()
        average = {k: 0.8 * a + (1 - 0.8) * model.state_dict()[k] for k, a in average.items()}
    trained = copy.deepcopy(model.state_dict())
    with optimizer.evaluating(), optimizer.evaluating():
        for k, v in model.state_dict().items():
            torch.testing.assert_close(v, average[k], rtol=1e-12, atol=1e-12)
        with pytest.raises(BadRule, match=r"step\(\) inside evaluating\(\)"):
            optimizer.step()
    assert all(torch.equal(v, trained[k]) for k, v in model.state_dict().items())
    backward()
    optimizer.step()


def test_an_error_while_evaluating_swaps_back():
    w = leaf(0.0)
    optimizer = optim.Optimizer([w], rules.average(rules.sgd(lr=1.0), decay=0.5))
    optimizer.step()
    with pytest.raises(ZeroDivisionError), optimizer.evaluating():
        1 / (w.item() + 0.5)
    assert w.item() == -1.0
    w.grad = torch.ones_like(w)
    optimizer.step()


def test_a_parameter_that_was_never_trained_is_evaluated_as_it_is():
    w, frozen = leaf(0.0), leaf(7.0)
    frozen.grad = None
    rule = rules.average(rules.sgd(lr=1.0), decay=0.5)
    for made in (rule, rules.route({"*": rule})):
        optimizer = optim.Optimizer([w, frozen], made)
        optimizer.step()
        with optimizer.evaluating():
            assert frozen.item() == 7.0


# --- state ------------------------------------------------------------------------------------------------


def counting_rule():
    """A rule over the whole tree with a state of its own, and one per parameter of float32."""

    @rules.whole_tree(state={"taken": lambda params, h: torch.zeros((), dtype=torch.float64)})
    def count_steps(tree, s, params, h):
        return tree, {"taken": s.taken + 1}, {"taken": s.taken}

    @rules.per_tensor(state={"moment": lambda p, h: torch.zeros_like(p, dtype=torch.float32)})
    def remember(g, s, p, h):
        return s.moment + g, {"moment": s.moment + 0.123456789 * g}

    return rules.chain(count_steps(), remember(), rules.descend(0.1))


@pytest.fixture
def _registry():
    before = dict(registry._behaviors)
    yield
    registry._behaviors.clear()
    registry._behaviors.update(before)


@pytest.mark.usefixtures("_registry")
def test_loading_keeps_dtypes_and_the_state_of_the_tree(tmp_path):
    rule, w = counting_rule(), leaf(1.0, 2.0, dtype=torch.bfloat16)
    optimizer = optim.Optimizer([w], rule)
    for _ in range(3):
        optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = optim.Optimizer([w], rule)
    resumed.load_state_dict(loaded)
    moment = resumed.state[w]["1.moment"]
    assert moment.dtype == torch.float32
    assert torch.equal(moment, optimizer.state[w]["1.moment"])
    whole = resumed.param_groups[0]["__tree__"]
    assert whole["tree"]["0.taken"].item() == 3.0
    assert whole["tree"]["0.taken"].dtype == torch.float64
    assert whole["steps"] == resumed.steps == 3
    whole["tree"]["0.taken"].add_(1)
    assert loaded["param_groups"][0]["__tree__"]["tree"]["0.taken"].item() == 3.0


@pytest.mark.usefixtures("_registry")
def test_state_is_kept_apart_from_gradient_and_parameter():
    @rules.per_tensor(state={"last": rules.making.zeros, "here": rules.making.zeros})
    def hoard(g, s, p, h):
        return s.last, {"last": g, "here": p}

    w = leaf(1.0)
    optimizer = optim.Optimizer([w], rules.chain(hoard(), rules.descend(1.0)))
    optimizer.step()
    w.grad.zero_()
    w.data.fill_(5.0)
    assert optimizer.state[w]["0.last"].item() == 1.0
    assert optimizer.state[w]["0.here"].item() == 1.0


def test_an_optimizer_survives_pickle_and_deepcopy():
    problem = Problem()
    optimizer = optim.Optimizer(
        problem.params, rules.average(rules.adam(lr=schedules.cosine(0.1, 9)), decay=0.9)
    )
    problem.blow()
    optimizer.step()
    for copied, again in (copy.deepcopy((problem.params, optimizer)), pickle.loads(pickle.dumps((problem.params, optimizer)))):  # fmt: skip
        for p, q in zip(problem.params, copied, strict=True):
            q.grad = p.grad.clone()
        assert again.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
        again.step()
        assert again.steps == 2
        with again.evaluating():
            pass


def test_state_dict_hooks_of_torch_are_called():
    w = leaf(0.0)
    optimizer = optim.Optimizer([w], rules.momentum(lr=1.0))
    optimizer.step()
    saved = optimizer.state_dict()

    def double(_, given):
        held = {k: {n: 2 * t for n, t in v.items()} if k == 0 else v for k, v in given["state"].items()}
        return {**given, "state": held}

    optimizer.register_load_state_dict_pre_hook(double)
    optimizer.load_state_dict(saved)
    assert optimizer.state[w]["1.trace"].item() == -2.0


# --- wrong calls ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_registry")
def test_a_rule_that_needs_more_than_a_gradient_is_refused():
    import dataclasses

    known = specs.behavior(rules.sgd())
    specs.register(specs.Rule, "greedy", dataclasses.replace(known, needs=frozenset({"fisher_vp"})))
    with pytest.raises(
        BadRule, match=r"needs fisher_vp beside the gradient, which a torch loop does not give"
    ):
        optim.Optimizer([leaf(0.0)], rules.chain(rules.clip_norm(1.0), specs.Rule("greedy", {"lr": 0.1})))


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda p: optim.Optimizer(p, rules.adam), BadRule, r"got <function adam.*: call it, as in adam\(\)"),
        (lambda p: optim.Optimizer(p, 0.1), BadRule, r"an optimizer takes a rule such as fl.rules.adam\(lr=1e-3\), got 0.1"),
        (lambda p: optim.Optimizer(p, rules.clip_norm(1.0)), BadRule, r"gives a direction uphill, not a step: end it with descend"),
        (lambda p: optim.Optimizer(p, rules.sgd(lr=specs.axis(0.1, 1))), BadRule, r"lr=axis\(0.1, 1\) is an axis of a fleet"),
        (lambda p: optim.Optimizer([{"params": p, "lr": -1.0}], rules.sgd()), BadValue, r"sgd\(lr=-1\): .* at least 0; got -1"),
        (lambda p: optim.Optimizer([{"params": p, "betas": (0.9, 0.9)}], rules.adam()), BadValue, r"has 'betas', which nothing reads: did you mean 'beta"),
        (lambda p: optim.Optimizer([{"params": p, "max_norm": 0.0}], rules.chain(rules.clip_norm(1.0), rules.sgd())), BadValue, r"clip_norm\(max_norm=0\): .* above 0"),
    ],
)  # fmt: skip
def test_a_wrong_call_teaches(make, error, said):
    with pytest.raises(error, match=said):
        make([leaf(0.0)])


def test_a_number_of_a_part_is_checked_at_each_step():
    w = leaf(0.0)
    optimizer = optim.Optimizer([w], rules.chain(rules.clip_norm(1.0), rules.descend(0.1)))
    optimizer.param_groups[0]["lr"] = -0.1
    with pytest.raises(BadValue, match=r"descend\(lr=-0.1\)"):
        optimizer.step()
    assert w.item() == 0.0


@pytest.mark.parametrize(
    "make", [lambda p: optim.LBFGS(p), lambda p: optim.Optimizer(p, rules.lbfgs(search="backtracking"))]
)
def test_a_closure_without_a_loss_is_told(make):
    w = torch.nn.Parameter(torch.ones(2))
    optimizer = make([w])

    def closure():
        optimizer.zero_grad()
        (w**2).sum().backward()

    with pytest.raises(
        BadRule, match=r"^the closure returned None, and the rule asks for the loss: end the closure in"
    ):
        optimizer.step(closure)
