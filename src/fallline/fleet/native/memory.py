"""Where the intermediate results of a program lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch.fx import Node

LINE = 64


@dataclass
class Piece:
    """A part of the function, which memory it reads and writes, and its operations where they are one loop."""

    text: Callable[[], list[str]]
    reads: set[Node]
    writes: set[Node]
    loop: Sequence[Node] = ()


def places(pieces: Sequence[Piece], placed: set[Node]) -> tuple[int, dict[Node, int]]:
    """Where each intermediate result lies: memory is used again once nothing needs what is in it."""
    last: dict[Node, int] = {}
    for i, piece in enumerate(pieces):
        for node in piece.reads | piece.writes:
            last[node] = i
    free: list[tuple[int, int]] = []
    found: dict[Node, int] = {}
    sizes: dict[Node, int] = {}
    end = 0
    for i, piece in enumerate(pieces):
        for node in sorted(piece.writes - placed - set(found), key=lambda n: n.name):
            layout = node.meta["layout"]
            entries = (
                1
                + layout.offset
                + sum((n - 1) * s for n, s in zip(layout.shape, layout.strides, strict=True))
            )
            size = -(-entries * layout.dtype.itemsize // LINE) * LINE
            fitting = [hole for hole in free if hole[1] >= size]
            if fitting:
                at, room = min(fitting, key=lambda hole: hole[1])
                free.remove((at, room))
                if room > size:
                    free.append((at + size, room - size))
            else:
                at, end = end, end + size
            found[node], sizes[node] = at, size
        for node in [n for n in found if last[n] == i]:
            free = _joined([*free, (found[node], sizes[node])])
    return end, found


def _joined(holes: list[tuple[int, int]]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for at, size in sorted(holes):
        if out and out[-1][0] + out[-1][1] == at:
            out[-1] = (out[-1][0], out[-1][1] + size)
        else:
            out.append((at, size))
    return out
