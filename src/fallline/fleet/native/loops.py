"""Loops over the entries of tensors, in C."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Access:
    """A tensor's entries as a loop meets them: from an address, with a step for each axis of the loop."""

    pointer: str
    strides: tuple[int, ...]
    kind: str

    def at(self, axes: Sequence[int]) -> str:
        """The entry at the loop's position."""
        steps = [f"i{d} * {s}" if s != 1 else f"i{d}" for d, s in zip(axes, self.strides, strict=True) if s]
        return f"{self.pointer}[{' + '.join(steps) or 0}]"


def nest(
    shape: Sequence[int], reads: Mapping[str, Access], lines: Sequence[str], writes: Mapping[str, Access]
) -> list[str]:
    """A nest of loops that reads entries into names, computes, and writes names to entries.

    Axes that can be gone through as one are; the innermost is the one that steps least in what is written.
    """
    every = [*writes.values(), *reads.values()]
    sizes, strides = merged(shape, [a.strides for a in every])
    shown = [Access(a.pointer, s, a.kind) for a, s in zip(every, strides, strict=True)]
    outs, ins = shown[: len(writes)], shown[len(writes) :]
    axes = list(range(len(sizes)))
    text = []
    for d in axes:
        if d == axes[-1]:
            text.append("#pragma GCC ivdep")
        text.append(f"for (long i{d} = 0; i{d} < {sizes[d]}; i{d}++) {{")
    text += [f"const {a.kind} {name} = {a.at(axes)};" for name, a in zip(reads, ins, strict=True)]
    text += lines
    text += [f"{a.at(axes)} = {name};" for name, a in zip(writes, outs, strict=True)]
    return [*text, "}" * len(axes)] if axes else text


def merged(shape: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[list[int], list[tuple[int, ...]]]:
    """Axes ordered by how far the first tensor steps, without those of size 1, neighbors joined where all allow it."""
    axes = [d for d in range(len(shape)) if shape[d] != 1]
    if strides:
        axes.sort(key=lambda d: [-abs(s[d]) for s in strides[:1]])
    sizes: list[int] = []
    steps: list[list[int]] = []
    for d in axes:
        now = [s[d] for s in strides]
        if sizes and all(b == n * shape[d] for b, n in zip(steps[-1], now, strict=True)):
            sizes[-1] *= shape[d]
            steps[-1] = now
        else:
            sizes.append(shape[d])
            steps.append(now)
    return sizes, [tuple(axis[i] for axis in steps) for i in range(len(strides))]


def spot(axes: Sequence[int], strides: Sequence[int]) -> str:
    return " + ".join(f"i{d} * {strides[d]}" for d in axes if strides[d]) or "0"


def over(axes: Sequence[tuple[int, int]], inside: Callable[[list[int]], list[str]]) -> list[str]:
    body = inside([d for d, _ in axes])
    if not body:
        return []
    heads = [f"for (long i{d} = 0; i{d} < {n}; i{d}++) {{" for d, n in axes]
    if heads:
        heads.insert(-1, "#pragma GCC ivdep")
    return [*heads, *body, "}" * len(axes)]
