"""What a rule is: ``init``, ``update`` and ``view``, found by the rule's kind.

A rule turns a gradient into a step. It is a value (:class:`fallline.specs.Rule`), and its behavior is pure:

    init(rule, params, h)                              → state
    update(rule, direction, state, params, h, oracle)  → direction, state, info
    view(rule, params, state)                          → the parameters to evaluate

``h`` holds the hyperparameters at this step as data: floats in an optimizer, 0-d tensors (of float64, so that
1 − β keeps its digits) in a fleet. A Python ``if`` on one of them breaks a fleet; ``torch.where`` does not.
Rules are made by

    per_tensor           from the arithmetic of one tensor                          (in ``making``)
    whole_tree           from the arithmetic of all parameters together             (in ``making``)
    recipe               from an expression over other rules: a named rule          (in ``making``)
    chain, wrap, route   from other rules                                           (in ``compose``, ``routing``)

What flows through a chain is a *gradient* (uphill), then a *step* (what is added to the parameters), and after
a rule that reads or writes the parameters itself (decoupled decay) it is *done*. Rules say which they take, so
that a chain that would climb or shrink twice is refused when it is written, not found out in training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from torch import Tensor

from .. import specs
from ..errors import BadRule
from ..specs import Domain, Rule
from ..types import Info, Numbers, State, Tree

Stage: TypeAlias = Literal["gradient", "step", "done"]
Draw: TypeAlias = Callable[[Domain], Any]

Huge: TypeAlias = Literal["proportion", "bounded", "stalls", "diverges"]
EITHER: tuple[Stage, ...] = ("gradient", "step")
RATE = Domain("the learning rate: the step for a direction of size 1", low=0.0)
UNIT = Domain("a decay rate per step, the share of the past that is kept", low=0.0, high=1.0, open_high=True)
EPSILON = Domain("added to a denominator, in the unit of the gradient", low=0.0)
DECAY = Domain("the weight decay, the share of a weight that is taken off for a learning rate of 1", low=0.0)


@dataclass(frozen=True)
class Oracle:
    """What a rule may ask for beyond the gradient, on the same batch and noise; a rule declares it in ``needs``.

    Args:
        value: the loss at the parameters, 0-d.
        grad_at: ``params → (gradient, loss)`` at other parameters.
        fisher_vp: from a kind (exact, sampled, empirical) to the product of the Fisher matrix with a tree.
        kron_factors: from such a kind to the Kronecker factors (A, G) of each layer, by the name of its weight:
            F ≈ A ⊗ G, A [in + 1, in + 1] of its inputs with a 1 behind them, G [out, out] of its outputs' gradients.
    """

    value: Tensor | None = None
    grad_at: Callable[[Tree], tuple[Tree, Tensor]] | None = None
    fisher_vp: Callable[[str], Callable[[Tree], Tree]] | None = None
    kron_factors: Callable[[str], Mapping[str, tuple[Tensor, Tensor]]] | None = None


@dataclass(frozen=True)
class PerParameter:
    """A number that differs from parameter to parameter, as it does between parameter groups."""

    values: Mapping[str, Any]


def _same_view(rule: Rule, params: Tree, state: State) -> Tree:
    return params


def _children(rule: Rule) -> tuple[Rule, ...]:
    return rule.children


@dataclass(frozen=True)
class Behavior:
    """What one kind of rule does.

    Args:
        init, update, view: see the module.
        passes: what comes out for what goes in, a gradient or a step; or a sentence about why it does not go in.
        make: the public function that makes such a rule.
        sample: one such rule for tests and pages, with numbers from ``draw(domain)``.
        domains: what its own numbers may be.
        parts: the rules that it is made of.
        needs: what it asks of the oracle, its parts left out.
        named: whether it is an optimizer by name, with a slow twin in ``reference``.
        search: the numbers to tune when nothing else is said, and the range (low, high) to start from.
        sums: how many sums over all entries of all parameters it takes itself, where it sees them as one long vector.
        elementwise: whether each entry is treated alone, apart from what its parts do.
        as_vector: whether it sees all entries as one vector, whatever the shapes; what is elementwise does, too.
        discontinuous: whether a small change of the gradient can change the step by much, apart from its parts.
        shaped: whether a step depends on the shape of a parameter, so that zeros around it would change it.
        rounds: whether it rounds parameters of bfloat16 itself, and so must be given them as they are.
        invariances: what may be done to gradients and weights, by name, with the numbers under which steps follow:
            ``scale`` (c · g gives the same steps), ``proportion`` (c · g gives c times the steps), ``rotation``
            (of each tensor's entries), ``sign`` (of any entries), ``permutation`` (of each tensor's entries),
            ``turning`` (of the rows of each matrix, by an orthogonal matrix from the left).
        limits: what it becomes at the edge of its domains: a rule and its equal, as text.
        huge: what gradients of 1e30 do in float32: steps in "proportion" to them, "bounded" ones, later ones that
            are 0 ("stalls", as squares overflow), or ones that are not finite ("diverges").
        budget: in how many steps it converges on the contract's toys, at the best rate of its ``search``.
    """

    init: Callable[[Rule, Tree, Numbers], State]
    update: Callable[[Rule, Tree, State, Tree, Numbers, Oracle | None], tuple[Tree, State, Info]]
    passes: Callable[[Rule, Stage], Stage]
    make: Callable[..., Rule]
    sample: Callable[[Draw], Rule]
    view: Callable[[Rule, Tree, State], Tree] = _same_view
    domains: Mapping[str, Domain] = field(default_factory=dict)
    parts: Callable[[Rule], tuple[Rule, ...]] = _children
    needs: frozenset[str] = frozenset()
    named: bool = False
    search: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    sums: int = 0
    elementwise: bool = True
    as_vector: bool = False
    discontinuous: bool = False
    shaped: bool = False
    rounds: bool = False
    invariances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    huge: Huge | None = None
    budget: int = 1000


def behavior(rule: Rule) -> Behavior:
    """The behavior of a rule's kind."""
    found: Behavior = specs.behavior(rule)
    return found


# --- using a rule -----------------------------------------------------------------------------------------


def init(rule: Rule, params: Tree, h: Numbers | None = None) -> State:
    """The state before the first step."""
    return behavior(rule).init(rule, params, numbers(rule) if h is None else h)


def update(
    rule: Rule,
    direction: Tree,
    state: State,
    params: Tree,
    h: Numbers | None = None,
    oracle: Oracle | None = None,
) -> tuple[Tree, State, Info]:
    """The step for a gradient, the state after it, and what there is to tell; nothing is changed in place."""
    return behavior(rule).update(rule, direction, state, params, numbers(rule) if h is None else h, oracle)


def view(rule: Rule, params: Tree, state: State) -> Tree:
    """The parameters to evaluate, where they differ from those that are trained (averages)."""
    return behavior(rule).view(rule, params, state)


def numbers(rule: Rule) -> dict[str, Any]:
    """The numbers of a rule by path, when all of them are fixed."""
    found = dict(specs.flatten(rule))
    for path, value in found.items():
        if isinstance(value, (specs.Schedule, specs.Axis)):
            raise BadRule(
                f"{path}={value!r} is not a fixed number: give its value at this step as h[{path!r}]"
            )
    return found


# --- asking a rule about itself ---------------------------------------------------------------------------


def passes(rule: Rule, stage: Stage) -> Stage:
    """What comes out of a rule for what goes in, or a sentence about why it does not go in."""
    return behavior(rule).passes(rule, stage)


def check_trains(rule: Rule) -> None:
    """Refuse a rule that does not turn a gradient into a step."""
    if passes(rule, "gradient") == "gradient":
        raise BadRule(
            f"{rule!r} gives a direction uphill, not a step: end it with descend, "
            f"as in fl.chain({rule.kind}(…), fl.rules.descend(lr=0.01))"
        )


def refusal(rule: Rule, stage: Stage) -> str:
    """Why a rule does not take what comes in."""
    if stage == "done":
        return (
            f"{rule!r} cannot follow a rule that ends in a step of its own (decoupled weight decay): put it "
            f"before, as in fl.chain({rule.kind}(…), fl.rules.adamw(…))"
        )
    if stage == "step":
        return (
            f"{rule!r} takes a gradient, but what comes before it already gives a step downhill: "
            f"keep one of the two, or build from parts, as in fl.chain({rule.kind}(…), fl.rules.descend(lr=0.01))"
        )
    return f"{rule!r} takes a step, but a gradient comes in: put fl.rules.descend(lr=0.01) before it"


def needs(rule: Rule) -> frozenset[str]:
    """What a rule and its parts ask of the oracle beyond the gradient."""
    own = behavior(rule)
    return own.needs.union(*(needs(part) for part in own.parts(rule)))


def elementwise(rule: Rule) -> bool:
    """Whether each entry is treated alone, so that permuting the entries permutes the step."""
    own = behavior(rule)
    return own.elementwise and all(elementwise(part) for part in own.parts(rule))


def one_vector(rule: Rule) -> bool:
    """Whether each entry is treated alone, apart from sums over all of them, as if all were one long vector."""
    own = behavior(rule)
    alone = (own.elementwise or own.sums > 0) and not (own.needs or own.rounds)
    return alone and all(one_vector(part) for part in own.parts(rule))


def as_vector(rule: Rule) -> bool:
    """Whether the shapes of parameters do not matter, so that a complex number can be taken for two entries."""
    own = behavior(rule)
    return (own.elementwise or own.as_vector) and all(as_vector(part) for part in own.parts(rule))


def discontinuous(rule: Rule) -> bool:
    """Whether a small change of the gradient can change the step by much (a sign, a quantile)."""
    own = behavior(rule)
    return own.discontinuous or any(discontinuous(part) for part in own.parts(rule))


def shaped(rule: Rule) -> bool:
    """Whether a step depends on the shapes of parameters, so that zeros around one would change it."""
    own = behavior(rule)
    return own.shaped or any(shaped(part) for part in own.parts(rule))


def rounds(rule: Rule) -> bool:
    """Whether a rule rounds parameters of bfloat16 itself, and so must be given them as they are."""
    own = behavior(rule)
    return own.rounds or any(rounds(part) for part in own.parts(rule))
