"""A saved optimizer goes on bit for bit, whatever it was saved in; what does not fit is refused and changes nothing."""

from __future__ import annotations

import copy
import io
import json
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from contracts.samples import SHAPES, sample, trainer
from fallline import optim, rules, schedules, specs
from fallline.errors import BadRule, BadStore, BadValue
from fallline.specs import Rule

from .cases import GRID, Problem, cases, deviation

TREE = "__tree__"
KINDS = [kind for kind in specs.kinds(Rule) if not rules.needs(trainer(sample(kind)))]
NAMES = list(SHAPES)


def named(problem: Problem) -> list[tuple[str, torch.nn.Parameter]]:
    return list(zip(NAMES, problem.params, strict=True))


def train(problem, optimizer, steps=3, missing=()):
    for _ in range(steps):
        problem.blow(missing)
        optimizer.step()


def through_torch(saved, into, folder):
    torch.save(saved.state_dict(), folder / "state.pt")
    into.load_state_dict(torch.load(folder / "state.pt", weights_only=True))


def through_safetensors(saved, into, folder):
    optim.save(saved, folder / "state.safetensors")
    optim.load(into, folder / "state.safetensors")


def through_memory(saved, into, folder):
    into.load_state_dict(saved.state_dict())


ROUTES = [through_torch, through_safetensors, through_memory]


def held_by(optimizer):
    return [
        {key: (t.dtype, t.tolist()) for key, t in optimizer.state.get(p, {}).items()}
        for group in optimizer.param_groups
        for p in group["params"]
    ]


def assert_goes_on(problem, optimizer, make, through, folder):
    """Saved now and loaded into a new optimizer over a copy, both go on and stay equal bit for bit."""
    twin = copy.deepcopy(problem)
    again = make(twin)
    through(optimizer, again, folder)
    assert held_by(optimizer) == held_by(again)
    assert again.steps == optimizer.steps
    train(problem, optimizer)
    train(twin, again)
    for p, q in zip(problem.params, twin.params, strict=True):
        assert torch.equal(p, q) or (p.isnan() & q.isnan()).any()
    assert held_by(optimizer) == held_by(again)


@pytest.mark.parametrize("through", ROUTES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_goes_on_bit_equal(kind, dtype, through, tmp_path):
    def make(problem):
        return optim.Optimizer(named(problem), trainer(sample(kind)))

    problem = Problem(dtype=dtype)
    optimizer = make(problem)
    train(problem, optimizer, missing=(2,))
    assert_goes_on(problem, optimizer, make, through, tmp_path)


@pytest.mark.parametrize("name", GRID)
def test_every_form_goes_on_bit_equal_under_every_option(name, tmp_path):
    for _, options in (case for case in cases() if case[0] == name):
        problem = Problem(dtype=torch.float32)
        optimizer = getattr(optim, name)(problem.params, **options)
        train(problem, optimizer, missing=(1,))
        assert_goes_on(
            problem, optimizer, lambda twin: getattr(optim, name)(twin.params), through_memory, tmp_path
        )


@pytest.mark.parametrize("through", ROUTES)
def test_numbers_of_every_kind_come_back(through, tmp_path):
    def make(problem, lr=0.1):
        one, two = problem.params[:2], problem.params[2:]
        return optim.Adam([{"params": one, "lr": torch.tensor(lr)}, {"params": two, "betas": (0.5, 0.6)}])

    problem = Problem()
    optimizer = make(problem)
    train(problem, optimizer)
    optimizer.param_groups[1].update(initial_lr=0.7, weight_decay=1 / 3, label=("decoder", None, True))
    again = make(problem, lr=9.0)
    through(optimizer, again, tmp_path)
    for old, new in zip(optimizer.param_groups, again.param_groups, strict=True):
        assert {**old, TREE: None} == {**new, TREE: None}


def test_infinities_come_back_from_a_file_whose_header_is_json(tmp_path):
    problem = Problem()
    optimizer = optim.SGD(problem.params)
    optimizer.param_groups[0]["bound"] = (float("inf"), float("-inf"))
    _, header = optim.flat_state(optimizer.state_dict())
    json.loads(header, parse_constant=pytest.fail)
    through_safetensors(optimizer, optimizer, tmp_path)
    assert optimizer.param_groups[0]["bound"] == (float("inf"), float("-inf"))


entries = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(st.recursive(entries, lambda inner: st.lists(inner).map(tuple)))
def test_any_plain_value_of_a_group_comes_back(value):
    saved = {"state": {}, "param_groups": [{"label": value, "params": [0]}]}
    assert optim.from_flat_state(*optim.flat_state(saved)) == saved


def test_state_of_torchs_own_goes_through_the_flat_form_too():
    problem = Problem()
    theirs = torch.optim.AdamW(problem.params)
    train(problem, theirs)
    saved = theirs.state_dict()
    back = optim.from_flat_state(*optim.flat_state(saved))
    torch.optim.AdamW(problem.params).load_state_dict(back)
    assert str(back) == str({**saved, "param_groups": back["param_groups"]})
    assert back["param_groups"] == saved["param_groups"]


# --- sixteen bits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_of_16_bits_is_a_float32_one_that_is_rounded(kind, dtype):
    """The reference: the rule in float32, and the new parameter rounded once."""
    problem = Problem(dtype=dtype)
    rule = trainer(sample(kind))
    optimizer = optim.Optimizer(named(problem), rule)
    values = {name: p.detach().clone() for name, p in named(problem)}
    state = rules.init(rule, {name: v.float() for name, v in values.items()})
    for _ in range(3):
        problem.blow()
        gradient = {name: p.grad.float() for name, p in named(problem)}
        seen = {name: v.float() for name, v in values.items()}
        step, state, _ = rules.update(rule, gradient, state, seen)
        values = {name: (seen[name] + step[name]).to(dtype) for name in values}
        optimizer.step()
        for name, p in named(problem):
            assert p.dtype == dtype
            assert torch.equal(p, values[name]), name
            assert all(t.dtype in (torch.float32, torch.float64) for t in optimizer.state[p].values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("through", ROUTES)
def test_state_comes_to_the_device_of_its_parameter(through, tmp_path):
    problem = Problem()
    optimizer = optim.Optimizer(named(problem), CLIPPED)
    train(problem, optimizer)
    moved = [(name, torch.nn.Parameter(p.detach().cuda())) for name, p in named(problem)]
    again = optim.Optimizer(moved, CLIPPED)
    through(optimizer, again, tmp_path)
    assert held_by(again) == held_by(optimizer)
    assert {t.device.type for held in again.state.values() for t in held.values()} == {"cuda"}
    problem.blow()
    for (_, p), q in zip(moved, problem.params, strict=True):
        p.grad = q.grad.cuda()
    optimizer.step()
    again.step()
    for (_, p), q in zip(moved, problem.params, strict=True):
        torch.testing.assert_close(p.cpu(), q, rtol=1e-12, atol=1e-12)


# --- by name ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("through", ROUTES)
def test_parameters_are_found_by_name_in_any_order_beside_frozen_ones(through, tmp_path):
    problem = Problem()
    optimizer = optim.Adam(named(problem), lr=0.05)
    train(problem, optimizer)
    twin = copy.deepcopy(problem)
    frozen = torch.nn.Parameter(torch.ones(7), requires_grad=False)
    again = optim.Adam([*reversed(named(twin)), ("frozen", frozen)])
    through(optimizer, again, tmp_path)
    assert again.param_groups[0]["param_names"] == [*reversed(NAMES), "frozen"]
    train(problem, optimizer)
    train(twin, again)
    assert all(torch.equal(a, b) for a, b in zip(problem.params, twin.params, strict=True))
    back = optim.Adam(named(problem))
    through(again, back, tmp_path)
    assert held_by(back) == held_by(optimizer)


def test_groups_in_another_order_bring_their_numbers():
    problem = Problem()
    one = {"params": named(problem)[:2], "lr": 0.1}
    two = {"params": named(problem)[2:], "lr": 0.2}
    optimizer = optim.SGD([one, two], momentum=0.9)
    train(problem, optimizer)
    again = optim.SGD([two, one])
    again.load_state_dict(optimizer.state_dict())
    assert [group["lr"] for group in again.param_groups] == [0.2, 0.1]
    assert [group["momentum"] for group in again.param_groups] == [0.9, 0.9]
    assert held_by(again) == held_by(optimizer)[2:] + held_by(optimizer)[:2]
    apart = optim.SGD([{"params": [pair]} for pair in named(problem)])
    apart.load_state_dict(optimizer.state_dict())
    assert [group["lr"] for group in apart.param_groups] == [0.1, 0.1, 0.2, 0.2, 0.2]


def test_a_group_of_new_frozen_parameters_keeps_its_numbers():
    problem = Problem()
    optimizer = optim.SGD(named(problem), lr=0.1)
    train(problem, optimizer)
    frozen = torch.nn.Parameter(torch.ones(7), requires_grad=False)
    again = optim.SGD([{"params": named(problem)}, {"params": [("frozen", frozen)], "lr": 0.5}])
    again.load_state_dict(optimizer.state_dict())
    assert [group["lr"] for group in again.param_groups] == [0.1, 0.5]
    assert again.param_groups[1][TREE] == again.param_groups[0][TREE]


@pytest.mark.parametrize("through", ROUTES)
def test_a_group_may_be_empty(through, tmp_path):
    problem = Problem()
    optimizer = optim.Adam([{"params": [], "lr": 0.5}, {"params": problem.params}])
    train(problem, optimizer)
    again = optim.Adam([{"params": []}, {"params": problem.params}])
    through(optimizer, again, tmp_path)
    assert again.param_groups[0]["lr"] == 0.5
    assert held_by(again) == held_by(optimizer)


# --- torch's own ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRID)
def test_torchs_own_state_loads_under_every_option(name):
    for _, options in (case for case in cases() if case[0] == name):
        problem = Problem()
        theirs = getattr(torch.optim, name)(problem.params, **options)
        train(problem, theirs, missing=(1,))
        train(problem, theirs)
        twin = copy.deepcopy(problem)
        ours = getattr(optim, name)(twin.params)
        file = io.BytesIO()
        torch.save(theirs.state_dict(), file)
        file.seek(0)
        ours.load_state_dict(torch.load(file, weights_only=True))
        train(problem, theirs)
        train(twin, ours)
        assert deviation(twin.values(), problem.values()) < 1e-12, options


@pytest.mark.parametrize("how", [{"foreach": True}, {"fused": True}, {"foreach": False}])
def test_torchs_state_loads_whatever_implementation_left_it(how):
    problem = Problem()
    theirs = torch.optim.Adam(problem.params, **how)
    train(problem, theirs)
    twin = copy.deepcopy(problem)
    ours = optim.Adam(twin.params)
    ours.load_state_dict(theirs.state_dict())
    assert not any(ours.param_groups[0][key] for key in how)
    assert ours.steps == 3
    train(problem, theirs)
    train(twin, ours)
    assert deviation(twin.values(), problem.values()) < 1e-12


@pytest.mark.parametrize("name", GRID)
def test_torchs_state_loads_from_reordered_groups_by_name(name):
    problem = Problem()
    groups = [{"params": named(problem)[:2], "lr": 0.05}, {"params": named(problem)[2:]}]
    theirs = getattr(torch.optim, name)(groups)
    train(problem, theirs)
    twin = copy.deepcopy(problem)
    ours = getattr(optim, name)([{"params": named(twin)[2:][::-1]}, {"params": named(twin)[:2]}])
    ours.load_state_dict(theirs.state_dict())
    train(problem, theirs)
    train(twin, ours)
    assert deviation(twin.values(), problem.values()) < 1e-12


def test_steps_that_an_old_torch_counted_in_whole_numbers_load():
    problem = Problem()
    theirs = torch.optim.Adam(problem.params)
    train(problem, theirs)
    saved = copy.deepcopy(theirs.state_dict())
    for held in saved["state"].values():
        held["step"] = int(held["step"])
    twin = copy.deepcopy(problem)
    ours = optim.Adam(twin.params)
    ours.load_state_dict(saved)
    train(problem, theirs)
    train(twin, ours)
    assert deviation(twin.values(), problem.values()) < 1e-12


def test_torchs_moments_of_16_bits_become_float32():
    problem = Problem(dtype=torch.bfloat16)
    theirs = torch.optim.Adam(problem.params)
    train(problem, theirs)
    ours = optim.Adam(problem.params)
    ours.load_state_dict(theirs.state_dict())
    p = problem.params[0]
    assert ours.state[p]["1.mu"].dtype == torch.float32
    assert torch.equal(ours.state[p]["1.mu"], theirs.state[p]["exp_avg"].float())


# --- what is refused --------------------------------------------------------------------------------------


def adam(problem, **options):
    return optim.Adam(problem.params, **options)


def trained(make, problem=None):
    problem = problem or Problem()
    optimizer = make(problem)
    train(problem, optimizer)
    return optimizer


def without(saved, key):
    groups = [{k: v for k, v in group.items() if k != key} for group in saved["param_groups"]]
    return {**saved, "param_groups": groups}


def reshaped(saved):
    held = {**saved["state"][0], "1.mu": torch.zeros(2, 2)}
    return {**saved, "state": {**saved["state"], 0: held}}


def with_state(saved, held):
    return {**without(saved, TREE), "state": {0: held}}


def composed(rule):
    return lambda problem: optim.Optimizer(named(problem), rule)


CLIPPED = rules.chain(rules.clip_norm(1.0), rules.adam(lr=0.1))
REFUSED = [
    (adam, lambda: trained(lambda p: optim.AdamW(p.params)).state_dict(),
     "the state dict is of AdamW, and this optimizer is Adam: make that one"),
    (composed(CLIPPED), lambda: trained(composed(rules.adam(lr=0.1))).state_dict(),
     "the state dict is of adam, and this optimizer is chain(clip_norm, adam): make that one"),
    (composed(rules.route({"weight": rules.sgd()}, otherwise=rules.adam())),
     lambda: trained(composed(rules.route({"bias": rules.sgd()}, otherwise=rules.adam()))).state_dict(),
     "the state dict is of route(patterns=('bias', '*'), sgd, adam), and this optimizer is route(patterns=('weight', '*'), sgd, adam)"),
    (composed(rules.adam()), lambda: trained(lambda p: torch.optim.Adam(p.params)).state_dict(),
     "the state dict is not of this optimizer: its parameter groups have no ['beta1', 'beta2']"),
    (composed(rules.sgd()), lambda: trained(lambda p: torch.optim.SGD(p.params)).state_dict(),
     "the state dict does not say whose it is, as those of fallline do, and this optimizer is sgd: only the optimizers"),
    (adam, lambda: trained(lambda p: torch.optim.RMSprop(p.params)).state_dict(),
     "the state dict is not of this optimizer: its parameter groups have no ['betas', 'amsgrad']"),
    (adam, lambda: trained(lambda p: torch.optim.AdamW(p.params)).state_dict(),
     "the state dict of torch has decoupled_weight_decay=True, which makes it one of AdamW, and this optimizer is Adam"),
    (lambda p: optim.AdamW(p.params), lambda: trained(lambda p: torch.optim.Adam(p.params)).state_dict(),
     "has decoupled_weight_decay=False, which makes it one of Adam, and this optimizer is AdamW: make that one"),
    (adam, lambda: with_state(trained(adam).state_dict(), {"speed": torch.zeros(3, 4)}),
     "the state dict is not of this optimizer: parameter '0' has ['speed'], and ['1.mu', '1.nu', '1.t'] was expected"),
    (adam, lambda: with_state(trained(adam).state_dict(), {"exp_avg": torch.zeros(3, 4), "step": torch.tensor(1.0)}),
     "parameter '0' has ['exp_avg', 'step'], and ['1.mu', '1.nu', '1.t'] was expected"),
    (adam, lambda: reshaped(trained(adam).state_dict()),
     "the state dict is of another model: 1.mu of parameter '0' has the shape (2, 2), and (3, 4) was expected"),
    (adam, lambda: without(trained(adam).state_dict(), "eps"),
     "the state dict is not of this optimizer: its parameter groups have no ['eps'], only ['amsgrad'"),
    (adam, lambda: trained(lambda p: optim.Adam([{"params": p.params[:2]}, {"params": p.params[2:]}])).state_dict(),
     "the state dict has 2 parameter groups, and this optimizer has 1: make the same groups, or give model"),
    (adam, lambda: optim.Adam(Problem().params[:3]).state_dict(),
     "parameter group 0 of the state dict has 3 parameters, and 5 are here: give the same ones in the same order"),
    (composed(rules.sgd()), lambda: optim.Optimizer([("weights", p) for p in Problem().params[:1]], rules.sgd()).state_dict(),
     "the state dict knows no parameter 'weight' (did you mean 'weights'?): name the parameters as they were named when it was"),
    (composed(rules.sgd()), lambda: optim.Optimizer(
        [{"params": named(Problem())[:2]}, {"params": named(Problem())[2:], "lr": 0.9}], rules.sgd()).state_dict(),
     "the parameters of group 0 were in groups [0, 1] when they were saved, with other numbers: group them as they were"),
    (adam, lambda: {"model": {}, "epoch": 3},
     "a state dict of an optimizer has 'state' and 'param_groups', as state_dict() gives it; got ['epoch', 'model']"),
    (adam, lambda: [1, 2], "as state_dict() gives it; got list"),
    (adam, lambda: {**(s := trained(adam).state_dict()), "param_groups": [{**s["param_groups"][0], "lr": -1.0}]},
     "Adam(lr=-1): lr is the learning rate"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "foreign", "said"), REFUSED)
def test_what_does_not_fit_is_refused_and_changes_nothing(make, foreign, said):
    problem = Problem()
    optimizer = trained(make, problem)
    before = copy.deepcopy((optimizer.state_dict(), problem.values()))
    with pytest.raises(BadValue, match=re.escape(said)):
        optimizer.load_state_dict(foreign())
    assert str((optimizer.state_dict(), problem.values())) == str(before)
    train(problem, optimizer)


def test_a_saved_parameter_with_state_that_is_not_here_is_refused():
    problem = Problem()
    optimizer = optim.Adam(named(problem))
    train(problem, optimizer, missing=(3,))
    again = optim.Adam([pair for pair in named(problem) if pair[0] != "empty"])
    again.load_state_dict(optimizer.state_dict())
    fewer = optim.Adam(named(problem)[1:])
    with pytest.raises(
        BadValue, match=r"the state dict has state of the parameters \['weight'\], which are not here"
    ):
        fewer.load_state_dict(optimizer.state_dict())


def test_a_file_that_is_no_state_is_refused(tmp_path):
    optimizer = adam(Problem())
    with pytest.raises(
        BadStore, match=r"none.safetensors cannot be read as a safetensors file: No such file"
    ):
        optim.load(optimizer, tmp_path / "none.safetensors")
    (tmp_path / "bad").write_bytes(b"no tensors")
    with pytest.raises(BadStore, match="bad cannot be read as a safetensors file"):
        optim.load(optimizer, tmp_path / "bad")
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(
        BadStore, match=r"model.safetensors holds tensors but no state of an optimizer: fl.optim.save"
    ):
        optim.load(optimizer, tmp_path / "model.safetensors")
    optimizer.param_groups[0]["friend"] = object()
    with pytest.raises(
        BadValue, match="a parameter group has 'friend', a object, and a file holds numbers, text and"
    ):
        optim.save(optimizer, tmp_path / "mine")
    assert not list(tmp_path.glob("mine*"))


# --- torch's conventions ----------------------------------------------------------------------------------


def test_a_state_dict_has_parameters_only_under_state():
    """Who reads state dicts (torch.distributed.checkpoint, sharded optimizers) takes each key for a parameter."""
    problem = Problem()
    optimizer = optim.Optimizer(problem.params, rules.average(CLIPPED, decay=0.9))
    train(problem, optimizer)
    assert set(optimizer.state) == set(problem.params)
    assert set(optimizer.state_dict()["state"]) == set(range(5))
    whole = optimizer.param_groups[0][TREE]
    assert whole == {"rule": "average(chain(clip_norm, adam))", "steps": 3, "tree": {}}


def test_hooks_see_what_they_see_in_torch():
    problem = Problem()
    optimizer = adam(problem)
    train(problem, optimizer)
    saved, seen = optimizer.state_dict(), []
    optimizer.register_state_dict_pre_hook(lambda one: seen.append("before saving"))
    optimizer.register_state_dict_post_hook(lambda one, given: {**given, "note": 1})
    optimizer.register_load_state_dict_pre_hook(lambda one, given: seen.append(sorted(given)))
    optimizer.register_load_state_dict_post_hook(
        lambda one: seen.append(one.state[problem.params[0]]["1.t"].dtype)
    )
    assert optimizer.state_dict()["note"] == 1
    optimizer.load_state_dict(saved)
    assert seen == ["before saving", ["param_groups", "state"], torch.float64]


def test_loading_while_evaluating_is_refused():
    optimizer = optim.Optimizer(Problem().params, rules.average(rules.sgd(), decay=0.9))
    with (
        optimizer.evaluating(),
        pytest.raises(
            BadRule, match=r"load_state_dict\(\) inside evaluating\(\): its end would put the parameters"
        ),
    ):
        optimizer.load_state_dict(optimizer.state_dict())


def test_a_step_that_only_asks_for_the_state_makes_it_and_nothing_else():
    problem = Problem()
    rule = rules.route({"weight": rules.adamw(lr=0.1)}, otherwise=rules.momentum(lr=schedules.cosine(0.1, 9)))
    optimizer = optim.Optimizer(named(problem), rule)
    before = problem.values()
    for p in problem.params:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert optimizer.steps == 0
    assert all(torch.equal(a, b) for a, b in zip(before, problem.values(), strict=True))
    assert all(optimizer.state[p] for p in problem.params)
    optimizer.step()
    assert optimizer.steps == 1
