"""Optimizers with torch's names that see matrices or ask a closure, against torch's own."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fallline import optim, rules
from fallline.errors import BadRule, BadValue

from .cases import deviation


def data(dtype=torch.float64):
    random = torch.Generator().manual_seed(0)
    return torch.randn(30, 6, generator=random, dtype=dtype), torch.randint(0, 3, (30,), generator=random)


def network(dtype=torch.float64):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)).to(dtype)


def closure_of(optimizer, model, loss=None):
    x, y = data(next(model.parameters()).dtype)

    def closure():
        optimizer.zero_grad()
        value = F.cross_entropy(model(x), y) if loss is None else loss()
        value.backward()
        return value

    return closure


# --- Muon -------------------------------------------------------------------------------------------------

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon from 2.9 on")
GRID = {
    "lr": (0.02, 0.001),
    "weight_decay": (0.0, 0.1),
    "momentum": (0.0, 0.95),
    "nesterov": (False, True),
    "adjust_lr_fn": (None, "original", "match_rms_adamw"),
    "ns_steps": (1, 5),
}


@needs_muon
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_muon_is_torchs_muon_over_its_options(dtype):
    for values in itertools.product(*GRID.values()):
        options = dict(zip(GRID, values, strict=True))
        if dtype == torch.bfloat16 and not options["nesterov"]:
            continue  # torch scales its own buffer in place there, and so forgets the sizes of past gradients
        ours, theirs = ([p for p in network(dtype).parameters() if p.ndim == 2] for _ in range(2))
        first, second = optim.Muon(ours, **options), torch.optim.Muon(theirs, **options)
        random = torch.Generator().manual_seed(2)
        for _ in range(4):
            for a, b in zip(ours, theirs, strict=True):
                a.grad = torch.randn(a.shape, generator=random, dtype=torch.float64).to(dtype)
                b.grad = a.grad.clone()
            first.step()
            second.step()
        far = deviation([p.detach() for p in ours], [p.detach() for p in theirs])
        assert far <= 4 * torch.finfo(dtype).eps, options  # torch writes in place, and so rounds less often


@needs_muon
def test_muon_takes_the_schedulers_and_groups_of_torch():
    ours, theirs = network(), network()
    pairs = []
    for model, make in ((ours, optim.Muon), (theirs, torch.optim.Muon)):
        groups = [{"params": [model[0].weight], "lr": 0.1}, {"params": [model[2].weight], "momentum": 0.5}]
        optimizer = make(groups, lr=0.02)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        for _ in range(3):
            closure_of(optimizer, model)()
            optimizer.step()
            scheduler.step()
        pairs.append([p.detach() for p in model.parameters()])
    assert deviation(*pairs) < 1e-14


def test_muon_refuses_what_is_no_matrix_and_unknown_scales():
    with pytest.raises(BadValue, match=r"Muon takes matrices, got a parameter of shape \[9\]"):
        optim.Muon(network().parameters())
    weight = network()[0].weight
    with pytest.raises(BadValue, match="it is original, match_rms_adamw or None"):
        optim.Muon([weight], adjust_lr_fn="originl")
    with pytest.raises(BadValue, match=r"momentum is a decay rate per step"):
        optim.Muon([weight], momentum=1.5)


# --- L-BFGS -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [
    {}, {"lr": 0.5}, {"max_iter": 1}, {"max_iter": 4, "history_size": 3}, {"max_eval": 3}, {"tolerance_change": 1e-3},
    {"tolerance_grad": 0.05}, {"lr": 0.1, "max_iter": 7, "history_size": 1},
])  # fmt: skip
def test_lbfgs_is_torchs_without_a_line_search(options):
    models = network(), network()
    optimizers = (
        optim.LBFGS(models[0].parameters(), **options),
        torch.optim.LBFGS(models[1].parameters(), **options),
    )
    for _ in range(5):
        ours, theirs = (
            optimizer.step(closure_of(optimizer, model))
            for optimizer, model in zip(optimizers, models, strict=True)
        )
        assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-9, abs=1e-12)
        weights = [[p.detach() for p in model.parameters()] for model in models]
        assert deviation(*weights) < 1e-8


def penalized(model, scale=1.0):
    """The loss with a penalty that makes its minimum one point, times a scale."""
    x, y = data()

    def loss():
        return scale * (F.cross_entropy(model(x), y) + 0.1 * sum((p**2).sum() for p in model.parameters()))

    return loss


def test_lbfgs_with_a_line_search_reaches_what_torchs_reaches():
    losses = []
    for make in (optim.LBFGS, torch.optim.LBFGS):
        model = network()
        optimizer = make(model.parameters(), max_iter=200, max_eval=2000, line_search_fn="strong_wolfe")
        optimizer.step(closure_of(optimizer, model, penalized(model)))
        losses.append(float(penalized(model)().detach()))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_lbfgs_refuses_what_it_cannot_do():
    model = network()
    with pytest.raises(
        BadRule, match=r"LBFGS needs the loss several times a step: call optimizer.step\(closure\)"
    ):
        optim.LBFGS(model.parameters()).step()
    with pytest.raises(BadValue, match="LBFGS takes one parameter group, got 2"):
        optim.LBFGS([{"params": [p]} for p in model[0].parameters()])
    with pytest.raises(BadValue, match="it is strong_wolfe or None"):
        optim.LBFGS(model.parameters(), line_search_fn="wolfe")


# --- SAM --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_takes_the_gradient_of_autograd_from_uphill(adaptive):
    model, twin, (x, y) = network(), network(), data()
    optimizer = optim.SAM(model.named_parameters(), rules.sgd(lr=0.3), rho=0.2, adaptive=adaptive)
    for _ in range(3):
        optimizer.step(closure_of(optimizer, model))
        params = list(twin.parameters())
        here = torch.autograd.grad(F.cross_entropy(twin(x), y), params)
        sizes = [p.abs() + 0.01 if adaptive else torch.ones_like(p) for p in params]
        length = torch.cat([(t * g).flatten() for t, g in zip(sizes, here, strict=True)]).norm()
        moves = [0.2 * t**2 * g / length for t, g in zip(sizes, here, strict=True)]
        with torch.no_grad():
            torch._foreach_add_(params, moves)
        there = torch.autograd.grad(F.cross_entropy(twin(x), y), params)
        with torch.no_grad():
            torch._foreach_sub_(params, moves)
            torch._foreach_sub_(params, [0.3 * g for g in there])
    weights = [[p.detach() for p in m.parameters()] for m in (model, twin)]
    assert deviation(*weights) < 1e-12


def test_the_second_pass_has_the_noise_of_the_first_and_leaves_no_trace():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 50), nn.Dropout(0.5), nn.Linear(50, 3)).double()
    seen = []
    model[1].register_forward_hook(lambda module, args, out: seen.append(out == 0))
    optimizer = optim.SAM(model.parameters(), rules.sgd(lr=0.1))
    optimizer.step(closure_of(optimizer, model))
    after_one = torch.get_rng_state()
    assert torch.equal(seen[0], seen[1])
    torch.manual_seed(3)
    nn.Sequential(nn.Linear(6, 50), nn.Linear(50, 3))
    F.dropout(torch.ones(30, 50, dtype=torch.float64), 0.5)
    assert torch.equal(after_one, torch.get_rng_state())


def test_maximizing_is_descending_on_the_negated_loss():
    weights = []
    for maximize in (False, True):
        model = network()
        rule = rules.chain(rules.precondition_by_history(3), rules.search_line(0.1, 0.9))
        optimizer = optim.Optimizer(model.parameters(), rule, maximize=maximize)
        for _ in range(3):
            optimizer.step(closure_of(optimizer, model, penalized(model, -1.0 if maximize else 1.0)))
        weights.append([p.detach() for p in model.parameters()])
    assert deviation(*weights) < 1e-14


def test_a_rule_that_asks_is_told_how_a_loop_answers():
    model = network()
    optimizer = optim.SAM(model.parameters(), rules.sgd(lr=0.1))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    with pytest.raises(BadRule, match=r"needs grad_at beside the gradient: call optimizer.step\(closure\)"):
        optimizer.step()
    with pytest.raises(
        BadRule, match=r"needs kron_factors beside the gradient, which a torch loop does not give"
    ):
        optim.Optimizer(model.parameters(), rules.kfac())
