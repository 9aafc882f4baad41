"""Every layer keeps the contract, and one that breaks it fails."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fallline import layers
from fallline.errors import BadValue
from fallline.layers.declared import (
    ADDITIVE,
    CONSERVED,
    LAYERS,
    SHIFTED,
    UNSHIFTED,
    Declaration,
    Sample,
    Symmetry,
    bias_of,
    bounded,
    causal,
    commutes,
    permuted,
)
from fallline.layers.groups import GROUPS, act, inverse, product

from .layer_checks import CHECKS


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", LAYERS)
def test_contract(name: str, check: str):
    CHECKS[check](LAYERS[name])


def test_every_public_layer_is_declared():
    """Classes of modules, and functions that make one and do not take one."""
    found = set()
    for name in layers.__all__:
        value = getattr(layers, name)
        if inspect.isclass(value):
            found.add(name)
        elif inspect.isfunction(value) and "Module" in str(inspect.signature(value).return_annotation):
            found |= set() if "model" in inspect.signature(value).parameters else {name}
        elif inspect.isfunction(value) and "Sequential" in str(inspect.signature(value).return_annotation):
            found.add(name)
    assert found == set(LAYERS)


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_is_one(group: str):
    """Closed, with inverses, and acting as its product says."""
    x = torch.randn(5, 5)
    for g in GROUPS[group]:
        assert product(g, inverse(g)) == (0, False)
        for h in GROUPS[group]:
            assert product(g, h) in GROUPS[group]
            assert torch.equal(act(product(g, h), x), act(g, act(h, x)))


# --- broken ones ------------------------------------------------------------------------------------------


def declared(
    make: Any, shape: tuple[int, ...], *symmetries: Symmetry, bias: str = "one.", **options: Any
) -> Declaration:
    return Declaration(make, bias, [Sample(lambda of: of(**options), shape, symmetries)])


def fails(check: str, broken: Declaration, match: str) -> None:
    with pytest.raises((AssertionError, RuntimeError, pytest.fail.Exception), match=match):
        CHECKS[check](broken)


class Broken(nn.Module):
    """Each breaks one law a little."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.linear = how, nn.Linear(4, 4)
        self.weight = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self, f"_{self.how}")(x)

    def _order(self, x: Tensor) -> Tensor:  # the first element counts a little more
        return x.mean(1) * self.weight + 1e-5 * x[:, 0] * self.linear(x[:, 0])

    def _mass(self, x: Tensor) -> Tensor:
        y = self.linear(x) * self.weight
        return y + (x.sum(1, keepdim=True) - y.sum(1, keepdim=True)) / 4.0001

    def _border(self, x: Tensor) -> Tensor:  # zeros instead of the other side
        return nn.functional.conv2d(x, self.linear.weight.view(1, 1, 4, 4)[..., :3, :3], padding=1)

    def _future(self, x: Tensor) -> Tensor:
        return x * self.weight + 1e-5 * self.linear(x.mean(1, keepdim=True))

    def _steep(self, x: Tensor) -> Tensor:  # bounded by the Frobenius norm of one row less
        return self.linear(x) / self.linear.weight[1:].norm() * 2

    def _stuck(self, x: Tensor) -> Tensor:
        return torch.ones_like(x) + 0 * self.linear(x).detach()

    def _unused(self, x: Tensor) -> Tensor:
        return x * self.weight

    def _wide(self, x: Tensor) -> Tensor:
        return self.linear(x).double() * self.weight

    def _mixes(self, x: Tensor) -> Tensor:
        return self.linear(x) + torch.func.debug_unwrap(self.weight, recurse=True).sum()

    def _branches(self, x: Tensor) -> Tensor:
        return self.linear(x) if self.weight.sum() > 0 else self.linear(-x)


@pytest.mark.parametrize(
    ("how", "shape", "symmetry", "said"),
    [
        ("order", (5, 4), permuted(1, outputs=False), "permutation of elements: invariant"),
        ("mass", (4,), CONSERVED, "the sum of outputs is that of inputs"),
        ("border", (1, 5, 6), SHIFTED, "circular shifts: equivariant"),
        ("border", (1, 5, 6), UNSHIFTED, "circular shifts: invariant"),
        (
            "border",
            (1, 5, 5),
            commutes("turned", lambda x: x.rot90(1, (2, 3)), lambda y: y.rot90(1, (2, 3))),
            "turned",
        ),
        ("border", (1, 5, 5), commutes("flipped", lambda x: x.flip(-1), lambda y: y.flip(-1)), "flipped"),
        ("future", (5, 4), causal(1, 1), "what comes later changes nothing before it"),
        ("steep", (4,), bounded(0.5), "outputs differ by at most the bound"),
        ("order", (5, 4), ADDITIVE, "f\\(x \\+ z\\) \\+ f\\(0\\)"),
    ],
)
def test_a_symmetry_that_is_missed_a_little_is_found(how: str, shape: Any, symmetry: Symmetry, said: str):
    fails("symmetry", declared(Broken, shape, symmetry, how=how), f"does not keep: {said}")


def test_a_law_that_says_nothing_is_found():
    nothing = commutes("nothing", lambda x: x)
    fails(
        "teeth", declared(Broken, (4,), nothing, how="unused"), "says nothing: nothing holds for any function"
    )


@pytest.mark.parametrize(
    ("check", "how", "said"),
    [
        ("listens", "stuck", "ignores its inputs"),
        ("listens", "unused", "does not use .*linear"),
        ("dtype", "wide", "float32 becomes torch.float64"),
        ("fleet", "mixes", "the gradient of .* differs in a fleet by"),
        ("fleet", "branches", "data-dependent control flow"),
    ],
)
def test_what_breaks_a_fleet_or_its_inputs_is_found(check: str, how: str, said: str):
    fails(check, declared(Broken, (4,), how=how), said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Nothing.", "does not say 'Inductive bias"),
        ("Inductive bias: near things", "does not end as a sentence"),
        ("Inductive bias: one. And another.", "more than one sentence"),
    ],
)
def test_a_bias_that_is_not_one_sentence_is_found(text: str, said: str):
    def make() -> nn.Module:
        return nn.Identity()

    make.__doc__ = f"A layer.\n\n    {text}\n\n    Source: none.\n    "
    fails("bias", declared(make, (4,), bias=bias_of(make)), said)


@pytest.mark.parametrize("options", [{"width": 4}, {"kind": "one"}])
def test_arguments_that_are_not_checked_are_found(options: Any):
    def make(width: int = 4, kind: str = "one") -> nn.Module:
        if kind != "one" and "kind" not in options:
            raise BadValue("no")
        if width != 4 and "width" not in options:
            raise BadValue("no")
        return nn.Identity()

    fails("refusals", declared(make, (4,), **options), "DID NOT RAISE")
