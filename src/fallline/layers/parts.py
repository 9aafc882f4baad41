"""What builders are asked for by name: activations and normalizations; and the checks that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from ..errors import BadValue, NotFound, nearest


class CenteredSigmoid(nn.Module):
    """The sigmoid minus one half, σ(x) − ½: its mean is 0 where that of x is, and its slope at 0 is ¼."""

    def forward(self, x: Tensor) -> Tensor:
        """Element by element."""
        return x.sigmoid() - 0.5


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "centered_sigmoid": CenteredSigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
NORMS: dict[str, Callable[[int], nn.Module] | None] = {
    "none": None,
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
}
PICTURE_NORMS: dict[str, Callable[[int], nn.Module] | None] = {
    "none": None,
    "batch": nn.BatchNorm2d,
    "layer": lambda channels: nn.GroupNorm(1, channels),  # over all channels and places of an example
}


def activated(name: str) -> nn.Module:
    """The activation of this name."""
    return ACTIVATIONS[known("activation", name, ACTIVATIONS)]()


def normalized(name: str, width: int, *, picture: bool = False) -> list[nn.Module]:
    """The normalization of this name for so many numbers, or channels of a picture; nothing for ``none``."""
    norms = PICTURE_NORMS if picture else NORMS
    make = norms[known("normalization", name, norms)]
    return [make(width)] if make else []


def known(what: str, name: str, names: Iterable[str]) -> str:
    """The name, where it is one of these."""
    names = list(names)
    if name not in names:
        raise NotFound(f"no {what} is called {name!r}; {nearest(str(name), names)}")
    return name


def whole(of: str, **sizes: Any) -> None:
    """Refuse what is no whole number above 0.

    Args:
        of: what has these sizes.
        **sizes: what came, by name.
    """
    for name, value in sizes.items():
        if not is_whole(value):
            raise BadValue(f"{name} of {of} is a whole number above 0, got {value!r}")


def is_whole(value: Any) -> bool:
    """Whether it is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
