"""Inside ``Noise``, torch's random functions draw from a run's own stream, and otherwise do what torch's do."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from fallline import rng
from fallline.errors import BadTask

ALPHA = 1e-4
ON = True


def noise(seed=0, step=0):
    return rng.Noise(torch.tensor(seed), torch.tensor(step))


def drawn(function, seed=0, step=0):
    with noise(seed, step):
        return function()


X = torch.randn(40, 6, 5, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(30, 8, 4, 4, generator=torch.Generator().manual_seed(0))
VOLUMES = torch.randn(10, 8, 2, 3, 4, generator=torch.Generator().manual_seed(0))
SHARE = torch.full((50, 40), 0.3)

DROPOUTS = {
    "dropout": (F.dropout, X),
    "torch.dropout": (torch.dropout, X),
    "feature_dropout": (torch.feature_dropout, IMAGES),
    "dropout1d": (F.dropout1d, X),
    "dropout2d": (F.dropout2d, IMAGES),
    "dropout3d": (F.dropout3d, VOLUMES),
}
DRAWS = {
    **{name: lambda f=f, x=x: f(x, 0.3, ON) for name, (f, x) in DROPOUTS.items()},
    "rand": lambda: torch.rand(50, 40),
    "randn": lambda: torch.randn(50, 40),
    "rand_like": lambda: torch.rand_like(SHARE),
    "randn_like": lambda: torch.randn_like(SHARE),
    "bernoulli": lambda: torch.bernoulli(SHARE),
    "Tensor.bernoulli": lambda: SHARE.bernoulli(),
    "attention": lambda: F.scaled_dot_product_attention(X, X, X, dropout_p=0.3),
    "module": lambda: nn.Dropout(0.3).train()(X),
    "attention module": lambda: nn.MultiheadAttention(5, 1, dropout=0.3, batch_first=True).train()(X, X, X)[
        0
    ],
}
STREAM = [name for name in DRAWS if name != "attention module"]


@pytest.mark.parametrize("name", STREAM)
def test_a_stream_is_its_seed_its_step_and_its_site(name):
    draw = DRAWS[name]
    assert torch.equal(drawn(draw), drawn(draw))
    assert not torch.equal(drawn(draw), drawn(draw, seed=1))
    assert not torch.equal(drawn(draw), drawn(draw, step=1))
    with noise():
        first, second = draw(), draw()
    assert torch.equal(first, drawn(draw))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", STREAM)
def test_torchs_own_generator_is_not_touched(name):
    before = torch.random.get_rng_state()
    inside = drawn(DRAWS[name])
    assert torch.equal(before, torch.random.get_rng_state())
    outside = DRAWS[name]()
    assert not torch.equal(before, torch.random.get_rng_state())
    torch.random.set_rng_state(before)
    assert (inside.shape, inside.dtype) == (outside.shape, outside.dtype)


@pytest.mark.parametrize("name", STREAM)
def test_by_vmap_it_is_bit_for_bit_the_loop(name):
    seeds, steps = torch.arange(4), torch.tensor([0, 0, 5, 9])

    def one(seed, step):
        with rng.Noise(seed, step):
            return DRAWS[name]()

    loop = torch.stack([one(seed, step) for seed, step in zip(seeds, steps, strict=True)])
    together = torch.func.vmap(one)(seeds, steps)
    if "attention" in name:  # it multiplies matrices, whose sums a fleet may order in another way
        torch.testing.assert_close(together, loop, rtol=1e-5, atol=1e-6)
    else:
        assert torch.equal(together, loop)


@pytest.mark.parametrize("name", DROPOUTS)
def test_dropout_at_its_ends_is_torchs(name):
    function, x = DROPOUTS[name]
    for p, training in ((0.0, True), (1.0, True), (0.4, False), (0.0, False), (1.0, False)):
        assert torch.equal(drawn(lambda p=p, t=training: function(x, p, t)), function(x, p, training))
        double = drawn(lambda p=p, t=training: function(x.double(), p, t))
        assert double.dtype == torch.float64
    for p in (-0.1, 1.1):
        with pytest.raises(
            (ValueError, RuntimeError), match="dropout probability has to be between 0 and 1, but got"
        ):
            drawn(lambda p=p: function(x, p, ON))
        with pytest.raises(
            (ValueError, RuntimeError), match="dropout probability has to be between 0 and 1, but got"
        ):
            function(x, p, ON)


@pytest.mark.parametrize("name", DROPOUTS)
def test_dropout_drops_its_share_and_scales_the_rest(name):
    function, x = DROPOUTS[name]
    out = drawn(lambda: function(x, 0.3, ON))
    kept = out != 0
    torch.testing.assert_close(out[kept], (x / 0.7)[kept])
    if "feature" in name or name[-1] == "d":  # whole channels
        kept = kept.flatten(2)
        assert torch.equal(kept.all(2), kept.any(2))
        kept = kept.all(2)
    assert stats.binomtest(int(kept.sum()), kept.numel(), 0.7).pvalue > ALPHA


def test_dropout_of_channels_without_a_batch():
    for function, x in ((F.dropout1d, X[0]), (F.dropout3d, VOLUMES[0])):
        kept = drawn(lambda f=function, x=x: f(x, 0.5, ON)).flatten(1) != 0
        assert torch.equal(kept.all(1), kept.any(1))


def test_dropout_in_place_changes_its_input_as_torchs_does():
    x = X.clone()
    out = drawn(lambda: F.dropout(x, 0.3, ON, ON))
    assert out is x or out.data_ptr() == x.data_ptr()
    assert torch.equal(x, drawn(lambda: F.dropout(X, 0.3, ON)))


def test_dropout_passes_gradients_where_it_passes_values():
    x = X.clone().requires_grad_()
    out = drawn(lambda: F.dropout(x, 0.3))
    out.sum().backward()
    torch.testing.assert_close(x.grad, (out != 0) / 0.7)


@pytest.mark.parametrize("name", ["rand", "randn"])
def test_every_way_to_say_a_size(name):
    function = getattr(torch, name)
    expected = drawn(lambda: function(3, 4))
    for draw in (
        lambda: function((3, 4)),
        lambda: function([3, 4]),
        lambda: function(torch.Size((3, 4))),
        lambda: function(size=(3, 4)),
        lambda: function(3, 4, device="cpu"),
    ):
        assert torch.equal(drawn(draw), expected)
    assert drawn(lambda: function(3, dtype=torch.float64)).dtype == torch.float64
    assert drawn(lambda: function(3, requires_grad=True)).requires_grad
    assert drawn(lambda: function(())).shape == ()
    assert drawn(lambda: getattr(torch, f"{name}_like")(SHARE.double())).dtype == torch.float64
    assert drawn(lambda: getattr(torch, f"{name}_like")(SHARE, dtype=torch.float64)).dtype == torch.float64


def test_what_is_drawn_has_the_right_distribution():
    assert stats.kstest(drawn(DRAWS["rand"]).double().numpy().ravel(), "uniform").pvalue > ALPHA
    assert stats.kstest(drawn(DRAWS["randn"]).double().numpy().ravel(), "norm").pvalue > ALPHA
    for draw in (
        DRAWS["bernoulli"],
        DRAWS["Tensor.bernoulli"],
        lambda: torch.bernoulli(torch.zeros(50, 40), 0.3),
    ):
        ones = drawn(draw)
        assert set(ones.unique().tolist()) == {0.0, 1.0}
        assert stats.binomtest(int(ones.sum()), ones.numel(), 0.3).pvalue > ALPHA
    for p in (0.0, 1.0):
        assert torch.equal(drawn(lambda p=p: torch.full((9,), p).bernoulli()), torch.full((9,), p))


@pytest.mark.parametrize(
    "options",
    [{}, {"is_causal": True}, {"scale": 0.3}, {"attn_mask": torch.ones(6, 6, dtype=torch.bool).tril()},
     {"attn_mask": torch.arange(36.0).reshape(6, 6)}, {"attn_mask": torch.arange(6)[:, None].expand(6, 6) > 1}],
)  # fmt: skip
def test_attention_without_dropout_is_torchs_and_with_it_is_right_on_average(options):
    q, k, v = (X[i : i + 1].double() for i in range(3))
    exact = F.scaled_dot_product_attention(q, k, v, **options)
    quiet = drawn(lambda: F.scaled_dot_product_attention(q, k, v, **options))
    torch.testing.assert_close(quiet, exact, rtol=1e-12, atol=1e-12)
    n = 4000

    def many():
        many = (t.expand(n, *t.shape[1:]) for t in (q, k, v))
        return F.scaled_dot_product_attention(*many, dropout_p=0.25, **options)

    out = drawn(many)
    standard = out.std(0) / math.sqrt(n) + 1e-12
    assert ((out.mean(0) - exact[0]).abs() / standard).max() < stats.norm.isf(ALPHA / 2 / exact.numel())


def test_attention_with_grouped_heads():
    q, kv = torch.randn(1, 4, 5, 8, generator=torch.Generator().manual_seed(1)), X.new_ones(1, 2, 5, 8)
    with noise():
        out = F.scaled_dot_product_attention(q, kv, kv, dropout_p=0.5, enable_gqa=True)
    assert out.shape == (1, 4, 5, 8)


def test_attention_in_a_module_has_noise_of_its_own():
    with rng.seeded(0):
        module = nn.MultiheadAttention(5, 1, dropout=0.3, batch_first=True)
    for training in (True, False):
        module.train(training)
        for weights in (True, False):

            def draw(weights=weights):
                return module(X, X, X, need_weights=weights)[0]

            assert torch.equal(drawn(draw), drawn(draw))
            assert torch.equal(drawn(draw), drawn(draw, seed=1)) != training


with rng.seeded(0):
    LSTM, GRU = (kind(5, 3, 2, dropout=0.5, batch_first=True) for kind in (nn.LSTM, nn.GRU))

REFUSED = {
    "randint": lambda: torch.randint(3, (2,)),
    "randint_like": lambda: torch.randint_like(X, 3),
    "randperm": lambda: torch.randperm(3),
    "multinomial": lambda: torch.multinomial(torch.ones(3), 1),
    "normal": lambda: torch.normal(0.0, 1.0, (2,)),
    "poisson": lambda: torch.poisson(SHARE),
    "binomial": lambda: torch.binomial(SHARE, SHARE),
    "normal_": lambda: torch.zeros(2).normal_(),
    "uniform_": lambda: torch.zeros(2).uniform_(),
    "bernoulli_": lambda: torch.zeros(2).bernoulli_(),
    "random_": lambda: torch.zeros(2).random_(),
    "exponential_": lambda: torch.zeros(2).exponential_(),
    "geometric_": lambda: torch.zeros(2).geometric_(0.5),
    "cauchy_": lambda: torch.zeros(2).cauchy_(),
    "log_normal_": lambda: torch.zeros(2).log_normal_(),
    "alpha_dropout": lambda: F.alpha_dropout(X, 0.5, ON),
    "feature_alpha_dropout": lambda: F.feature_alpha_dropout(X, 0.5, ON),
    "rrelu": lambda: F.rrelu(X, training=True),
    "lstm": lambda: LSTM(X),
    "gru": lambda: GRU(X),
    "uniform_ of init": lambda: nn.init.uniform_(torch.zeros(2)),
    "normal_ of init": lambda: nn.init.normal_(torch.zeros(2)),
    "kaiming_uniform_": lambda: nn.init.kaiming_uniform_(torch.zeros(2, 2)),
    "exponential_ of gumbel": lambda: F.gumbel_softmax(torch.zeros(2)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_noise_that_cannot_be_placed_is_refused(name):
    function = name.split()[0]
    sentence = (
        rf"^the model draws noise by {function}, which cannot be placed per run: use dropout, rand, randn"
    )
    with pytest.raises(BadTask, match=sentence), noise():
        REFUSED[name]()


@pytest.mark.parametrize("option", ["generator", "out"])
def test_a_generator_of_ones_own_is_refused(option):
    value = torch.Generator() if option == "generator" else torch.zeros(3)
    with pytest.raises(
        BadTask, match=rf"^the model draws noise with {option}=…, which cannot be placed per run"
    ):
        drawn(lambda: torch.rand(3, **{option: value}))


def test_what_draws_nothing_is_not_refused():
    with rng.seeded(0):
        lstm = nn.LSTM(5, 3, 2, dropout=0.5, batch_first=True)
        single = nn.LSTM(5, 3, batch_first=True)
    for quiet in (
        lambda: lstm.eval()(X)[0],
        lambda: single.train()(X)[0],
        lambda: F.alpha_dropout(X, 0.5, not ON),
        lambda: F.rrelu(X, training=False),
        lambda: nn.init.ones_(torch.empty(3)),
        lambda: nn.init.constant_(torch.empty(3), 2.0),
    ):
        assert torch.equal(drawn(quiet), quiet())


def test_a_generator_that_all_share_is_noticed():
    for draw, whose in (
        (lambda: torch.rand(1), "torch"),
        (lambda: np.random.random(), "NumPy"),  # noqa: NPY002  (what is to be noticed)
    ):
        before = torch.random.get_rng_state(), np.random.get_state()  # noqa: NPY002
        with (
            pytest.raises(
                BadTask, match=rf"^the loss draws noise from the global generator of {whose}, so that a run"
            ),
            rng.untouched("the loss"),
        ):
            draw()
        torch.random.set_rng_state(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
    with rng.untouched("the loss"):
        drawn(DRAWS["rand"])


# --- a rate that is a tensor ------------------------------------------------------------------------------

RATES = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0], dtype=torch.float64)


@pytest.mark.parametrize("name", DROPOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dropout_by_a_tensor_is_dropout_by_its_number(name, dtype):
    function, x = DROPOUTS[name]
    x = x.to(dtype)
    for rate in RATES:
        fixed = drawn(lambda rate=rate: function(x, float(rate), ON))
        if float(rate) not in (0.0, 1.0):
            assert torch.equal(drawn(lambda rate=rate: function(x, rng.Rate(rate), ON)), fixed)
        assert torch.equal(drawn(lambda rate=rate: function(x, rng.Rate(rate), not ON)), x)
    exactly = (
        drawn(lambda: function(x, rng.Rate(RATES[0]), ON)),
        drawn(lambda: function(x, rng.Rate(RATES[-1]), ON)),
    )
    assert torch.equal(exactly[0], x)
    assert torch.equal(exactly[1], torch.zeros_like(x))


@pytest.mark.parametrize("name", DROPOUTS)
def test_dropout_with_a_rate_for_each_run_is_bit_for_bit_the_loop_and_has_finite_gradients(name):
    function, x = DROPOUTS[name]

    def one(rate, seed):
        def summed(x):
            out = function(x, rng.Rate(rate), ON)
            return (out**2).sum(), out

        with rng.Noise(seed, torch.tensor(0)):
            return torch.func.grad(summed, has_aux=True)(x)

    seeds = torch.arange(len(RATES))
    slopes, together = torch.func.vmap(one)(RATES, seeds)
    for i, rate in enumerate(RATES):
        slope, alone = one(rate, seeds[i])
        assert torch.equal(together[i], alone)
        torch.testing.assert_close(slopes[i], slope)
    assert torch.isfinite(slopes).all()
    assert torch.equal(slopes[0], 2 * x)
    assert not slopes[-1].any()


def test_dropout_by_a_tensor_can_be_in_place():
    x = X.clone()
    drawn(lambda: F.dropout(x, rng.Rate(RATES[1]), ON, ON))
    assert torch.equal(x, drawn(lambda: F.dropout(X, 0.1, ON)))


def test_a_rate_is_between_0_and_1_to_python_and_its_tensor_to_torch():
    rate = rng.Rate(torch.tensor(0.25))
    assert rate > 0
    assert rate < 1
    assert float(1 - rate) == 0.75
    assert float(rate * 2) == float(2 * rate) == 0.5
    assert torch.equal(drawn(lambda: torch.mul(torch.ones(3), rate)), torch.full((3,), 0.25))
    assert torch.equal(drawn(lambda: torch.add(torch.ones(3), other=rate)), torch.full((3,), 1.25))
