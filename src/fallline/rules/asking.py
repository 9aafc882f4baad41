"""Rules that see whole matrices, or ask an oracle for more than a gradient: how they are made.

What there is to ask for, each on the batch and with the noise of the step, is declared in ``needs``:

    value          the loss at the parameters
    grad_at        params → (gradient, loss) at other parameters
    fisher_vp      kind → (v → F·v), F the Fisher matrix of the model's outputs
    kron_factors   kind → {weight: (A, G)}, with F ≈ A ⊗ G for the layer that uses the weight
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import Tensor

from .. import specs
from ..errors import BadRule, BadValue, nearest
from ..specs import Domain, Rule
from ..types import Info, Numbers, State, Tree
from .base import Behavior, Draw, Oracle, PerParameter, Stage, refusal
from .making import bound, checked, shared, signature_of

Whole: TypeAlias = Callable[..., tuple[Tree, dict[str, dict[str, Tensor]], Info]]
Start: TypeAlias = Callable[..., dict[str, dict[str, Tensor]]]
Option: TypeAlias = "tuple[Any, ...] | type[int] | type[tuple[Any, ...]]"

FISHERS = ("exact", "sampled", "empirical")
"""Over which targets the Fisher is an average: all, in closed form; one that is drawn from the model; the data's."""


def asking(
    *,
    start: Start,
    needs: tuple[str, ...] = (),
    takes: tuple[Stage, ...] = ("gradient",),
    gives: Stage | None = None,
    options: Mapping[str, tuple[Option, Any]] | None = None,
    together: bool = False,
    as_vector: bool = False,
    discontinuous: bool = False,
    **domains: Domain,
) -> Callable[[Whole], Callable[..., Rule]]:
    """Make a rule from ``update(direction, held, params, h, oracle, **options) → (direction, held, info)``.

    ``held`` is the state: tensors by parameter and name.

    Args:
        start: ``(params, h, **options) → held`` before the first step.
        needs: what it asks the oracle for.
        takes: what may come in.
        gives: what goes out (``None``: the same as came in).
        options: what an option may be (one of these values; ``int``, a whole number of at least 1; ``tuple``, three
            numbers) and its default.
        together: whether it acts on all parameters at once, ``h.name`` being one number for all of them; otherwise
            ``own(h, name, parameter)`` finds the number of one.
        as_vector: whether it sees all entries as one vector, whatever the shapes.
        discontinuous: whether a small change of the gradient can change the step by much.
        **domains: the hyperparameters by name, in order, with what they may be.
    """
    known = dict(options or {})

    def decorate(function: Whole) -> Callable[..., Rule]:
        kind = function.__name__
        signature = signature_of(*domains, *known)

        @functools.wraps(function, assigned=("__module__", "__name__", "__qualname__", "__doc__"), updated=())
        def make(*args: Any, **given: Any) -> Rule:
            defaults = {name: default for name, (_, default) in known.items()}
            left = {n: v for n, v in defaults.items() if n not in list(signature.parameters)[: len(args)]}
            values = bound(kind, signature, args, {**left, **given})
            chosen = {name: values.pop(name) for name in known}
            for name, value in chosen.items():
                check_option(kind, name, value, known[name][0])
            return Rule(kind, checked(kind, domains, values), chosen)

        make.__signature__ = signature  # type: ignore[attr-defined]
        del make.__wrapped__

        def begin(rule: Rule, params: Tree, h: Numbers) -> State:
            held = start(params, h, **rule.options)
            return State({name: held.get(name, {}) for name in params}, {})

        def step(
            rule: Rule, direction: Tree, state: State, params: Tree, h: Numbers, oracle: Oracle | None
        ) -> tuple[Tree, State, Info]:
            for need in needs:
                if oracle is None or getattr(oracle, need) is None:
                    raise BadRule(
                        f"{rule!r} needs {need} beside the gradient, and nobody gives it here: train it with fl.fleet.run, "
                        "or give rules.update an Oracle"
                    )
            given = shared(rule, h, params) if together else h
            new, after, info = function(direction, state.params, params, given, oracle, **rule.options)
            out = {name: new[name].to(d.dtype) for name, d in direction.items()}
            kept = {
                n: {k: after[n][k].to(t.dtype) for k, t in state.params[n].items()}
                for n in after
                if n in direction
            }
            return out, State({name: kept.get(name, {}) for name in direction}, {}), info

        def flows(rule: Rule, stage: Stage) -> Stage:
            if stage not in takes:
                raise BadRule(refusal(rule, stage))
            return gives or stage

        def sample(draw: Draw) -> Rule:
            return make(**{name: draw(domain) for name, domain in domains.items()})

        found = Behavior(
            begin, step, flows, make, sample, domains=dict(domains), needs=frozenset(needs), elementwise=False,
            as_vector=as_vector, shaped=True, discontinuous=discontinuous,
        )  # fmt: skip
        specs.register(Rule, kind, found)
        return make

    return decorate


def check_option(kind: str, name: str, value: Any, allowed: Option) -> None:
    """Refuse an option that is none of those that there are."""
    if allowed is int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise BadValue(f"{kind}({name}={value!r}): {name} is a whole number of at least 1; got {value!r}")
    elif allowed is tuple:
        if (
            not isinstance(value, (tuple, list))
            or len(value) != 3
            or not all(isinstance(x, float) for x in value)
        ):
            raise BadValue(f"{kind}({name}={value!r}): {name} are three numbers, as in (1.875, -1.25, 0.375)")
    elif isinstance(allowed, tuple) and value not in allowed:
        texts = [str(one) for one in allowed]
        raise BadValue(f"{kind}({name}={value!r}): there is no such {name}; {nearest(str(value), texts)}")


def own(h: Numbers, key: str, name: str) -> Any:
    """A number as one parameter sees it, which may differ between parameter groups."""
    return h[key].values[name] if isinstance(h[key], PerParameter) else h[key]
