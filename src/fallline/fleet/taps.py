"""Where a model's parameters are used: the inputs of its linear layers and convolutions, and what is added to outputs.

Layers are found by the functions that they call, ``linear`` and ``conv2d``, and by the very tensor that these are given
as weight, and not by modules: so the projections of attention, which are no modules of their own, are found, too, and
so is a weight that is used in several places.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..types import Tree


class Call(NamedTuple):
    """One use of a weight.

    Args:
        name: what the outputs of this use are called.
        rows: which rows of the weight are used.
        inputs: what the weight is multiplied with, at all positions of all examples, [positions, in].
        channels: the axis of the outputs that the rows become.
    """

    name: str
    rows: slice
    inputs: Tensor
    channels: int


class Taps(TorchFunctionMode):
    """Inside, uses of weights are noted, and something is added to their outputs.

    It must be entered before :class:`fallline.rng.Noise`, which takes composite functions apart for it.

    Args:
        params: the parameters, as the model is called with them.
        added: what is added to the outputs of each use, by its name.
    """

    def __init__(self, params: Tree, added: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        self.known: dict[int, tuple[str, slice]] = {
            id(p): (name, slice(0, len(p))) for name, p in params.items() if p.ndim
        }
        self.held: list[Any] = [params]
        self.added = added or {}
        self.calls: dict[str, list[Call]] = {}
        self.outputs: dict[str, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func in _PARTS and args and id(args[0]) in self.known:
            self._note_parts(args[0], out)
        elif func in _INPUTS:
            given = {**dict(zip(_ORDER[func], args, strict=False)), **kwargs}
            weight = given["weight"]
            inputs = _INPUTS[func](given) if id(weight) in self.known else None
            if inputs is not None:
                out = self._tapped(weight, inputs, out, -1 if func is F.linear else 1)
        return out

    def _note_parts(self, whole: Tensor, parts: Any) -> None:
        name, rows = self.known[id(whole)]
        start = rows.start
        for part in parts if isinstance(parts, (tuple, list)) else ():
            if part.shape[1:] == whole.shape[1:]:
                self.known[id(part)] = name, slice(start, start + len(part))
                start += len(part)
        self.held.append(parts)  # or another tensor could get the id of one

    def _tapped(self, used: Tensor, inputs: Tensor, out: Tensor, channels: int) -> Tensor:
        weight, rows = self.known[id(used)]
        calls = self.calls.setdefault(weight, [])
        calls.append(Call(f"{weight} {len(calls)}", rows, inputs, channels))
        self.outputs[calls[-1].name] = out
        return out + self.added[calls[-1].name] if calls[-1].name in self.added else out


def _of_linear(given: Mapping[str, Any]) -> Tensor | None:
    return _positions(given["input"], -1)


def _of_conv2d(given: Mapping[str, Any]) -> Tensor | None:
    """The patches that a kernel sees; none for groups of channels, whose weight is no one matrix."""
    x, size = given["input"], given["weight"].shape[2:]
    if given.get("groups", 1) != 1 or x.ndim != 4:
        return None
    stride, dilation, padding = (given.get(key, default) for key, default in _CONV)
    if isinstance(padding, str):
        spread = (dilation, dilation) if isinstance(dilation, int) else dilation
        total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(spread, size, strict=True)]
        x = F.pad(x, [total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2])
        padding = 0
    return _positions(F.unfold(x, tuple(size), dilation, padding, stride), 1)


_CONV = (("stride", 1), ("dilation", 1), ("padding", 0))
_INPUTS = {F.linear: _of_linear, F.conv2d: _of_conv2d}
_ORDER = {
    F.linear: ("input", "weight", "bias"),
    F.conv2d: ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
}
_PARTS = {Tensor.chunk, Tensor.split, torch.chunk, torch.split}


def moments(calls: list[Call], slopes: list[Tree], examples: int) -> tuple[Tensor, Tensor]:
    """The factors of a weight: A the mean of ā·āᵀ over all inputs, G the sum of g·gᵀ, as a mean over examples.

    Where parts of a weight are used apart (queries, keys and values from different sources), A is the mean over all of
    their inputs, and G has a block for each.

    Args:
        calls: its uses.
        slopes: gradients of the mean loss by the outputs of each use, one for each target that is averaged over.
        examples: how many there are.
    """
    inputs = torch.cat([call.inputs for call in calls])
    inputs = torch.cat([inputs, torch.ones_like(inputs[:, :1])], 1)
    spread = torch.stack([_spread(calls, slope) for slope in slopes]).sum(0)
    return inputs.mT @ inputs / len(inputs), spread * examples


def _spread(calls: list[Call], slope: Tree) -> Tensor:
    """Σ g·gᵀ over all uses of a weight, and over all examples and positions."""
    by_rows: dict[int, list[Tensor]] = {}
    for call in calls:
        by_rows.setdefault(call.rows.start, []).append(_positions(slope[call.name], call.channels))
    blocks = [torch.cat(found) for _, found in sorted(by_rows.items())]
    return torch.block_diag(*(g.mT @ g for g in blocks)) if len(blocks) > 1 else blocks[0].mT @ blocks[0]


def _positions(t: Tensor, axis: int) -> Tensor:
    """All examples and positions of something, with its channels behind: [positions, channels]."""
    return t.movedim(axis, -1).reshape(-1, t.shape[axis])
