"""What a user swaps under an optimizer between two steps: memory, state, parameters, groups; and a failing compiler."""

from __future__ import annotations

import collections

import pytest
import torch

from fallline import optim
from fallline.errors import BadValue
from fallline.native.pointwise import Unwritable
from fallline.optim.fused import runner


def ones(n: int) -> torch.nn.Parameter:
    p = torch.nn.Parameter(torch.ones(n))
    p.grad = torch.ones(n)
    return p


def test_a_parameter_that_outgrew_its_gradient_is_not_stepped():
    p = ones(10)
    optimizer = optim.SGD([p], lr=0.1)
    optimizer.step()
    p.data = torch.ones(2000)
    with pytest.raises(RuntimeError, match="size"):
        optimizer.step()
    assert torch.equal(p.detach(), torch.ones(2000))


def test_a_parameter_cut_at_the_same_address_is_not_written_beyond_its_end():
    memory = torch.ones(50)
    p = torch.nn.Parameter(memory)
    optimizer = optim.SGD([p], lr=0.5)
    for size in (50, 10):
        p.grad = None
        p.data = p.data[:size]
        p.grad = torch.ones(size)
        optimizer.step()
    assert memory.tolist() == [0.0] * 10 + [0.5] * 40


def test_a_gradient_that_is_a_negative_view():
    p = ones(3)
    p.grad = torch._neg_view(-torch.ones(3))
    optim.SGD([p], lr=0.5).step(max_norm=10.0)
    assert p.tolist() == [0.5] * 3


@pytest.mark.parametrize("view", [torch.conj, torch._neg_view])
def test_a_view_that_cannot_be_written_to_is_refused(view):
    p = torch.nn.Parameter(view(torch.ones(2, dtype=torch.complex64)))
    p.grad = torch.ones(2, dtype=torch.complex64)
    with pytest.raises(BadValue, match="parameter '0' is the conjugate or the negative of other memory"):
        optim.SGD([p], lr=0.1).step()


def test_freed_memory_is_not_read():
    p = ones(5)
    optimizer = optim.SGD([p], lr=0.1)
    optimizer.step()
    p.grad.untyped_storage().resize_(0)
    part = optimizer._plan.parts(optimizer.param_groups, optimizer._named())[0]
    assert optimizer._runner.advance(part, part.params, {}, 1.0) is None
    assert not runner._simple(p.grad)


@pytest.mark.parametrize("clear", ["clear", "new"])
def test_a_cleared_state_begins_anew(clear):
    p, q = ones(3), ones(3)
    optimizer, like = optim.AdamW([p], lr=0.1), optim.AdamW([q], lr=0.1)
    optimizer.step()
    if clear == "clear":
        optimizer.state.clear()
    else:
        optimizer.state = collections.defaultdict(dict)
    with torch.no_grad():
        q.copy_(p)
    optimizer.step()
    like.step()
    assert torch.equal(p, q)


def test_parameters_and_groups_put_in_the_place_of_others():
    p, q, r = ones(3), ones(5), ones(5)
    optimizer = optim.AdamW([p], lr=0.1)
    optimizer.step()
    optimizer.param_groups[0]["params"][0] = q
    optimizer.step()
    optimizer.param_groups.clear()
    optimizer.add_param_group({"params": [r]})
    optimizer.step()
    assert torch.equal(p.detach(), q.detach()[:3])
    assert torch.equal(q, r)
    optimizer.add_param_group({"params": [p], "lr": 0.5})
    optimizer.param_groups.pop()
    optimizer.step()
    assert not torch.equal(q, r)


def test_a_gradient_that_becomes_sparse_is_refused_then():
    table = torch.nn.Embedding(5, 2)
    optimizer = optim.AdamW(table.parameters(), lr=0.1)
    for sparse in (False, True):
        table.sparse = sparse
        optimizer.zero_grad()
        table(torch.tensor([1])).sum().backward()
        if sparse:
            with pytest.raises(BadValue, match="is sparse, and rules take dense ones"):
                optimizer.step()
        else:
            optimizer.step()


def test_a_compiler_that_fails_leaves_clipping_to_torch(monkeypatch):
    def fails(*_):
        raise Unwritable("compiler here that takes it")

    p, q = ones(3), ones(3)
    optim.SGD([q], lr=0.5, fused=False).step(max_norm=1.0)
    monkeypatch.setattr(runner, "Program", fails)
    runner._norm.cache_clear()
    try:
        optimizer = optim.SGD([p], lr=0.5)
        optimizer.step(max_norm=1.0)
    finally:
        runner._norm.cache_clear()
    torch.testing.assert_close(p, q)
