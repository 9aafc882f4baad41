"""A rule at work on the parameters of one large model, which are changed in place, a piece at a time.

A rule makes several tensors as large as its parameters on the way to a step. Where it treats each entry alone, it is
one pass over memory in C, as in ``fl.optim``. Where that cannot be had, large parameters are cut and small ones
joined, so that these fit into a processor's cache; on a GPU, where each call costs more than its arithmetic, all
parameters are joined into one piece. Other rules see the whole tree.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ... import rules
from ...optim import plan
from ...optim.fused import Runner
from ...specs import Rule
from ...tree import norm
from ...types import Numbers, State, Tree

PIECE = 1 << 19
"""Numbers in a piece: Adam on 11 million parameters took 25 ms whole, and 17 ms in pieces of 2**18 to 2**19."""


class Part(Protocol):
    """Parameters that the rule advances together; ``names`` are theirs."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def take(self, tree: Tree) -> Tree:
        """This part of the parameters, or of what is shaped as they are."""

    def give(self, taken: Tree) -> Iterator[tuple[str, int, Tensor]]:
        """What was taken, as (parameter, first entry, entries)."""


@dataclass(frozen=True)
class Named:
    """Some parameters, or all, as they are."""

    names: tuple[str, ...]

    def take(self, tree: Tree) -> Tree:
        return {name: tree[name] for name in self.names}

    def give(self, taken: Tree) -> Iterator[tuple[str, int, Tensor]]:
        for name, t in taken.items():
            yield name, 0, t.reshape(-1)


@dataclass(frozen=True)
class Cut:
    """Some entries of one parameter."""

    name: str
    start: int
    stop: int

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def take(self, tree: Tree) -> Tree:
        return {self.name: tree[self.name].reshape(-1)[self.start : self.stop]}

    def give(self, taken: Tree) -> Iterator[tuple[str, int, Tensor]]:
        yield self.name, self.start, taken[self.name]


@dataclass(frozen=True)
class Joined:
    """Several parameters as one long vector."""

    sizes: Mapping[str, int]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.sizes)

    def take(self, tree: Tree) -> Tree:
        return {"joined": torch.cat([tree[name].reshape(-1) for name in self.sizes])}

    def give(self, taken: Tree) -> Iterator[tuple[str, int, Tensor]]:
        for name, t in zip(self.sizes, taken["joined"].split(list(self.sizes.values())), strict=True):
            yield name, 0, t


def parts(params: Tree, largest: int) -> list[Part]:
    """Cut and join parameters into pieces of about ``largest`` entries, each of one dtype.

    >>> parts({"a": torch.zeros(2), "b": torch.zeros(5), "c": torch.zeros(1)}, 3)
    [Cut(name='b', start=0, stop=3), Cut(name='b', start=3, stop=5), Joined(sizes={'a': 2, 'c': 1})]
    """
    cut: list[Part] = []
    held: dict[torch.dtype, dict[str, int]] = {}
    joined: list[dict[str, int]] = []
    for name, p in params.items():
        n = p.numel()
        if n > largest:
            cut += [Cut(name, i, min(i + largest, n)) for i in range(0, n, largest)]
            continue
        if p.dtype not in held or sum(held[p.dtype].values()) + n > largest:
            held[p.dtype] = {}
            joined.append(held[p.dtype])
        held[p.dtype][name] = n
    return [*cut, *(Joined(sizes) for sizes in joined)]


class Descent:
    """One rule, its state, and the parameters that it changes.

    Args:
        rule: the rule.
        params: the parameters, each contiguous; they are changed in place.
        h: the rule's numbers at the first step.
        largest: entries in a piece; left out, what suits the device.
    """

    def __init__(self, rule: Rule, params: Tree, h: Numbers, largest: int | None = None) -> None:
        self.rule, self.params = rule, {name: p.detach() for name, p in params.items()}
        on_cpu = all(p.device.type == "cpu" for p in params.values())
        large = on_cpu and largest is None and sum(p.numel() for p in params.values()) > PIECE
        self._runner = Runner() if large else None
        together = [Named(tuple(params))]
        cut = (
            parts(self.params, largest or (PIECE if on_cpu else sys.maxsize)) if _cuttable(rule) else together
        )
        self._begin([Named((name,)) for name in params] if large and _cuttable(rule) else together, h)
        like = {name: torch.empty_like(p) for name, p in self.params.items()} if large else {}
        if self._runner and not self._in_one_pass(like, h, ready=True):
            self._runner = None
        if not self._runner:
            self._begin(cut, h)
        if any(state.tree for state in self.states):  # what belongs to all parameters together stays together
            self._begin(together, h)

    def _begin(self, cut: Sequence[Part], h: Numbers) -> None:
        self.parts = cut
        self.states, self.shapes = [], []
        for part in cut:
            taken = part.take(self.params)
            self.states.append(_apart(rules.init(self.rule, taken, h), taken))
            self.shapes.append({name: t.shape for name, t in taken.items()})

    def _in_one_pass(self, gradient: Tree, h: Numbers, *, ready: bool = False) -> bool:
        """Take a step in one pass where that can be done; with ``ready``, only say whether it can."""
        assert self._runner is not None
        held = {
            p: state.params[name]
            for part, state in zip(self.parts, self.states, strict=True)
            for name, p in part.take(self.params).items()
        }
        part = plan.Part(self.rule, h, self.params, frozenset())
        for name, p in self.params.items():
            p.grad = gradient[name].contiguous()
        try:
            if ready:
                return self._runner.ready(part, self.params, held)
            return self._runner.advance(part, self.params, held, 1.0) is not None
        finally:
            for p in self.params.values():
                p.grad = None

    @torch.no_grad()
    def step(self, gradient: Tree, h: Numbers, *, measure: bool = False) -> Tensor | None:
        """Change the parameters; where it is to be measured, the size of the step relative to them."""
        if self._runner and not measure and self._in_one_pass(gradient, h):
            return None
        before = norm(self.params) if measure else None
        sizes: Tree = {}
        for i, part in enumerate(self.parts):
            params, direction = part.take(self.params), part.take(gradient)
            step, after, _ = rules.update(self.rule, direction, self.states[i], params, h)
            self.states[i] = _apart(after, {**params, **{f"gradient {k}": g for k, g in direction.items()}})
            own, more = [], []
            for name, start, t in part.give(step):
                own.append(self.params[name].view(-1)[start : start + len(t)])
                more.append(t)
            torch._foreach_add_(own, more)
            if measure:
                sizes[str(i)] = norm(step)
        return None if before is None else norm(sizes) / before

    @torch.no_grad()
    def seen(self) -> Tree:
        """The parameters to evaluate, where they differ from those that are trained (averages)."""
        found: Tree = {}
        for part, state in zip(self.parts, self.states, strict=True):
            params = part.take(self.params)
            view = rules.view(self.rule, params, state)
            if all(view[name] is params[name] for name in params):
                continue
            for name, start, t in part.give(view):
                if name not in found:
                    found[name] = self.params[name].clone()
                found[name].view(-1)[start : start + len(t)] = t
        return {**self.params, **found}

    def tensors(self) -> Tree:
        """The rule's state by name, to be saved."""
        found: Tree = {}
        for part, state, shapes in zip(self.parts, self.states, self.shapes, strict=True):
            found |= {f"tree/{key}": t for key, t in state.tree.items()}
            for name, key, t in _each(state):
                if t.shape != shapes[name]:  # a number for all of them
                    found |= {f"params/{own}/{key}": t for own in part.names}
                    continue
                for own, start, entries in part.give({name: t}):
                    at = f"params/{own}/{key}"
                    if at not in found:
                        found[at] = torch.empty_like(self.params[own], dtype=t.dtype)
                    found[at].view(-1)[start : start + len(entries)] = entries
        return found

    def load(self, saved: Tree) -> None:
        """Take over what :meth:`tensors` gave, however the parameters were cut then."""
        for i, (part, state, shapes) in enumerate(zip(self.parts, self.states, self.shapes, strict=True)):
            held: dict[str, dict[str, Tensor]] = {name: {} for name in state.params}
            for name, key, t in _each(state):
                given = {own: saved[f"params/{own}/{key}"] for own in part.names}
                entries = t.shape == shapes[name]
                held[name][key] = (part.take(given)[name] if entries else given[part.names[0]]).clone()
            self.states[i] = State(held, {key: saved[f"tree/{key}"] for key in state.tree})


def _cuttable(rule: Rule) -> bool:
    """Whether a rule sees neither where in a parameter an entry stands, nor what the parameter is called."""
    return rules.elementwise(rule) and not _asks_names(rule)


def _each(state: State) -> Iterator[tuple[str, str, Tensor]]:
    """The tensors of a state, with whose they are and what they are called."""
    for name, own in state.params.items():
        for key, t in own.items():
            yield name, key, t


def _asks_names(rule: Rule) -> bool:
    return rule.kind == "route" or any(_asks_names(part) for part in rules.base.behavior(rule).parts(rule))


def _apart(state: State, others: Tree) -> State:
    """State tensors that are not the parameters or gradients themselves, as those are changed in place later."""
    taken = {t.data_ptr() for t in others.values()}

    def own(t: Tensor) -> Tensor:
        return t.clone() if t.data_ptr() in taken else t

    params = {name: {key: own(t) for key, t in held.items()} for name, held in state.params.items()}
    return State(params, {key: own(t) for key, t in state.tree.items()})
