"""Adafactor against torch's; not in the grid of the others, as torch's fails at parameters without entries."""

import itertools

import pytest
import torch

from fallline import optim
from fallline.errors import BadValue

from .cases import Problem, deviation

GRID = {
    "lr": (0.1, 1e-3), "beta2_decay": (-0.8, 0.0), "eps": ((None, 1e-3), (1e-2, 1.0)), "d": (1.0, 3.0),
    "weight_decay": (0.0, 0.1), "maximize": (False, True),
}  # fmt: skip


def solid(problem):
    return [p for p in problem.params if p.numel()]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_option_equals_torch(dtype):
    for chosen in itertools.product(*GRID.values()):
        options = dict(zip(GRID, chosen, strict=True))
        ours, theirs = Problem(dtype=dtype), Problem(dtype=dtype)
        mine, yours = optim.Adafactor(solid(ours), **options), torch.optim.Adafactor(solid(theirs), **options)
        for t in range(30):
            for problem, optimizer in ((ours, mine), (theirs, yours)):
                problem.blow(missing=(1,) if t == 3 else ())
                optimizer.step()
        gap = deviation([p.detach() for p in solid(ours)], [p.detach() for p in solid(theirs)])
        assert gap < (1e-12 if dtype == torch.float64 else 1e-4), options


def test_gradients_whose_squares_underflow_are_bounded_as_in_torch():
    ours, theirs = (torch.nn.Parameter(torch.ones(3, 2)) for _ in range(2))
    for p, optimizer in ((ours, optim.Adafactor([ours])), (theirs, torch.optim.Adafactor([theirs]))):
        p.grad = torch.linspace(0, 1e-12, 6).reshape(3, 2)
        optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_parameters_without_entries_are_trained():
    p = torch.nn.Parameter(torch.zeros(0, 3))
    p.grad = torch.zeros(0, 3)
    optim.Adafactor([p]).step()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"eps": 1e-3}, r"Adafactor\(eps=0.001\): eps is a pair, as in eps=\(None, 1e-3\)"),
        ({"eps": (-1.0, 1e-3)}, r"Adafactor\(eps\[0\]=-1\): .* in the unit of the gradient"),
        ({"eps": (None, -1.0)}, r"Adafactor\(eps\[1\]=-1\): .* the least size"),
        ({"beta2_decay": 0.8}, r"Adafactor\(beta2_decay=0.8\): .* power of the step"),
        ({"d": 0.5}, r"Adafactor\(d=0.5\): .* at least 1"),
    ],
)
def test_a_bad_number_teaches(given, said):
    with pytest.raises(BadValue, match=said):
        optim.Adafactor([torch.nn.Parameter(torch.zeros(2))], **given)
