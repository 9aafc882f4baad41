"""Torch's optimizers by name against torch's own, in float64, over their options."""

import copy
import math

import pytest
import torch
from torch.optim import lr_scheduler

from fallline import optim, rules, schedules
from fallline.errors import BadRule, BadValue

from .cases import GRID, Problem, cases, deviation

STEPS = 50
NAMES = list(GRID)
named = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def _double():
    """Torch keeps its counters in the default dtype: the momenta of NAdam, multiplied, lose digits in float32."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def pair(name, groups=lambda problem: problem.params, **options):
    """Ours and torch's, on two copies of one problem."""
    ours, theirs = Problem(), Problem()
    return (
        (ours, getattr(optim, name)(groups(ours), **options)),
        (theirs, getattr(torch.optim, name)(groups(theirs), **options)),
    )


def run(pair_of, steps=STEPS, missing=lambda t: (), after=lambda t: None):
    for t in range(steps):
        for problem, optimizer in pair_of:
            problem.blow(missing(t))
            optimizer.step()
        after(t)


def assert_equal(pair_of, tolerance=1e-12):
    (ours, _), (theirs, _) = pair_of
    assert deviation(ours.values(), theirs.values()) < tolerance


@named
def test_every_option_equals_torch(name):
    for options in (options for of, options in cases() if of == name):
        both = pair(name, **options)
        run(both)
        assert_equal(both)


@named
def test_the_defaults_are_those_of_torch(name):
    (_, ours), (_, theirs) = pair(name)
    for key, value in ours.defaults.items():
        assert theirs.defaults[key] == value, key
    assert set(theirs.defaults) - set(ours.defaults) <= {"decoupled_weight_decay"}
    assert set(ours.defaults) <= set(theirs.defaults)


@named
def test_groups_with_numbers_of_their_own(name):
    def groups(problem):
        return [
            {"params": problem.params[:1], "lr": 0.05},
            {"params": problem.params[1:3], "weight_decay": 0.2, "maximize": True},
            {"params": problem.params[3:]},
        ]

    both = pair(name, groups)
    run(both)
    assert_equal(both)


@named
def test_a_parameter_without_a_gradient_does_not_age(name):
    options = {"weight_decay": 0.1, "lr": 0.05}
    both = pair(name, **options)
    run(both, missing=lambda t: (0, 4) if t % 3 == 0 else (1,) if t == 10 else ())
    assert_equal(both)


@named
def test_a_parameter_that_never_had_a_gradient_has_no_state(name):
    (problem, optimizer), _ = pair(name)
    before = problem.values()[1]
    for _ in range(3):
        problem.blow(missing=(1,))
        optimizer.step()
    assert torch.equal(problem.params[1], before)
    assert not optimizer.state.get(problem.params[1])


SCHEDULERS = {
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=20, eta_min=1e-4),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda t: 0.9**t),
    "one_cycle": lambda o: lr_scheduler.OneCycleLR(
        o,
        max_lr=0.05,
        total_steps=STEPS + 1,
        cycle_momentum="momentum" in o.defaults or "betas" in o.defaults,
    ),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.5, 5), lr_scheduler.ExponentialLR(o, 0.9)], milestones=[10]
    ),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 1e-3, 1e-2, step_size_up=7, cycle_momentum=False),
}


@named
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_torch_schedulers_drive_it(name, scheduler):
    options = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
    both = pair(name, **options)
    driven = [SCHEDULERS[scheduler](optimizer) for _, optimizer in both]
    run(both, after=lambda t: [one.step() for one in driven])
    assert_equal(both)


def test_reduce_on_plateau_drives_it():
    both = pair("Adam", lr=0.1)
    driven = [lr_scheduler.ReduceLROnPlateau(optimizer, patience=2) for _, optimizer in both]
    run(both, after=lambda t: [one.step(1.0) for one in driven])
    assert both[0][1].param_groups[0]["lr"] < 1e-6
    assert_equal(both)


@named
def test_a_learning_rate_may_be_a_tensor(name):
    both = pair(name, lr=torch.tensor(0.05, dtype=torch.float64))
    run(both, after=lambda t: [o.param_groups[0]["lr"].mul_(0.9) for _, o in both])
    assert_equal(both)


@named
def test_numbers_changed_by_hand_act_as_in_torch(name):
    both = pair(name)
    changes = {"lr": 0.2, "weight_decay": 0.3}
    if name == "SGD":
        changes |= {"momentum": 0.8}

    def change(t):
        for _, optimizer in both:
            if t == 10:
                optimizer.param_groups[0].update(changes)
            if t == 30:
                optimizer.param_groups[0].update(weight_decay=0.0)

    run(both, after=change)
    assert_equal(both)


@named
def test_a_group_added_later(name):
    both = pair(name, lambda problem: problem.params[:2])

    def add(t):
        if t == 10:
            for problem, optimizer in both:
                optimizer.add_param_group({"params": problem.params[2:], "lr": 0.03})

    run(both, after=add)
    assert_equal(both)


@named
def test_groups_that_torch_schedulers_have_marked_are_taken_over(name):
    (_, optimizer), _ = pair(name, lr=0.1)
    lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=9, cycle_momentum=name == "SGD")
    again = getattr(optim, name)(optimizer.param_groups)
    assert again.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


@named
def test_closures(name):
    w, v = (torch.nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))

    def closure_of(p, optimizer):
        def closure():
            optimizer.zero_grad()
            loss = (p**2).sum()
            loss.backward()
            return loss

        return closure

    ours, theirs = getattr(optim, name)([w]), getattr(torch.optim, name)([v])
    for _ in range(5):
        losses = ours.step(closure_of(w, ours)), theirs.step(closure_of(v, theirs))
        torch.testing.assert_close(*losses, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(w, v, rtol=1e-12, atol=1e-12)


@named
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_run_goes_on_bit_equal(name, dtype, tmp_path):
    problem = Problem(dtype=dtype)
    optimizer = getattr(optim, name)(problem.params, weight_decay=0.1)
    for _ in range(5):
        problem.blow()
        optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    twin = copy.deepcopy(problem)
    resumed = getattr(optim, name)(twin.params, lr=123.0)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for (p, held), (q, loaded) in zip(_states(optimizer), _states(resumed), strict=True):
        assert torch.equal(p, q)
        assert {k: (v.dtype, v.tolist()) for k, v in held.items()} == {
            k: (v.dtype, v.tolist()) for k, v in loaded.items()
        }
        assert not {v.data_ptr() for v in held.values() if v.numel()} & {
            v.data_ptr() for v in loaded.values()
        }
    for _ in range(5):
        problem.blow()
        twin.blow()
        optimizer.step()
        resumed.step()
    assert all(torch.equal(a, b) for a, b in zip(problem.params, twin.params, strict=True))


def _states(optimizer):
    return [(p, held) for p, held in optimizer.state.items() if isinstance(p, torch.Tensor)]


@named
def test_a_deep_copy_goes_on_alike(name):
    (problem, optimizer), _ = pair(name)
    run([(problem, optimizer)], 3)
    twin, copied = copy.deepcopy((problem, optimizer))
    run([(problem, optimizer), (twin, copied)], 3)
    assert all(torch.equal(a, b) for a, b in zip(problem.params, twin.params, strict=True))


@named
def test_a_schedule_is_allowed_as_a_number(name):
    (problem, optimizer), (other, theirs) = pair(name, lr=0.1)
    schedule = schedules.cosine(0.1, 40, end=0.01)
    optimizer = getattr(optim, name)(problem.params, lr=schedule)

    def follow(t):
        assert optimizer.param_groups[0]["lr"] == schedule.at(t + 1)
        theirs.param_groups[0]["lr"] = schedule.at(t + 1)

    both = (problem, optimizer), (other, theirs)
    run(both, after=follow)
    assert_equal(both)


@named
def test_hooks_and_zero_grad_are_those_of_torch(name):
    (problem, optimizer), _ = pair(name)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    problem.blow()
    optimizer.step()
    optimizer.zero_grad()
    assert seen == ["before", "after"]
    assert all(p.grad is None for p in problem.params)
    assert repr(optimizer).startswith(f"{name} (")


def test_adam_in_torch_takes_the_beta_of_the_moment_and_ours_by_rule_the_product():
    """The two differ exactly where β changes, and nowhere else."""
    for changed, equal in ((0.9, True), (0.5, False)):
        by_name, by_rule = Problem(), Problem()
        named_one = optim.Adam(by_name.params, lr=0.1)
        ruled = optim.Optimizer(by_rule.params, rules.adam(lr=0.1))
        for t in range(10):
            if t == 5:
                named_one.param_groups[0]["betas"] = (changed, 0.999)
                ruled.param_groups[0]["beta1"] = changed
            for problem, optimizer in ((by_name, named_one), (by_rule, ruled)):
                problem.blow()
                optimizer.step()
        assert (deviation(by_name.values(), by_rule.values()) < 1e-12) is equal


def test_the_slides_heavy_ball_is_torchs_momentum_only_while_the_rate_is_constant():
    for factor, equal in ((1.0, True), (0.9, False)):
        ball, sums = Problem(), Problem()
        slide = optim.Optimizer(ball.params, rules.momentum(lr=0.05, beta=0.9))
        torchs = torch.optim.SGD(sums.params, lr=0.05, momentum=0.9)
        for _ in range(STEPS):
            for problem, optimizer in ((ball, slide), (sums, torchs)):
                problem.blow()
                optimizer.step()
                optimizer.param_groups[0]["lr"] *= factor
        assert (deviation(ball.values(), sums.values()) < 1e-12) is equal


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: optim.SGD(p, lr=-1.0), r"^SGD\(lr=-1\): lr is the learning rate: the step for a direction of size 1 and must be at least 0; got -1$"),
        (lambda p: optim.SGD(p, lr=math.nan), r"SGD\(lr=nan\): .* at least 0; got nan"),
        (lambda p: optim.SGD(p, lr="0.1"), r"SGD\(lr='0.1'\): .*, a number at least 0; got a str"),
        (lambda p: optim.SGD(p, lr=torch.ones(2)), r"SGD\(lr=tensor.*\): .*; got a Tensor"),
        (lambda p: optim.SGD(p, momentum=1.5), r"SGD\(momentum=1.5\): .* must be in \[0, 1\); got 1.5"),
        (lambda p: optim.SGD(p, dampening=2.0), r"SGD\(dampening=2\): .* in \[0, 1\]; got 2"),
        (lambda p: optim.SGD(p, nesterov=True), r"SGD\(nesterov=True\) requires a momentum above 0 and dampening 0, got momentum=0"),
        (lambda p: optim.Adagrad(p, lr_decay=-0.5), r"Adagrad\(lr_decay=-0.5\): .* per step"),
        (lambda p: optim.Adagrad(p, initial_accumulator_value=-1.0), r"initial_accumulator_value=-1.*squared units"),
        (lambda p: optim.RMSprop(p, alpha=1.0), r"RMSprop\(alpha=1\): .* must be in \[0, 1\)"),
        (lambda p: optim.RMSprop(p, eps=-1.0), r"RMSprop\(eps=-1\): eps is added to a denominator, in the unit of the gradient"),
        (lambda p: optim.Adam(p, betas=(1.0, 0.9)), r"Adam\(betas\[0\]=1\): .* in \[0, 1\); got 1"),
        (lambda p: optim.Adam(p, betas=(0.9, None)), r"Adam\(betas=.*\): betas\[1\] is .*, a number in \[0, 1\)"),
        (lambda p: optim.Adam(p, betas=0.9), r"Adam\(betas=0.9\): betas is a pair of numbers"),
        (lambda p: optim.Adadelta(p, rho=1.0), r"Adadelta\(rho=1\): .* must be in \[0, 1\)"),
        (lambda p: optim.NAdam(p, momentum_decay=-1.0), r"NAdam\(momentum_decay=-1\): momentum_decay is how fast the momentum comes up"),
        (lambda p: optim.RAdam(p, betas=(0.9, 1.0)), r"RAdam\(betas\[1\]=1\)"),
        (lambda p: optim.Adamax(p, eps=-1.0), r"Adamax\(eps=-1\): eps is added to a denominator"),
        (lambda p: optim.AdamW(p, weight_decay=-1), r"AdamW\(weight_decay=-1\): weight_decay is the weight decay"),
        (lambda p: optim.AdamW(p, foreach=True), r"AdamW\(foreach=True\) is not supported here: leave foreach out"),
        (lambda p: optim.Adam(p, capturable=True), r"Adam\(capturable=True\) is not supported"),
        (lambda p: optim.SGD([{"params": p, "lr": -2.0}]), r"SGD\(lr=-2\)"),
        (lambda p: optim.SGD([{"params": p, "weight_deacy": 0.1}]), r"has 'weight_deacy', which nothing reads: did you mean 'weight_decay'"),
    ],
)  # fmt: skip
def test_a_bad_hyperparameter_teaches(make, said):
    with pytest.raises(BadValue, match=said):
        make([torch.nn.Parameter(torch.zeros(2))])


def test_a_number_that_went_bad_in_training_teaches():
    (problem, optimizer), _ = pair("AdamW")
    run([(problem, optimizer)], 2)
    optimizer.param_groups[0]["lr"] = math.nan
    before = problem.values()
    with pytest.raises(BadValue, match="lr=nan"):
        run([(problem, optimizer)], 1)
    assert all(torch.equal(a, b) for a, b in zip(problem.values(), before, strict=True))


def test_sparse_gradients_are_refused():
    table = torch.nn.Embedding(4, 2, sparse=True)
    optimizer = optim.SGD(table.named_parameters(), lr=0.1)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(BadValue, match=r"the gradient of parameter 'weight' is sparse, .* pass sparse=False"):
        optimizer.step()


def test_a_schedule_and_a_torch_scheduler_do_not_share_a_number():
    (problem, _), _ = pair("SGD")
    optimizer = optim.SGD(problem.params, lr=schedules.cosine(0.1, 10))
    lr_scheduler.LambdaLR(optimizer, lambda t: 1.0)
    problem.blow()
    with pytest.raises(
        BadRule,
        match=r"^lr of parameter group 0 follows cosine\(.*\), and a torch scheduler or an assignment",
    ):
        optimizer.step()
    optimizer = optim.SGD(problem.params, lr=0.1, momentum=schedules.constant(0.5))
    optimizer.param_groups[0]["momentum"] = 0.7
    with pytest.raises(BadRule, match=r"momentum of parameter group 0 .* set it to 0.7 too"):
        optimizer.step()
