"""The diagonal of the Fisher information, against one that is written out densely, and by chance within a bound."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev

from fallline import losses
from fallline.errors import BadValue

N, INPUTS, CLASSES = 7, 4, 3


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network():
    model = nn.Sequential(
        nn.Linear(INPUTS, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, CLASSES)
    ).double()
    for i, p in enumerate(model.parameters()):
        p.data = random(*p.shape, seed=i)
    return model


X, LABELS = random(N, INPUTS, seed=20), torch.arange(N) % CLASSES


def slopes(model, x):
    """∂z/∂w of one example, [outputs, weights], and the outputs; without any of ours."""
    params = {name: p.detach() for name, p in model.named_parameters()}

    def outputs(params):
        return functional_call(model, params, (x.unsqueeze(0),)).squeeze(0)

    found = jacrev(outputs)(params)
    return torch.cat([found[name].flatten(1) for name in params], 1), outputs(params)


def dense(model, likelihood="categorical"):
    """F = 1/N Σ_n J_nᵀ (diag p − p pᵀ) J_n for classes, 1/N Σ_n J_nᵀ J_n for unit normal outputs: [weights, weights]."""
    model.eval()
    total = 0.0
    for x in X:
        J, z = slopes(model, x)
        p = z.softmax(0)
        inner = (
            torch.diag(p) - torch.outer(p, p) if likelihood == "categorical" else torch.eye(len(z)).double()
        )
        total = total + J.T @ inner @ J
    return total / N


def scores(model, x):
    """∂ log p(y | x)/∂w for each class y, [classes, weights]."""
    J, z = slopes(model.eval(), x)
    return J - z.softmax(0) @ J, z.softmax(0)


def flat(tree):
    return torch.cat([t.flatten() for t in tree.values()])


@pytest.mark.parametrize("likelihood", ["categorical", "normal"])
@pytest.mark.parametrize("together", [1, 3, 64])
def test_exact_is_the_diagonal_of_the_dense_one(likelihood, together):
    model = network()
    found = losses.fisher_diagonal(model, X, likelihood=likelihood, together=together)
    assert {name: t.shape for name, t in found.items()} == {n: p.shape for n, p in model.named_parameters()}
    torch.testing.assert_close(flat(found), dense(network(), likelihood).diagonal(), rtol=1e-10, atol=1e-12)


def test_empirical_squares_the_score_of_each_label():
    model = network()
    found = flat(losses.fisher_diagonal(model, (X, LABELS), kind="empirical"))
    each = torch.stack([scores(network(), x)[0][y] for x, y in zip(X, LABELS, strict=True)])
    torch.testing.assert_close(found, (each**2).mean(0), rtol=1e-10, atol=1e-12)
    of_the_mean = each.mean(0) ** 2  # what a batch's gradient would give: never more, by Jensen
    assert (of_the_mean <= found + 1e-12).all()
    assert of_the_mean.sum() < 0.9 * found.sum()


def test_empirical_for_numbers():
    target = random(N, CLASSES, seed=30)
    found = flat(
        losses.fisher_diagonal(network(), (X, target), kind="empirical", likelihood="normal", together=2)
    )
    model, each = network().eval(), []
    for x, y in zip(X, target, strict=True):
        J, z = slopes(model, x)
        each.append((y - z) @ J)
    torch.testing.assert_close(found, (torch.stack(each) ** 2).mean(0), rtol=1e-10, atol=1e-12)


def test_sampled_is_exact_on_average():
    """By Hoeffding: a mean of independent numbers in [0, m_n] is off by more than the bound once in a billion."""
    samples, chance = 400, 1e-9
    model = network()
    found = flat(losses.fisher_diagonal(model, X, kind="sampled", samples=samples, seed=1))
    most = torch.stack([(scores(network(), x)[0] ** 2).amax(0) for x in X])
    spread = ((most**2).sum(0) * samples).sqrt()
    bound = spread * math.sqrt(math.log(2 * len(found) / chance) / 2) / (N * samples)
    exact = dense(network()).diagonal()
    assert ((found - exact).abs() <= bound + 1e-12).all()
    assert bound.sum() < exact.sum()  # a bound that says something


def test_sampled_for_numbers_is_exact_on_average():
    """For a linear model scores are ε x, ε normal; Laurent and Massart bound Σ a (ε² − 1) but once in a billion."""
    model, samples = nn.Linear(INPUTS, 1).double(), 2000
    found = losses.fisher_diagonal(model, X, kind="sampled", likelihood="normal", samples=samples)["weight"]
    t = math.log(2 * INPUTS / 1e-9)
    share = X**2 / (N * samples)
    bound = 2 * (t * samples * (share**2).sum(0)).sqrt() + 2 * t * share.amax(0)
    exact = (X**2).mean(0)
    assert ((found.squeeze(0) - exact).abs() <= bound).all()
    assert (bound < exact).all()


def test_draws_are_the_seeds():
    model = network()

    def drawn(seed):
        return flat(losses.fisher_diagonal(model, X, kind="sampled", seed=seed))

    before = torch.random.get_rng_state()
    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_model_is_left_as_it_was():
    model = network()
    model[1].eval()
    model[0].bias.requires_grad_(requires_grad=False)
    modes, state = (
        [part.training for part in model.modules()],
        {k: t.clone() for k, t in model.state_dict().items()},
    )
    found = losses.fisher_diagonal(model, (X, LABELS), kind="sampled")
    assert "0.bias" not in found
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(t, state[k]) for k, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (lambda: losses.fisher_diagonal(lambda x: x, X), r"^fisher_diagonal takes a model, an nn.Module, got a function"),
        (lambda: losses.fisher_diagonal(network(), X, kind="exakt"), r"^fisher_diagonal\(kind='exakt'\): kind is one of exact, "
         "sampled, empirical; did you mean 'exact'"),
        (lambda: losses.fisher_diagonal(network(), X, likelihood="gauss"), r"\(likelihood='gauss'\): likelihood is one of categ"),
        (lambda: losses.fisher_diagonal(network(), X, samples=0), r"^fisher_diagonal\(samples=0\): samples must be a whole numb"),
        (lambda: losses.fisher_diagonal(network(), X, together=1.5), r"^fisher_diagonal\(together=1.5\): together must be"),
        (lambda: losses.fisher_diagonal(network(), X[:0]), r"^fisher_diagonal takes inputs as a tensor with at least one example"),
        (lambda: losses.fisher_diagonal(network(), [1.0]), r"or \(inputs, target\); got a list$"),
        (lambda: losses.fisher_diagonal(network(), X, kind="empirical"), r"^the empirical Fisher needs a label for each of the 7 "
         "examples: pass"),
        (lambda: losses.fisher_diagonal(network(), (X, LABELS[:3]), kind="empirical"), r"needs a label for each of the 7 examples"),
        (lambda: losses.fisher_diagonal(network(), (X, LABELS.double()), kind="empirical"), r"^the target of a categorical likelihood"
         r" is \[7\], class numbers; got \[7\] of torch\.float64"),
        (lambda: losses.fisher_diagonal(network(), (X, LABELS), likelihood="normal"), r"likelihood is \[7, 3\], numbers; got \[7\]"),
        (lambda: losses.fisher_diagonal(nn.Flatten(0), X), r"^the model Flatten has no parameters that are trained: nothing to hold"),
        (lambda: losses.fisher_diagonal(nn.Sequential(nn.Linear(4, 2).double(), nn.Unflatten(1, (1, 2))), X), r"^fisher_diagonal "
         r"needs a model that gives one row for each example, \[examples, outputs\]; got \[1, 1, 2\]"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(given, sentence):
    with pytest.raises(BadValue, match=sentence):
        given()
