"""What each layer declares about itself: small samples of it, and the symmetries that they keep for all weights."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

Action: TypeAlias = Callable[[Tensor], Tensor]
Make: TypeAlias = Callable[..., nn.Module]
T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Symmetry:
    """A law that a layer keeps for all weights and inputs.

    Args:
        name: the law in words.
        error: of a layer and two batches of inputs: how far it is from the law, which is 0 up to rounding.
    """

    name: str
    error: Callable[[Callable[[Tensor], Tensor], Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Sample:
    """A small layer of a kind.

    Args:
        build: makes it by calling what it is given, as in ``lambda of: of(3, 5)``.
        shape: of one example that it reads.
        symmetries: what it keeps.
        tokens: where above 0, it reads whole numbers below this.
    """

    build: Callable[[Make], nn.Module]
    shape: tuple[int, ...]
    symmetries: tuple[Symmetry, ...]
    tokens: int = 0


@dataclass(frozen=True)
class Declaration:
    """A layer with its inductive bias and its samples.

    Args:
        make: the class or function.
        bias: the sentence.
        samples: small ones.
    """

    make: Make
    bias: str
    samples: list[Sample] = field(default_factory=list)

    @property
    def symmetries(self) -> list[str]:
        """The names of what its samples keep, each once."""
        return list(dict.fromkeys(s.name for sample in self.samples for s in sample.symmetries))


LAYERS: dict[str, Declaration] = {}
"""Every layer by its name."""


def layer(
    build: Callable[[Make], nn.Module], shape: tuple[int, ...], *symmetries: Symmetry, tokens: int = 0, bias: str = "",
) -> Callable[[T], T]:  # fmt: skip
    """Declare a sample of a layer; several may stand above one class or function.

    Args:
        build: see :class:`Sample`.
        shape: see :class:`Sample`.
        *symmetries: see :class:`Sample`.
        tokens: see :class:`Sample`.
        bias: its inductive bias, where it does not stand in the docstring.
    """

    def declare(make: T) -> T:
        known = LAYERS.setdefault(make.__name__, Declaration(make, bias or bias_of(make)))
        known.samples.insert(0, Sample(build, shape, symmetries, tokens))
        return make

    return declare


def bias_of(make: Make) -> str:
    """What stands after ``Inductive bias:`` in a docstring, or nothing."""
    found = re.search(
        r"^Inductive bias: (.+?)(?:\n\n|\Z)", inspect.getdoc(make) or "", re.DOTALL | re.MULTILINE
    )
    return " ".join(found[1].split()) if found else ""


# --- symmetries ---------------------------------------------------------------------------------------------


def _same(y: Tensor) -> Tensor:
    return y


def commutes(name: str, inputs: Action, outputs: Action = _same) -> Symmetry:
    """f(a(x)) = b(f(x)): equivariant, or invariant where b leaves outputs as they are.

    Args:
        name: in words.
        inputs: a.
        outputs: b.
    """
    return Symmetry(name, lambda f, x, _: f(inputs(x)) - outputs(f(x)))


def every(name: str, symmetries: Iterable[Symmetry]) -> Symmetry:
    """Several laws as one, such as those of the generators of a group, which make that of the group.

    Args:
        name: in words.
        symmetries: the laws.
    """
    laws = tuple(symmetries)
    return Symmetry(name, lambda f, x, other: torch.cat([s.error(f, x, other).flatten() for s in laws]))


def causal(inputs: int, outputs: int) -> Symmetry:
    """Outputs up to any step depend on inputs up to that step.

    Args:
        inputs: the axis of time in x.
        outputs: the axis of time in y.
    """

    def error(f: Action, x: Tensor, other: Tensor) -> Tensor:
        whole, time = f(x), x.shape[inputs]
        off = []
        for now in range(1, time):
            later = other.narrow(inputs, now, time - now)
            changed = f(torch.cat([x.narrow(inputs, 0, now), later], inputs))
            off.append((changed - whole).narrow(outputs, 0, now).flatten())
        return torch.cat(off)

    return Symmetry("what comes later changes nothing before it", error)


def local(size: int) -> Symmetry:
    """At each place of a picture, outputs depend on the inputs of a square that begins there.

    Args:
        size: height and width of the square.
    """

    def error(f: Action, x: Tensor, other: Tensor) -> Tensor:
        whole = f(x)
        off = []
        for i in range(whole.shape[-2]):
            for j in range(whole.shape[-1]):
                far = other.clone()
                far[..., i : i + size, j : j + size] = x[..., i : i + size, j : j + size]
                off.append((f(far) - whole)[..., i, j].flatten())
        return torch.cat(off)

    return Symmetry("an output depends on its neighborhood alone", error)


def permuted(axis: int, *, outputs: bool) -> Symmetry:
    """Elements along an axis have no order: a swap of two and a turn of all make every permutation.

    Args:
        axis: of the elements.
        outputs: whether what comes out has that axis, too, and moves along.
    """

    def swapped(x: Tensor) -> Tensor:
        return x.index_select(axis, torch.tensor([1, 0, *range(2, x.shape[axis])]))

    def turned(x: Tensor) -> Tensor:
        return x.roll(1, axis)

    name = f"permutation of elements: {'equivariant' if outputs else 'invariant'}"
    return every(name, (commutes(name, a, a if outputs else _same) for a in (swapped, turned)))


def _shifts(kind: str, *, outputs: bool) -> Symmetry:
    """Circular shifts of pictures, by one pixel down and by one to the right, which make all others."""

    def down(x: Tensor) -> Tensor:
        return x.roll(1, -2)

    def right(x: Tensor) -> Tensor:
        return x.roll(1, -1)

    name = f"circular shifts: {kind}"
    return every(name, (commutes(name, a, a if outputs else _same) for a in (down, right)))


SHIFTED = _shifts("equivariant", outputs=True)
UNSHIFTED = _shifts("invariant", outputs=False)
ADDITIVE = Symmetry(
    "f(x + z) + f(0) = f(x) + f(z)", lambda f, x, z: f(x + z) + f(torch.zeros_like(x)) - f(x) - f(z)
)
CONSERVED = Symmetry("the sum of outputs is that of inputs", lambda f, x, _: _sum(f(x)) - _sum(x))
NONNEGATIVE = Symmetry("outputs are at least 0 where inputs are", lambda f, x, _: f(x.abs()).clamp(max=0))


def bounded(bound: float) -> Symmetry:
    """‖f(x) − f(z)‖ ≤ bound ‖x − z‖.

    Args:
        bound: the largest ratio.
    """

    def error(f: Action, x: Tensor, z: Tensor) -> Tensor:
        lengths = [each.flatten(1).norm(dim=1) for each in (f(x) - f(z), x - z)]
        return (lengths[0] - bound * lengths[1]).clamp(min=0)

    return Symmetry("outputs differ by at most the bound times what inputs differ by", error)


def _sum(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)
