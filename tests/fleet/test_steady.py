"""Kernels give a run the same digits in any slot; each operation that does not is written with others that do."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

from fallline.fleet import steady
from fallline.fleet.programs import Program

aten = torch.ops.aten
DTYPES = (torch.float32, torch.float64)
BLOCKS = (2, 3, 35, 64)


def normal(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random, dtype=torch.float64).to(dtype)


def steadied(function: Callable[..., Any], *args: Tensor) -> Callable[..., Any]:
    return make_fx(function, decomposition_table=steady.table())(*args)


def check(function: Callable[..., Tensor], *rows: Tensor, shared: tuple[Tensor, ...] = ()) -> None:
    """A function of one run gives every run of every block the same bits; ``rows`` are what one run is given."""
    seen: Tensor | None = None
    for runs in BLOCKS:
        given = tuple(row.expand(runs, *row.shape).contiguous() for row in rows)
        lifted = torch.func.vmap(function, in_dims=(0,) * len(rows) + (None,) * len(shared))
        out = steadied(lambda *every, lifted=lifted: lifted(*every), *given, *shared)(*given, *shared)
        seen = out[0].clone() if seen is None else seen
        for slot, row in enumerate(out):
            assert torch.equal(row, seen), f"slot {slot} of {runs} differs by {(row - seen).abs().max():.1e}"
        torch.testing.assert_close(seen, function(*rows, *shared), rtol=1e-4, atol=1e-5)


SIZES = [(7, 9, 7), (1, 64, 10), (3, 32, 7), (3, 9, 32), (28, 13, 3), (1, 5, 1), (32, 64, 32), (16, 33, 10)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_matrix_products(size: tuple[int, int, int], dtype: torch.dtype):
    """In all four layouts: each factor as it is, and as the transpose of one that is."""
    m, k, n = size
    for left, right in itertools.product((False, True), repeat=2):
        a = normal(k, m, dtype=dtype, seed=1) if left else normal(m, k, dtype=dtype, seed=1)
        b = normal(n, k, dtype=dtype, seed=2) if right else normal(k, n, dtype=dtype, seed=2)

        check(lambda a, b, left=left, right=right: (a.t() if left else a) @ (b.t() if right else b), a, b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_all_runs_share_is_multiplied_alike(dtype: torch.dtype):
    """Also its gradient; as a factor from the right and from the left, and as the weights of a layer."""
    x, right, left = normal(7, 13, dtype=dtype), normal(13, 10, dtype=dtype), normal(5, 7, dtype=dtype)
    bias = normal(10, dtype=dtype)
    for function in (lambda x: x @ right, lambda x: left @ x, lambda x: F.linear(x, right.t(), bias)):
        check(function, x)
        check(lambda x, f=function: torch.func.grad(lambda x: (f(x) ** 3).sum())(x) * 0.01, x)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "gelu, by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "softplus": F.softplus,
    "elu": F.elu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "log_sigmoid": F.logsigmoid,
    "glu": lambda x: F.glu(x[:, :12]),
    "hard sigmoid": F.hardsigmoid,
    "leaky relu": F.leaky_relu,
    "softshrink": F.softshrink,
    "binary cross-entropy": lambda x: F.binary_cross_entropy_with_logits(x, x.sigmoid(), reduction="none"),
    "huber": lambda x: F.huber_loss(x, x.cos(), reduction="none"),
    "smooth l1": lambda x: F.smooth_l1_loss(x, x.cos(), reduction="none"),
    "mse": lambda x: F.mse_loss(x, x.cos(), reduction="none"),
    "prelu": lambda x: F.prelu(x, x[0, :1]),
    "exp": torch.exp,
    "log": lambda x: torch.log(x.abs() + 0.1),
    "pow": lambda x: x.abs() ** 1.3,
    "sin": torch.sin,
    "atan2": lambda x: torch.atan2(x, x + 1),
    "erf": torch.erf,
    "rsqrt": lambda x: torch.rsqrt(x.abs() + 0.1),
    "lerp": lambda x: torch.lerp(x, x * x, 0.3),
    "addcmul": lambda x: torch.addcmul(x, x, x + 1, value=0.3),
    "addcdiv": lambda x: torch.addcdiv(x, x, x.abs() + 1, value=0.3),
    "sub, scaled": lambda x: torch.sub(x, x * x, alpha=0.3),
    "softmax": lambda x: x.softmax(-1),
    "softmax, first axis": lambda x: x.softmax(0),
    "log_softmax": lambda x: x.log_softmax(-1),
    "logsumexp": lambda x: x.logsumexp(0),
    "sum, first axis": lambda x: x.sum(0),
    "sum, all": lambda x: x.sum().reshape(1),
    "mean": lambda x: x.mean((0, 1)).reshape(1),
    "var": lambda x: x.var(0),
    "std": lambda x: x.std(1),
    "norm": lambda x: torch.linalg.vector_norm(x).reshape(1),
    "cumsum": lambda x: x.cumsum(0),
    "layer norm": lambda x: F.layer_norm(x, x.shape[-1:]),
    "instance norm": lambda x: F.instance_norm(x.unsqueeze(0)).squeeze(0),
    "batch norm": lambda x: F.batch_norm(x, None, None, training=True),
    "sort": lambda x: x.sort(0).values,
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_and_their_gradients(name: str, dtype: torch.dtype):
    x = normal(7, 13, dtype=dtype)
    function = FUNCTIONS[name]
    check(lambda x: function(x), x)
    check(torch.func.grad(lambda x: (function(x) * function(x).cos()).sum()), x)


CONVOLUTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "odd channels": lambda x, w: F.conv2d(x, w, padding=1),
    "stride": lambda x, w: F.conv2d(x, w, stride=2),
    "dilation": lambda x, w: F.conv2d(x, w, dilation=2),
    "1d": lambda x, w: F.conv1d(x[:, :, 0], w[:, :, 0]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [(1, 3), (3, 5), (8, 16)])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_and_their_gradients(name: str, channels: tuple[int, int], dtype: torch.dtype):
    inputs, outputs = channels
    x, w = normal(4, inputs, 7, 7, dtype=dtype), normal(outputs, inputs, 3, 3, dtype=dtype, seed=1)
    function = CONVOLUTIONS[name]
    check(function, x, w)
    for argnum in (0, 1):
        check(torch.func.grad(lambda x, w: (function(x, w) ** 2).sum() * 0.01, argnums=argnum), x, w)


def test_blocks_that_fill_lines_and_vectors_pay_nothing():
    """No operation is added for a product and a function of whole cache lines."""
    a, b = torch.ones(64, 32, 64), torch.ones(64, 64, 32)

    def layer(a: Tensor, b: Tensor) -> Tensor:
        return torch.tanh(torch.bmm(a, b)).sum(2)

    ours = [node.target for node in steadied(layer, a, b).graph.nodes]
    assert ours == [node.target for node in make_fx(layer)(a, b).graph.nodes]


def test_one_number_for_each_run_is_not_written_out_for_all_entries():
    a, share = torch.ones(5, 7, 3), torch.ones(5, 1, 1)
    traced = steadied(lambda a, s: torch.lerp(a, a + 1, s), a, share)
    assert not [node for node in traced.graph.nodes if node.target is aten.constant_pad_nd.default]


def test_a_program_is_the_function_lifted():
    """For every executor in Python, and with any mixture of rows and what is shared."""

    def one(x: Tensor, shared: dict[str, Tensor], scale: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        out = torch.tanh(x @ shared["w"]) * scale
        return out.sum(), {"out": out, "x": x + 0}

    x, w = normal(5, 2, 3, dtype=torch.float64), normal(3, 4, dtype=torch.float64)
    scale = normal(5, dtype=torch.float64)
    expected = [one(x[i], {"w": w}, scale[i]) for i in range(5)]
    for executor in ("traced", "alone"):
        total, named = Program(one, (0, None, 0), executor)(x, {"w": w}, scale)  # type: ignore[arg-type]
        for i, (sum_, told) in enumerate(expected):
            torch.testing.assert_close(total[i], sum_, rtol=1e-12, atol=1e-14)
            torch.testing.assert_close({k: t[i] for k, t in named.items()}, told, rtol=1e-12, atol=1e-14)


def test_a_program_can_leave_out_its_last_results():
    def one(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x + 1, torch.sin(x), torch.cos(x)

    x = torch.arange(4.0)
    program = Program(one, (0,), "traced")
    for without in (2, 1, 0):
        run, _ = program.bind(x, without=without)
        out = run(x)
        assert len(out) == 3 - without
        assert torch.equal(out[0], x + 1)
