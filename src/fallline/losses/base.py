"""What a loss is: a number for each example, for a batch, or for the parameters; found by the loss's kind.

A loss is a value (:class:`fallline.specs.Loss`). It declares what it ``needs`` of
{prediction, target, weight, group, inputs, params, features, model, rng}, and its ``scope``:

    example   one number for each example; the batch's loss is their mean, by ``weight`` where there is one
    batch     one number for a batch (a gap between groups), which honors ``weight`` itself
    params    one number for the parameters (a penalty)

Losses add and scale, and every number in them, the scales too, may be an axis of a fleet. A loss may carry state
from step to step (multipliers): ``start`` makes it, and ``value`` returns it renewed. What is no number (old weights,
a user's function) is an option, and stands in the loss by a name (:mod:`fallline.losses.held`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from .. import specs
from ..errors import BadTask, BadValue, nearest
from ..specs import Domain, Loss
from ..types import Numbers
from .held import Option

Scope: TypeAlias = Literal["example", "batch", "params"]
Given: TypeAlias = Mapping[str, Any]
States: TypeAlias = dict[str, Tensor]

NEEDS = ("prediction", "target", "weight", "group", "inputs", "params", "features", "model", "rng")
WEIGHT = Domain("the weight of a loss in a sum", low=-float("inf"))


@dataclass(frozen=True)
class Behavior:
    """What one kind of loss does, for one run and one batch.

    Args:
        function: ``(given, h, state) → Tensor`` or, with state, ``→ (Tensor, state)``; ``given`` and ``h`` are
            read by attribute.
        needs: the names that ``given`` must have.
        scope: what the tensor is about.
        check: refuses what cannot be right, with a sentence, before a training starts.
        domains: what the numbers may be.
        start: the state before the first step, from the loss's options.
        options: what is no number; ``given`` has it by name.
        defaults: of the options that may be left out.
        others: by the name of a number, the loss that has it beside this one's: asked for that number, it is that loss.
        logits: whether it has a softmax or a sigmoid inside, which a model must not end in.
    """

    function: Callable[..., Any]
    needs: frozenset[str]
    scope: Scope
    check: Callable[[Any], None] = lambda given: None
    domains: Mapping[str, Domain] = field(default_factory=dict)
    start: Callable[..., States] | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Loss] = field(default_factory=dict)
    logits: bool = False

    def call(self, loss: Loss, *given: Tensor, **options: Any) -> Any:
        """The loss of (prediction, target) in a plain call, or the same loss with other settings."""
        if not given:
            other = next((self.others[name] for name in options if name in self.others), None)
            if other is not None:
                return other(**options)
            for name, number in options.items():
                if name in self.domains:
                    self.domains[name].check(loss.kind, name, number)
            own = {name: self.options[name].keep(loss.kind, name, options.pop(name)) for name in self.options
                   if name in options}  # fmt: skip
            return replace(loss, options={**loss.options, **own}).replace(**options)
        if len(given) != 2 or not all(isinstance(t, Tensor) for t in given):
            raise BadValue(f"{loss.kind} takes (prediction, target) as tensors, or settings by keyword")
        for name in set(options) - set(NEEDS):
            raise BadValue(f"a loss of a batch is given {', '.join(NEEDS)}; {name}: {nearest(name, NEEDS)}")
        named = {"prediction": given[0], "target": given[1], **options}
        check(loss, named)
        return value(loss, named)[0]


def behavior(loss: Loss) -> Behavior:
    """The behavior of a loss's kind."""
    found: Behavior = specs.behavior(loss)
    return found


def define(
    *,
    needs: tuple[str, ...],
    scope: Scope = "example",
    check: Callable[[Any], None] | None = None,
    start: Callable[..., States] | None = None,
    options: Mapping[str, Any] | None = None,
    others: Mapping[str, Loss] | None = None,
    logits: bool = False,
    **numbers: Any,
) -> Callable[[Callable[..., Any]], Loss]:
    """Make a loss from a function of ``(given, h)``, or of ``(given, h, state)`` where there is a ``start``.

    Args:
        needs: the names that ``given`` must have.
        scope: what the tensor is about: one number for each example, one for the batch, or one for the parameters.
        check: refuses what cannot be right, with a sentence, before a training starts.
        start: the state before the first step, from the loss's options; the function then returns ``(tensor, state)``.
        options: (option, default) by name; a default of None must be given.
        others: by the name of a number that this loss lacks, the loss that has it.
        logits: whether it has a softmax or a sigmoid inside, which a model must not end in.
        **numbers: (domain, default) by name.
    """
    unknown = set(needs) - set(NEEDS)
    if unknown:
        raise BadValue(f"a loss can need {', '.join(NEEDS)}; got {sorted(unknown)}")

    def decorate(function: Callable[..., Any]) -> Loss:
        kind = function.__name__
        domains = {name: domain for name, (domain, _) in numbers.items()}
        own = {name: option for name, (option, _) in (options or {}).items()}
        defaults = {name: value for name, (_, value) in (options or {}).items() if value is not None}
        refuse = check or (lambda given: None)
        known = Behavior(
            function, frozenset(needs), scope, refuse, domains, start, own, defaults, others or {}, logits
        )
        specs.register(Loss, kind, known)
        return Loss(kind, {name: default for name, (_, default) in numbers.items()}, defaults)

    return decorate


# --- using a loss -----------------------------------------------------------------------------------------


def needs(loss: Loss) -> frozenset[str]:
    """All that a loss and its terms need."""
    if loss.children:
        return frozenset().union(*(needs(term) for term in loss.children))
    return behavior(loss).needs | set(loss.options.get("needs", ()))


def takes_logits(loss: Loss) -> bool:
    """Whether the loss, or a term of it, has a softmax or a sigmoid inside."""
    return any(map(takes_logits, loss.children)) or behavior(loss).logits


def per_example(loss: Loss) -> bool:
    """Whether the loss is one number for each example through and through."""
    if loss.children:
        return all(per_example(term) for term in loss.children)
    return behavior(loss).scope == "example"


def check(loss: Loss, given: Given) -> None:
    """Refuse what cannot be right before a training starts: missing names, shapes, types, ranges."""
    for term in loss.children:
        check(term, given)
    if loss.children:
        return
    _check_has(loss, given)
    _check_weight(given)
    behavior(loss).check(_named(loss, given))


def _named(loss: Loss, given: Given) -> SimpleNamespace:
    """What a loss is given, and what it holds, by name."""
    own = behavior(loss).options
    return SimpleNamespace(**given, **{name: own[name].find(loss, name) for name in own})


def _check_has(loss: Loss, given: Given) -> None:
    missing = needs(loss) - set(given)
    if missing:
        raise BadTask(
            f"the loss {loss.kind} needs {', '.join(sorted(missing))}, but the batch has {sorted(given)}"
        )


def _check_weight(given: Given) -> None:
    """Refuse a batch without examples, and weights that are not one number for each example."""
    prediction, weight = given.get("prediction"), given.get("weight")
    if not isinstance(prediction, Tensor) or prediction.ndim == 0:
        return
    if len(prediction) == 0:
        raise BadTask("the batch is empty: the mean over no examples is not defined")
    if weight is None:
        return
    if weight.shape != prediction.shape[:1]:
        raise BadTask(
            f"the weights are {list(weight.shape)} for {len(prediction)} examples: they must be one number for each, "
            f"[{len(prediction)}]"
        )
    if not bool((weight >= 0).all() & (weight.sum() > 0)):
        raise BadTask(
            "the weights of examples must be at least 0, and one of them above 0, or there is no mean"
        )


def start(loss: Loss) -> States:
    """The state of a loss before the first step; empty for most."""
    own = behavior(loss).start
    state = own(**loss.options) if own is not None else {}
    for i, term in enumerate(loss.children):
        state.update({f"{i}.{name}": t for name, t in start(term).items()})
    return state


def value(
    loss: Loss, given: Given, h: Numbers | None = None, state: States | None = None
) -> tuple[Tensor, States]:
    """The loss of one batch, 0-d, and the loss's state after it.

    Args:
        loss: the loss.
        given: what the loss needs, by name; the first axis of tensors is the examples.
        h: the loss's numbers by path; its own fixed numbers where left out.
        state: the loss's state; the start where left out.
    """
    h = dict(specs.flatten(loss)) if h is None else h
    state = start(loss) if state is None else state
    if loss.kind == "sum":
        parts = [
            value(t, given, specs.inside(h, i), specs.inside(state, i)) for i, t in enumerate(loss.children)
        ]
        after = {f"{i}.{name}": s for i, (_, states) in enumerate(parts) for name, s in states.items()}
        return torch.stack([part for part, _ in parts]).sum(), after
    if loss.kind == "scaled":
        part, states = value(loss.children[0], given, specs.inside(h, 0), specs.inside(state, 0))
        return (h["weight"] * part).to(part.dtype), {f"0.{name}": s for name, s in states.items()}
    tensor, after = _computed(loss, given, h, state)
    return (_mean(tensor, given.get("weight")) if behavior(loss).scope == "example" else tensor), after


def _computed(loss: Loss, given: Given, h: Numbers, state: States) -> tuple[Tensor, States]:
    """What a kind's own function gives, and its state after it."""
    _check_has(loss, given)
    found, named = behavior(loss), (_named(loss, given), SimpleNamespace(**h))
    if found.start is None:
        return found.function(*named), {}
    tensor, after = found.function(*named, state)
    return tensor, after


def examples(loss: Loss, given: Given, h: Numbers | None = None, state: States | None = None) -> Tensor:
    """The loss of each example, [examples]; only for a loss that is per example."""
    h = dict(specs.flatten(loss)) if h is None else h
    state = start(loss) if state is None else state
    terms = [
        examples(term, given, specs.inside(h, i), specs.inside(state, i))
        for i, term in enumerate(loss.children)
    ]
    if loss.kind == "sum":
        return torch.stack(terms).sum(0)
    if loss.kind == "scaled":
        return h["weight"] * terms[0]
    return _computed(loss, given, h, state)[0]


def _mean(each: Tensor, weight: Tensor | None) -> Tensor:
    return each.mean() if weight is None else (each * weight).sum() / weight.sum()


def _composite(*given: Any) -> Any:
    raise NotImplementedError("sums and scales of losses are computed by value() and examples()")


specs.register(Loss, "sum", Behavior(_composite, frozenset(), "example"))
specs.register(Loss, "scaled", Behavior(_composite, frozenset(), "example", domains={"weight": WEIGHT}))
