"""Take over a state dict: our own by parameter name or place, and torch's of the same optimizer.

All that can be wrong is found before anything is changed.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from .. import rules
from ..errors import BadValue
from ..specs import Rule
from .plain import seen_by
from .plan import TREE, Group, Plan, named, plain_number, real

Held: TypeAlias = dict[str, Any]
State: TypeAlias = defaultdict[Tensor, Held]

NOT_NUMBERS = ("params", "param_names", TREE)
PLACES = ("foreach", "fused", "capturable", "differentiable")

LATER = ("decoupled_weight_decay",)
"""What torch has added to groups since: an older state dict leaves it as it is here."""

TORCHS = {
    "t": ("step",),
    "mu": ("exp_avg",),
    "nu": ("exp_avg_sq", "square_avg"),
    "largest": ("max_exp_avg_sq", "exp_inf"),
    "moved": ("acc_delta",),
    "product": ("mu_product",),
    "total": ("sum",),
    "trace": ("momentum_buffer",),
    "mean": ("grad_avg",),
}
"""What torch calls a state tensor of ours, by the last part of its name."""


def taken_over(
    given: Mapping[str, Any], groups: list[Group], numbers: list[str], plan: Plan
) -> tuple[State, list[Group]]:
    """The state and the parameter groups that a state dict asks for, with the parameters of these groups.

    Args:
        given: what ``state_dict()`` gave.
        groups, numbers, plan: those of the optimizer that takes it over.
    """
    if not isinstance(given, Mapping) or not {"state", "param_groups"} <= set(given):
        found = sorted(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
        raise BadValue(
            f"a state dict of an optimizer has 'state' and 'param_groups', as state_dict() gives it; got {found}"
        )
    saved = given["param_groups"]
    new, sources = _arranged(saved, groups)
    _check_owner(new, numbers, plan)
    _check_left_over(given, set(sources.values()))
    for group, old in zip(new, groups, strict=True):
        group.update({key: old[key] for key in PLACES if key in old})
        plan.check(group)
    torchs = not any(TREE in group for group in saved)
    state: State = defaultdict(dict)
    for name, (p, start) in _needed(plan, new).items():
        held = given["state"].get(sources.get(name)) or {}
        held = _from_torch(held, start) if torchs else held
        _check_held(name, held, start)
        if held:
            state[p] = {key: _placed(value, p, start.get(key)) for key, value in held.items()}
    devices = [p.device for group in new for p in group["params"]]
    common = _common(saved, given["state"], plan, devices[0])
    return state, [{**group, TREE: common} for group in new]


def kind_of(rule: Rule) -> str:
    """A rule without its numbers, as one line: what its state depends on.

    >>> kind_of(rules.chain(rules.clip_norm(1.0), rules.adam(lr=0.1)))
    'chain(clip_norm, adam)'
    """
    options = [f"{key}={re.sub(' at 0x[0-9a-f]+', '', repr(value))}" for key, value in rule.options.items()]
    inner = [*options, *map(kind_of, rule.children)]
    return f"{rule.kind}({', '.join(inner)})" if inner else rule.kind


# --- which saved parameter is which of ours ---------------------------------------------------------------


def _arranged(saved: list[Group], groups: list[Group]) -> tuple[list[Group], dict[str, Any]]:
    """The new groups, and under what each of our parameters was saved."""
    ours = named(groups)
    # torch.distributed.checkpoint calls parameters by text and has put them into our order, but not their names
    counted = all(isinstance(number, int) for group in saved for number in group["params"])
    if counted and _have_names(saved) and _have_names(groups):
        return _by_name(saved, groups)
    if len(saved) != len(groups):
        raise BadValue(
            f"the state dict has {len(saved)} parameter groups, and this optimizer has {len(groups)}: make the same "
            "groups, or give model.named_parameters() to both, as parameters are then found by name"
        )
    sources: dict[str, Any] = {}
    for i, (old, mine) in enumerate(zip(saved, ours, strict=True)):
        if len(old["params"]) != len(mine):
            raise BadValue(
                f"parameter group {i} of the state dict has {len(old['params'])} parameters, and {len(mine)} are here: "
                "give the same ones in the same order, or give model.named_parameters() to both, as parameters are "
                "then found by name"
            )
        sources.update(zip(mine, old["params"], strict=True))
    return [_with_params(old, group) for old, group in zip(saved, groups, strict=True)], sources


def _by_name(saved: list[Group], groups: list[Group]) -> tuple[list[Group], dict[str, Any]]:
    places = {
        name: (i, number)
        for i, old in enumerate(saved)
        for name, number in zip(old["param_names"], old["params"], strict=True)
    }
    new: list[Group] = []
    sources: dict[str, Any] = {}
    for i, (group, mine) in enumerate(zip(groups, named(groups), strict=True)):
        for name, p in mine.items():
            if name in places:
                sources[name] = places[name][1]
            elif p.requires_grad:
                raise BadValue(
                    f"the state dict knows no parameter {name!r}{_near(name, places)}: name the parameters as they were "
                    "named when it was saved, and freeze a new one (requires_grad=False) or add it after loading"
                )
        origins = sorted({places[name][0] for name in mine if name in places})
        numbers = [_numbers(saved[origin]) for origin in origins]
        if any(other != numbers[0] for other in numbers[1:]):
            raise BadValue(
                f"the parameters of group {i} were in groups {origins} when they were saved, with other numbers: group "
                "them as they were"
            )
        new.append(_with_params(saved[origins[0]] if origins else group, group))
    return new, sources


def _near(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _have_names(groups: list[Group]) -> bool:
    """Whether each parameter has a name of its own."""
    names = [name for group in groups for name in group.get("param_names", [None, None])]
    return len(set(names)) == len(names)


def _with_params(numbers: Group, group: Group) -> Group:
    """A copy of the numbers of one group, with the parameters of another."""
    taken: Group = {key: copy.deepcopy(value) for key, value in numbers.items() if key not in NOT_NUMBERS}
    own = {key: group[key] for key in ("params", "param_names") if key in group}
    tree = {TREE: numbers[TREE]} if TREE in numbers else {}
    return {key: group[key] for key in LATER if key in group} | taken | own | tree


def _numbers(group: Group) -> dict[str, Any]:
    return {key: plain_number(value) for key, value in group.items() if key not in NOT_NUMBERS}


# --- whose state it is ------------------------------------------------------------------------------------


def _check_owner(new: list[Group], numbers: list[str], plan: Plan) -> None:
    """Refuse what another optimizer left."""
    for group in new:
        saved = group[TREE]["rule"] if TREE in group else None
        if saved not in (None, plan.kind):
            raise BadValue(f"the state dict is of {saved}, and this optimizer is {plan.kind}: make that one")
        missing = [key for key in numbers if key not in (*PLACES, *group)]
        if missing:
            raise BadValue(
                f"the state dict is not of this optimizer: its parameter groups have no {missing}, only "
                f"{sorted(set(group) - set(NOT_NUMBERS))}"
            )
        if saved is None and not hasattr(torch.optim, plan.kind):
            raise BadValue(
                f"the state dict does not say whose it is, as those of fallline do, and this optimizer is {plan.kind}: "
                "only the optimizers that have torch's names take torch's state"
            )
        if "decoupled_weight_decay" in group and "decoupled_weight_decay" not in numbers:
            decoupled = group.pop("decoupled_weight_decay")
            if decoupled != (plan.kind == "AdamW"):
                raise BadValue(
                    f"the state dict of torch has decoupled_weight_decay={decoupled}, which makes it one of "
                    f"{'AdamW' if decoupled else 'Adam'}, and this optimizer is {plan.kind}: make that one"
                )


def _check_left_over(given: Mapping[str, Any], found: set[Any]) -> None:
    """Refuse state of parameters that are not here."""
    names = {
        number: name
        for group in given["param_groups"]
        for number, name in zip(group["params"], group.get("param_names", group["params"]), strict=True)
    }
    left = [name for number, name in names.items() if number not in found and given["state"].get(number)]
    if left:
        raise BadValue(
            f"the state dict has state of the parameters {left}, which are not here: give them to this optimizer too "
            "(frozen, if they are not to be trained), or take them out of the state dict"
        )


def _needed(plan: Plan, groups: list[Group]) -> dict[str, tuple[Tensor, Held]]:
    """Each parameter with the state that it starts from, without its values."""
    found = {}
    for part in plan.parts(groups, named(groups)):
        bare = {name: p.detach().to("meta") for name, p in part.params.items()}
        seen = seen_by(part.rule)
        shapes = {name: seen(p) for name, p in bare.items()}
        start = rules.init(part.rule, shapes, part.h).params
        found.update({name: (p, start[name]) for name, p in part.params.items()})
    return found


def _check_held(name: str, held: Held, start: Held) -> None:
    if held and start and not set(held) & set(start):
        raise BadValue(
            f"the state dict is not of this optimizer: parameter {name!r} has {sorted(held)}, "
            f"and {sorted(start)} was expected"
        )
    for key in set(held) & set(start):
        found, expected = tuple(getattr(held[key], "shape", ("none",))), tuple(start[key].shape)
        if found != expected:
            raise BadValue(
                f"the state dict is of another model: {key} of parameter {name!r} has the shape {found}, "
                f"and {expected} was expected"
            )


# --- what is taken ----------------------------------------------------------------------------------------


def _from_torch(held: Held, start: Held) -> Held:
    """The state of a parameter in our words; torch's SGD does not count steps, and that it has started is enough."""
    held = {key: value for key, value in held.items() if value is not None}
    found = {}
    for key in start:
        for name in TORCHS.get(key.rpartition(".")[2], ()):
            if name in held:
                found[key] = real(torch.as_tensor(held[name]))
    if found:
        found = {**{key: torch.ones(()) for key in start if key.endswith(".t")}, **found}
    return found if set(found) == set(start) else held


def _placed(value: Any, p: Tensor, start: Tensor | None) -> Any:
    """A copy on the parameter's device, in the dtype that the rule works in, whatever the parameter's is."""
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    dtype = value.dtype if start is None else start.dtype
    return value.detach().to(p.device, dtype, copy=True)


def _common(saved: list[Group], state: Mapping[Any, Any], plan: Plan, device: torch.device) -> Held:
    """What belongs to all parameters together; torch counts the steps parameter by parameter."""
    kept = next((group[TREE] for group in saved if TREE in group), None)
    if kept is None:
        taken = max((int(held.get("step", 0)) for held in state.values() if held), default=0)
        return {"rule": plan.kind, "steps": taken, "tree": {}}
    tree = kept.get("tree", {})  # torch.distributed.checkpoint leaves out what is empty
    return {**kept, "tree": {key: value.to(device, copy=True) for key, value in tree.items()}}
