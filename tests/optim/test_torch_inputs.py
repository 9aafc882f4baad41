"""Torch's own list of inputs and of errors for its optimizers, for each one that we have by its name."""

import inspect
import re

import pytest
import torch

from fallline import optim
from fallline.optim.form import IMPLEMENTATIONS

pytest.importorskip("expecttest")
common = pytest.importorskip("torch.testing._internal.common_optimizers")

CPU = torch.device("cpu")
OTHERWISE = {"LBFGS": "it needs a closure", "Muon": "it takes matrices only"}  # tests/optim/test_matrix.py
OURS = [
    info
    for info in common.optim_db
    if hasattr(optim, info.optim_cls.__name__) and info.optim_cls.__name__ not in OTHERWISE
]
every = pytest.mark.parametrize("info", OURS, ids=lambda info: info.optim_cls.__name__)
WORDS = {"Tensor lr must be 1-element": r"lr is .*, a number at least 0; got a Tensor"}
"""Where we say it in other words than torch, which ones."""


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def leaves():
    random = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=random)) for shape in ((3, 2), (4,), ())]


def train(optimizer, params, steps=10):
    random = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for p in params:
            p.grad = p.detach() + torch.randn(p.shape, generator=random)
        optimizer.step()


@every
def test_each_class_of_torch_that_we_have_takes_what_torch_takes(info):
    name = info.optim_cls.__name__
    ours, theirs = (inspect.signature(cls).parameters for cls in (getattr(optim, name), info.optim_cls))
    assert list(ours) == list(theirs)
    assert {n: p.kind for n, p in ours.items()} == {n: p.kind for n, p in theirs.items()}
    assert {n: p.default for n, p in ours.items()} == {n: p.default for n, p in theirs.items()}


@every
def test_inputs_give_the_numbers_of_torch(info):
    cls = getattr(optim, info.optim_cls.__name__)
    for given in info.optim_inputs_func(device=CPU):
        numbers = {key: value for key, value in given.kwargs.items() if key not in IMPLEMENTATIONS}
        chosen = [key for key in IMPLEMENTATIONS if given.kwargs.get(key)]
        if chosen:
            with pytest.raises(ValueError, match=f"{chosen[0]}=True\\) is not supported here"):
                cls(leaves(), **given.kwargs)
        mine, yours = leaves(), leaves()
        train(cls(mine, **numbers), mine)
        train(info.optim_cls(yours, **numbers), yours)
        for a, b in zip(mine, yours, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, msg=f"{cls.__name__}: {given.desc}")


@every
def test_errors_are_raised_where_torch_raises_them(info):
    cls = getattr(optim, info.optim_cls.__name__)
    for error in info.optim_error_inputs_func(device=CPU, dtype=torch.float32):
        given = error.optimizer_error_input
        if _is_about_kernels(given.kwargs):
            continue
        params = leaves() if given.params is None else given.params
        if error.error_on is common.OptimizerErrorEnum.STEP_ERROR:
            optimizer = cls(params, **given.kwargs)
            with pytest.raises((error.error_type, ValueError)):
                optimizer.step()
            continue
        with pytest.raises(error.error_type) as raised:
            cls(params, **given.kwargs)
        said = str(raised.value)
        names = [key for key in given.kwargs if f"{cls.__name__}({key}" in said]
        expected = WORDS.get(error.error_regex, error.error_regex)
        assert names or re.search(expected, said), f"{given.desc}: {said}"


def _is_about_kernels(given):
    """Which implementations go together, and which betas are tensors, is torch's own concern."""
    betas = given.get("betas", ())
    return any(given.get(key) for key in IMPLEMENTATIONS) or any(isinstance(b, torch.Tensor) for b in betas)
