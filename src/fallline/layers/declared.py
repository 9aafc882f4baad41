"""What each layer declares about itself: small samples of it, and the symmetries that they keep for all weights."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
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


def commutes(name: str, inputs: Action, outputs: Action = lambda y: y) -> Symmetry:
    """f(a(x)) = b(f(x)): equivariant, or invariant where b leaves outputs as they are.

    Args:
        name: in words.
        inputs: a.
        outputs: b.
    """
    return Symmetry(name, lambda f, x, _: f(inputs(x)) - outputs(f(x)))


def ignores(name: str, read: Action, outputs: Action) -> Symmetry:
    """Some outputs depend on some inputs alone: b(f(x)) stays where other inputs are changed.

    Args:
        name: in words.
        read: 1 for the inputs that may matter and 0 for others, of the shape of x.
        outputs: b, the outputs in question.
    """

    def error(f: Action, x: Tensor, other: Tensor) -> Tensor:
        return outputs(f(torch.where(read(x) > 0, x, other))) - outputs(f(x))

    return Symmetry(name, error)


def _rolled(x: Tensor) -> Tensor:
    return x.roll((1, 2), (-2, -1))


def causal(inputs: int, outputs: int, name: str = "what comes later changes nothing before it") -> Symmetry:
    """Outputs up to a step depend on inputs up to that step.

    Args:
        inputs: the axis of time in x.
        outputs: the axis of time in y.
        name: in words.
    """
    steps = 2

    def read(x: Tensor) -> Tensor:
        time = torch.arange(x.shape[inputs]) < steps
        return (
            time.view([-1 if axis == inputs % x.ndim else 1 for axis in range(x.ndim)]).expand(x.shape).int()
        )

    return ignores(name, read, lambda y: y.narrow(outputs, 0, steps))


def permuted(axis: int, *, outputs: bool) -> Symmetry:
    """Elements along an axis have no order.

    Args:
        axis: of the elements.
        outputs: whether what comes out has that axis, too, and moves along.
    """

    def moved(x: Tensor) -> Tensor:
        n = x.shape[axis]
        return x.index_select(axis, torch.tensor([(3 * i + 1) % n if n % 3 else n - 1 - i for i in range(n)]))

    if outputs:
        return commutes("permutation of elements: equivariant", moved, moved)
    return commutes("permutation of elements: invariant", moved)


SHIFTED = commutes("circular shifts: equivariant", _rolled, _rolled)
UNSHIFTED = commutes("circular shifts: invariant", _rolled)
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
