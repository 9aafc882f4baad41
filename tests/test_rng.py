"""Randomness by counting: the hash, the numbers made of it, and torch's random functions inside of ``Noise``.

Statistical tests have one false alarm in 10,000 each (ALPHA), with seeds that were fixed before the first run.
"""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from fallline import rng

ALPHA = 1e-4
KEYS = (0, 1, 2, 3, 2**62 - 1)
WORD = 1 << 64


# --- the hash ---------------------------------------------------------------------------------------------


def splitmix(x):
    """The finalizer of splitmix64 on Python's integers."""
    x %= WORD
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % WORD
    return x ^ (x >> 31)


def folded(key, counter):
    return splitmix(splitmix(key) + (counter + 1) * 0x9E3779B97F4A7C15)


def signed(x):
    return x - WORD if x >> 63 else x


NUMBERS = [
    0,
    1,
    -1,
    2**63 - 1,
    -(2**63),
    12345,
    *np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 500).tolist(),
]


def test_the_finalizer_is_bit_exact():
    assert rng.mix(torch.tensor(NUMBERS)).tolist() == [signed(splitmix(x)) for x in NUMBERS]


def test_the_first_numbers_of_splitmix64():
    """The published generator from the state 0: next = mix(state += golden)."""
    golden = 0x9E3779B97F4A7C15
    states = torch.tensor([signed(k * golden % WORD) for k in (1, 2, 3)])
    assert [x % WORD for x in rng.mix(states).tolist()] == [
        0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F,
    ]  # fmt: skip


def test_folding_is_bit_exact_and_broadcasts():
    keys, counters = torch.tensor(NUMBERS[:20])[:, None], torch.arange(5)
    expected = [[signed(folded(k, c)) for c in range(5)] for k in NUMBERS[:20]]
    assert rng.fold(keys, counters).tolist() == expected
    assert rng.fold(torch.tensor(7), 3) == signed(folded(7, 3))


def test_one_bit_moves_half_of_the_output():
    x = torch.tensor(NUMBERS)
    for bit in range(64):
        moved = (rng.mix(x) ^ rng.mix(x ^ (torch.tensor(1) << bit))).tolist()
        flips = sum((m % WORD).bit_count() for m in moved)
        assert stats.binomtest(flips, 64 * len(moved)).pvalue > ALPHA / 64


def test_seeds_for_purposes_are_apart_and_stay_what_they_are():
    seeds = {rng.seed_for(seed, purpose) for seed in range(200) for purpose in ("init", "order", "noise")}
    assert len(seeds) == 600
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert rng.seed_for(0, "init") == rng.seed_for(0, "init")


# --- uniform and normal -----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS)
def test_uniform_numbers_are_uniform(key):
    for dtype in (torch.float32, torch.float64):
        x = rng.uniform(torch.tensor(key), (100, 200), dtype)
        assert x.dtype == dtype
        assert x.shape == (100, 200)
        assert x.min() >= 0
        assert x.max() < 1
        assert stats.kstest(x.flatten().double().numpy(), "uniform").pvalue > ALPHA


@pytest.mark.parametrize("key", KEYS)
def test_normal_numbers_are_normal(key):
    for dtype in (torch.float32, torch.float64):
        x = rng.normal(torch.tensor(key), (20_000,), dtype)
        assert x.dtype == dtype
        assert stats.kstest(x.double().numpy(), "norm").pvalue > ALPHA
        n, wide = len(x), stats.norm.isf(ALPHA / 8)
        for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
            assert abs(float((x.double() ** power).mean()) - moment) < wide * math.sqrt(variance / n)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_numbers_of_every_type_stay_below_one(dtype):
    bits = 1 - round(math.log2(torch.finfo(dtype).eps))
    top = torch.tensor((1 << bits) - 1).to(dtype) * 2.0**-bits
    assert top < 1
    x = rng.uniform(torch.tensor(5), (4096,), dtype)
    assert x.dtype == dtype
    assert x.max() < 1
    assert rng.normal(torch.tensor(5), (4096,), dtype).isfinite().all()


def test_shapes_without_axes_and_without_elements():
    for draw in (rng.uniform, rng.normal):
        assert draw(torch.tensor(1), ()).shape == ()
        assert draw(torch.tensor(1), (3, 0)).shape == (3, 0)


def test_streams_of_neighbors_are_not_correlated():
    """Seeds, steps and sites that follow each other; Fisher's z at ALPHA over all pairs together."""
    keys = [torch.tensor(seed) for seed in range(8)]
    keys += [rng.fold(torch.tensor(0), step) for step in range(8)]
    keys += [rng.fold(rng.fold(torch.tensor(0), 0), site) for site in range(1, 9)]
    n = 4000
    found = np.corrcoef(np.stack([rng.normal(key, (n,), torch.float64).numpy() for key in keys]))
    pairs = found[np.triu_indices(len(keys), 1)]
    assert np.abs(np.arctanh(pairs)).max() * math.sqrt(n - 3) < stats.norm.isf(ALPHA / 2 / len(pairs))
    first = torch.stack([rng.uniform(rng.fold(torch.tensor(s), 0), ()) for s in range(n)]).double().numpy()
    assert stats.kstest(first, "uniform").pvalue > ALPHA
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) * math.sqrt(n) < stats.norm.isf(ALPHA / 2)


def test_by_vmap_it_is_bit_for_bit_the_loop():
    keys = rng.fold(torch.tensor(3), torch.arange(6))
    for draw in (rng.uniform, rng.normal):
        for dtype in (torch.float32, torch.float64):
            together = torch.func.vmap(lambda key, draw=draw, dtype=dtype: draw(key, (3, 5), dtype))(keys)
            assert torch.equal(together, torch.stack([draw(key, (3, 5), dtype) for key in keys]))


# --- the order of the data --------------------------------------------------------------------------------


def test_an_order_sorts_the_examples_by_their_keys():
    for seed, epoch, n in ((0, 0, 1), (3, 2, 1000), (2**40, 17, 257)):
        epochs = rng.fold(torch.tensor(rng.seed_for(seed, "order")), epoch)
        keys = rng.fold(epochs, torch.arange(n))
        assert rng.order(seed, epoch, n).tolist() == torch.argsort(keys).tolist()


def test_an_order_is_a_permutation_of_its_own():
    seen = set()
    for seed in range(5):
        for epoch in range(5):
            found = rng.order(seed, epoch, 50)
            assert sorted(found.tolist()) == list(range(50))
            assert found.tolist() == rng.order(seed, epoch, 50).tolist()
            seen.add(tuple(found.tolist()))
    assert len(seen) == 25
    assert rng.order(0, 0, 1).tolist() == [0]
    assert rng.order(0, 0, 0).tolist() == []


@pytest.mark.parametrize("by", ["seed", "epoch"])
def test_every_example_is_as_often_at_every_place(by):
    n, times = 8, 4000
    counts = np.zeros((n, n))
    for i in range(times):
        found = rng.order(i, 0, n) if by == "seed" else rng.order(0, i, n)
        counts[np.arange(n), found] += 1
    statistic = ((counts - times / n) ** 2 / (times / n)).sum() * (n - 1) / n
    assert stats.chi2.sf(statistic, (n - 1) ** 2) > ALPHA


# --- torch's own generator --------------------------------------------------------------------------------


def test_seeded_leaves_no_trace_and_repeats():
    before = torch.random.get_rng_state()
    drawn = []
    for _ in range(2):
        with rng.seeded(7):
            drawn.append(torch.randn(5))
    assert torch.equal(*drawn)
    assert torch.equal(before, torch.random.get_rng_state())
    with pytest.raises(ZeroDivisionError), rng.seeded(7):
        torch.rand(1) / (1 // int(torch.zeros(())))
    assert torch.equal(before, torch.random.get_rng_state())
