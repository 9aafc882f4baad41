"""What a rule may ask: the Fisher matrix against per-example Jacobians, Kronecker factors against hooks and loops."""

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

import fallline as fl
from fallline import layers, losses, rules
from fallline.errors import BadRule, BadTask
from fallline.fleet.oracle import Question
from fallline.rules.reference.kfac import dense_solution

from .cases import check_same, classification, numbers, train

N = 8


class Patches(nn.Module):
    """A convolution with a stride, padding and a dilation, and one with its input's size kept."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2))
        self.second = nn.Conv2d(3, 2, (1, 3), padding="same", bias=False)
        self.out = nn.Linear(2 * 2 * 6, 3)

    def forward(self, x):
        return self.out(self.second(torch.tanh(self.first(x))).flatten(1))


class Attention(nn.Module):
    """Attention whose queries, keys and values are one product, and the mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.attend(x, x, x, need_weights=False)[0]).mean(1))


class Apart(nn.Module):
    """The same attention, of linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.back, self.out = nn.Linear(4, 12), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (2, 2)).transpose(1, 2) for t in self.into(x).chunk(3, -1))
        heads = ((q @ k.mT / 2**0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
        return self.out(torch.tanh(self.back(heads)).mean(1))


def two_layers():
    return layers.mlp(4, 3, 3, activation="tanh")


MODELS = {"linear": (two_layers, (4,)), "convolution": (Patches, (2, 4, 4)), "attention": (Attention, (3, 4))}


@functools.cache
def asked(name, kind="classes", seed=1, step=2):
    """A step of a model, of which things are asked; and its module."""
    make, shape = MODELS[name]
    X = numbers(3, 40, *shape)
    target = np.arange(40) % 3 if kind == "classes" else numbers(4, 40, 3)
    loss = losses.cross_entropy if kind == "classes" else losses.mse
    task = fl.Task.supervised(make, (X, target), loss=loss, dtype=torch.float64)
    first = task.init(0)
    batch = {name: column[:N] for name, column in task.parts["train"].items()}
    place = torch.tensor(seed), torch.tensor(step)
    return Question(task, *first, batch, task.first_numbers(), *place, lambda tree: tree), task.module


def dense(question, kind):
    """The Fisher matrix of the oracle, column by column."""
    sizes = {n: p.numel() for n, p in question.params.items()}
    product, columns = question.fisher_vp(kind), []
    for row in torch.eye(sum(sizes.values()), dtype=torch.float64):
        parts = row.split(list(sizes.values()))
        v = {n: part.reshape(question.params[n].shape) for n, part in zip(sizes, parts, strict=True)}
        columns.append(torch.cat([t.flatten() for t in product(v).values()]))
    return torch.stack(columns, 1)


def jacobians(question, module):
    """∂f/∂w of each example, [examples, outputs, weights], and the outputs."""

    params = {name: p.detach().requires_grad_() for name, p in question.params.items()}
    z = functional_call(module, params, (question.batch["inputs"],))

    def row(number):
        found = torch.autograd.grad(number, list(params.values()), retain_graph=True, allow_unused=True)
        pairs = zip(found, params.values(), strict=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])

    return torch.stack([torch.stack([row(number) for number in example]) for example in z]), z.detach()


@pytest.mark.parametrize("name", MODELS)
def test_the_exact_fisher_is_that_of_dense_jacobians(name):
    question, module = asked(name)
    J, z = jacobians(question, module)
    p = z.softmax(1)
    H = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    torch.testing.assert_close(dense(question, "exact"), torch.einsum("nka,nkl,nlb->ab", J, H, J) / N)


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_the_empirical_fisher_is_that_of_dense_gradients(kind):
    question, module = asked("linear", kind)
    J, z = jacobians(question, module)
    y = question.batch["target"]
    s = z.softmax(1) - F.one_hot(y, 3) if kind == "classes" else 2 * (z - y)
    g = torch.einsum("nka,nk->na", J, s)
    torch.testing.assert_close(dense(question, "empirical"), g.T @ g / N)


def test_of_squares_the_exact_fisher_is_the_gauss_newton_matrix():
    question, module = asked("linear", "numbers")
    J, _ = jacobians(question, module)
    torch.testing.assert_close(dense(question, "exact"), 2 * torch.einsum("nka,nkb->ab", J, J) / N)


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_sampled_targets_average_to_the_exact_fisher(kind):
    """Within five standard errors of its trace, and of one direction."""
    draws = [torch.diag(dense(asked("linear", kind, seed=1, step=t)[0], "sampled")) for t in range(60)]
    exact = torch.diag(dense(asked("linear", kind)[0], "exact"))
    seen = torch.stack(draws)
    error = seen.std(0) / len(draws) ** 0.5
    assert bool(((seen.mean(0) - exact).abs() <= 5 * error + 1e-12).all())
    assert not torch.equal(draws[0], draws[1])


# --- Kronecker factors ------------------------------------------------------------------------------------


def by_hooks(question, module, targets):
    """Factors of linear layers and convolutions by hooks on modules and autograd, an example at a time.

    Args:
        targets: for each example, the gradients of its own loss by its outputs, one for each target.
    """
    module.load_state_dict(question.params)
    parts = {n: m for n, m in module.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    found = {name: [0.0, 0.0, 0] for name in parts}
    for x, slopes in zip(question.batch["inputs"], targets, strict=True):
        z, seen = looked_into(module, parts, x[None])
        for name, (part, given, out) in seen.items():
            a = patches(part, given)
            found[name][0] = found[name][0] + a.T @ a
            found[name][2] += len(a)
            for slope in slopes:
                (g,) = torch.autograd.grad(z, out, slope[None], retain_graph=True)
                g = g.reshape(-1, g.shape[-1]) if isinstance(part, nn.Linear) else g[0].flatten(1).T
                found[name][1] = found[name][1] + g.T @ g / N
    return {f"{name}.weight": (a.detach() / rows, g) for name, (a, g, rows) in found.items()}


def looked_into(module, parts, x):
    """What a module gives, and each of its parts with what it was given and gave."""
    seen = {}

    def note(name):
        return lambda m, a, out: seen.update({name: (m, a[0], out)})

    handles = [part.register_forward_hook(note(name)) for name, part in parts.items()]
    z = module(x)
    for handle in handles:
        handle.remove()
    return z, seen


def patches(part, given):
    """The inputs of each position of a layer, with a 1 behind them; a convolution's by walking over the picture."""
    if isinstance(part, nn.Linear):
        rows = list(given.reshape(-1, given.shape[-1]))
    else:
        (h, w), (dh, dw), (sh, sw) = part.kernel_size, part.dilation, part.stride
        if part.padding == "same":
            below, right = dh * (h - 1), dw * (w - 1)
            given = F.pad(given, (right // 2, right - right // 2, below // 2, below - below // 2))
        else:
            given = F.pad(given, (part.padding[1], part.padding[1], part.padding[0], part.padding[0]))
        last = given.shape[2] - dh * (h - 1), given.shape[3] - dw * (w - 1)
        rows = [
            torch.stack(
                [given[0, :, i + a * dh, j + b * dw] for a in range(h) for b in range(w)], 1
            ).flatten()
            for i in range(0, last[0], sh)
            for j in range(0, last[1], sw)
        ]
    return torch.stack([torch.cat([row, torch.ones(1, dtype=row.dtype)]) for row in rows])


def slopes_of(question, kind):
    z = question.outputs(question.params)
    return torch.stack(question.slopes(kind, z), 1) * N


@pytest.mark.parametrize("kind", ["exact", "sampled", "empirical"])
@pytest.mark.parametrize("name", ["linear", "convolution"])
def test_factors_are_those_of_hooks_and_loops(name, kind):
    question, _ = asked(name)
    expected = by_hooks(question, MODELS[name][0]().double(), slopes_of(question, kind))
    found = question.kron_factors(kind)
    assert set(found) == set(expected)
    for weight, pair in expected.items():
        torch.testing.assert_close(tuple(found[weight]), pair)


def test_factors_of_attention_are_those_of_its_linear_layers():
    question, _ = asked("attention")
    names = {
        "attend.in_proj_weight": "into.weight", "attend.in_proj_bias": "into.bias", "attend.out_proj.weight": "back.weight",
        "attend.out_proj.bias": "back.bias",
    }  # fmt: skip
    own = {names.get(name, name): p for name, p in question.params.items()}
    twin = Question(**{**vars(question), "params": own})
    expected = by_hooks(twin, Apart().double(), slopes_of(question, "sampled"))
    found = question.kron_factors("sampled")
    assert {names.get(name, name) for name in found} == set(expected)
    for name, pair in found.items():
        torch.testing.assert_close(tuple(pair), expected[names.get(name, name)])


def test_factors_of_one_example_are_the_fisher_matrix_itself():
    question, _ = asked("linear")
    one = Question(
        **{**vars(question), "batch": {name: column[:1] for name, column in question.batch.items()}}
    )
    a, g = one.kron_factors("exact")["1.weight"]
    whole = dense(one, "exact")
    start = sum(p.numel() for name, p in one.params.items() if name not in ("1.weight", "1.bias"))
    assert next(iter(one.params)) == "1.weight"
    size = one.params["1.weight"].numel()
    torch.testing.assert_close(torch.kron(g, a[:-1, :-1]), whole[:size, :size])
    assert start < len(whole)


@pytest.mark.parametrize("name", MODELS)
def test_a_step_of_kfac_is_that_of_dense_kronecker_products(name):
    """Weight and bias together, for linear layers, convolutions and the projections of attention."""
    question, _ = asked(name)
    gradient, value = question.grad_at(question.params)
    rule = rules.precondition_by_kfac(0.3, 0.9)
    state = rules.init(rule, question.params)
    step, _, _ = rules.update(rule, gradient, state, question.params, None, question.oracle(value))
    for weight, (a, g) in question.kron_factors("sampled").items():
        bias = weight.removesuffix("weight") + "bias"
        whole = gradient[weight].flatten(1)
        if bias in gradient:
            whole = torch.cat([whole, gradient[bias][:, None]], 1)
        else:
            a = a[:-1, :-1]
        expected = dense_solution(a.numpy(), g.detach().numpy(), whole.numpy(), 0.3)
        found = step[weight].flatten(1)
        found = torch.cat([found, step[bias][:, None]], 1) if bias in step else found
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-9, atol=1e-12)


def test_a_weight_that_is_used_twice_counts_both_uses():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.again, self.out = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.out(torch.tanh(self.again(torch.tanh(self.again(x)))))

    task = fl.Task.supervised(Twice, (numbers(3, 40, 4), np.arange(40) % 3), loss=losses.cross_entropy)
    batch = {name: column[:N] for name, column in task.parts["train"].items()}
    question = Question(task, *task.init(0), batch, {}, *torch.tensor([1, 2]), lambda tree: tree)
    weight, bias = question.params["again.weight"], question.params["again.bias"]
    x = batch["inputs"]
    seen = torch.cat([x, torch.tanh(F.linear(x, weight, bias))])
    seen = torch.cat([seen, torch.ones(len(seen), 1)], 1)
    torch.testing.assert_close(question.kron_factors("sampled")["again.weight"][0], seen.T @ seen / len(seen))


# --- in a fleet -------------------------------------------------------------------------------------------

RULES = [
    rules.kfac(lr=0.05, damping=0.1), rules.natural_gradient(lr=0.3, fisher="sampled"), rules.sam(rules.sgd(lr=0.1)),
    rules.lbfgs(lr=0.5, search="backtracking", trials=3), rules.soap(lr=0.01, eps=1e-3), rules.muon(), rules.shampoo(),
]  # fmt: skip


@pytest.mark.parametrize("name", ["convolution", "attention"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_convolutions_and_attention_train_in_a_fleet_as_alone(name, rule):
    """With damping of its own for each run, where there is one; bit for bit in fleets of any size."""
    make, shape = MODELS[name]
    data = numbers(3, 30, *shape), np.arange(30) % 3
    task = fl.Task.supervised(make, data, loss=losses.cross_entropy, dtype=torch.float64)
    number = "damping" if "damping" in rule.numbers else next(iter(rule.numbers), "0.lr")
    base = dict(fl.specs.flatten(rule))[number]
    runs = [fl.Run(rule.replace(**{number: base * share}), seed=i) for i, share in enumerate((1.0, 0.5, 0.1))]
    whole = train(task, runs, steps=3, executor="traced")
    check_same(train(task, runs[1:], steps=3, executor="traced"), whole[1:])
    for record in train(task, runs[:1], steps=3, executor="alone"):
        for weight, w in record.weights.items():
            np.testing.assert_allclose(whole[0].weights[weight], w, rtol=1e-6, atol=1e-8)


def test_runs_of_different_widths_are_not_padded_for_a_rule_that_sees_shapes():
    def make(width: int = 4):
        return layers.mlp(6, width, 3, activation="tanh")

    task = fl.Task.supervised(make, (numbers(1, 40, 6), np.arange(40) % 3), loss=losses.cross_entropy)
    runs = [fl.Run(rules.muon(scale="spectral"), model={"width": w}) for w in (3, 5)]
    both = train(task, runs)
    for run, record in zip(runs, both, strict=True):
        alone = train(task, [run])[0]
        check_same([alone], [record])
        assert record.weights["1.weight"].shape[0] == run.model["width"]


# --- what is refused --------------------------------------------------------------------------------------


def test_a_task_without_a_model_has_no_fisher_matrix():
    bowl = fl.Task(
        "bowl", lambda seed: fl.tasks.Variables({"w": torch.ones(2)}, {}),
        lambda p, b, batch, h: ((p["w"] ** 2).sum(), b), lambda p, b, batch, h: {"loss": (p["w"] ** 2).sum()},
        {}, fl.tasks.Metric("distance", "lower"),
    )  # fmt: skip
    question = Question(bowl, {"w": torch.ones(2)}, {}, {}, {}, *torch.tensor([1, 2]), lambda tree: tree)
    with pytest.raises(
        BadTask, match="the Fisher matrix is that of a model's outputs, and bowl has no model"
    ):
        question.fisher_vp("exact")
    gradient, value = question.grad_at({"w": torch.tensor([2.0, 0.0])})
    assert (gradient["w"].tolist(), float(value)) == ([4.0, 0.0], 4.0)


def test_exact_factors_of_sequences_are_refused():
    make = lambda: nn.Conv1d(2, 3, 1)  # noqa: E731
    data = numbers(3, 40, 2, 5), np.arange(200).reshape(40, 5) % 3
    task = fl.Task.supervised(make, data, loss=losses.cross_entropy, score="loss")
    batch = {name: column[:N] for name, column in task.parts["train"].items()}
    question = Question(task, *task.init(0), batch, {}, *torch.tensor([1, 2]), lambda tree: tree)
    with pytest.raises(BadTask, match=r"would need a gradient for each of \[3, 5\] outputs"):
        question.kron_factors("exact")
    assert question.kron_factors("sampled") == {}


def test_a_matrix_that_no_layer_uses_has_no_factors():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 3))

        def forward(self, x):
            return x @ self.weight

    task = fl.Task.supervised(Own, (numbers(3, 40, 6), np.arange(40) % 3), loss=losses.cross_entropy)
    with pytest.raises(
        BadRule, match="'weight' is a matrix that no linear layer, convolution or attention uses"
    ):
        train(task, [fl.Run(rules.kfac())], executor="traced")


def test_groups_of_channels_have_no_factors():
    task = classification()
    assert task.module is not None
    model = lambda: nn.Sequential(nn.Conv2d(2, 4, 2, groups=2), nn.Flatten(), nn.Linear(16, 3))  # noqa: E731
    data = numbers(3, 40, 2, 3, 3), np.arange(40) % 3
    task = fl.Task.supervised(model, data, loss=losses.cross_entropy)
    with pytest.raises(BadRule, match=r"'0.weight' is a matrix that no linear layer"):
        train(task, [fl.Run(rules.kfac())], executor="traced")
