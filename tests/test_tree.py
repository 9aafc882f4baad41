"""Arithmetic on trees."""

import math

import pytest
import torch

from fallline import tree

SOME = {"a": torch.tensor([[3.0, 0.0], [0.0, -4.0]]), "b": torch.tensor(12.0), "empty": torch.zeros(0, 2)}


def test_map_goes_name_by_name_in_order():
    other = {name: torch.ones_like(t) for name, t in reversed(SOME.items())}
    found = tree.map_tree(lambda a, b: a + 2 * b, SOME, other)
    assert list(found) == list(SOME)
    assert all(torch.equal(found[name], t + 2) for name, t in SOME.items())
    assert tree.map_tree(torch.neg, {}) == {}


def test_a_name_that_is_missing_is_an_error():
    with pytest.raises(KeyError, match="b"):
        tree.map_tree(torch.add, SOME, {"a": SOME["a"]})


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0, math.inf])
def test_the_norm_is_that_of_one_long_vector(order):
    some = {name: t for name, t in SOME.items() if t.numel()}
    flat = torch.cat([t.flatten() for t in some.values()])
    torch.testing.assert_close(tree.norm(some, order), torch.linalg.vector_norm(flat.double(), order))


def test_the_norm_of_entries_that_are_empty_or_missing():
    assert tree.norm(SOME) == 13.0
    assert tree.norm({}) == 0.0
    assert tree.norm({"w": torch.zeros(3)}) == 0.0


def test_the_norm_of_large_entries_does_not_overflow():
    assert tree.norm(
        {"a": torch.full((2,), 1e30, dtype=torch.float64), "b": torch.zeros(1, dtype=torch.float64)}
    ).isfinite()


def test_the_norm_of_huge_and_tiny_float32_entries_is_theirs():
    for size in (3e38, 1e-40):
        found = tree.norm({"a": torch.full((4,), size), "b": torch.zeros(2)})
        torch.testing.assert_close(found, 2 * torch.tensor(size).double(), rtol=1e-15, atol=0)


def test_the_norm_does_not_hang_on_how_entries_lie_in_memory():
    a = torch.randn(37, 53, generator=torch.Generator().manual_seed(0))
    lying = a.t().contiguous().t()
    assert torch.equal(tree.norm({"a": a}), tree.norm({"a": lying}))


def test_total_is_the_sum_and_shows_what_is_not_finite():
    assert tree.total(SOME) == 11.0
    assert tree.total({}) == 0.0
    for bad in (math.nan, math.inf, -math.inf):
        assert not tree.total({**SOME, "c": torch.tensor([0.0, bad])}).isfinite()
    assert not tree.total({"a": torch.tensor(math.inf), "b": torch.tensor(-math.inf)}).isfinite()


def test_lifted_it_is_the_same_run_by_run():
    stacked = {name: torch.stack([i * t for i in range(3)]) for name, t in SOME.items()}
    for function in (tree.norm, tree.total):
        together = torch.func.vmap(function)(stacked)
        alone = [function({name: t[i] for name, t in stacked.items()}) for i in range(3)]
        assert torch.equal(together, torch.stack(alone))
