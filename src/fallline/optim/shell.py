"""The torch shell: gradients go in from ``p.grad``, steps come out into ``p``, all else is the rule's."""

from __future__ import annotations

import contextlib
import copy
import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from .. import rules, specs
from ..errors import BadRule, BadValue
from ..specs import Schedule
from ..types import Info, State, Tree
from .closure import Closure
from .fused import Runner
from .loading import taken_over
from .plain import apart, gradient, portions, refuse, seen_by, share
from .plan import TREE, Group, Part, Plan, explained, named, plain_number, real


class Shell(torch.optim.Optimizer):
    """A real ``torch.optim.Optimizer`` around pure rules.

    Numbers stand in the parameter groups, where torch's schedulers and the user change them. A number that is a
    schedule shows its value for the next step there, and is changed by nobody else. The state of a parameter is
    in ``state[p]`` as flat tensors, what belongs to all of them together in ``param_groups[i]["__tree__"]``. Parameters
    of 16 bits are trained as float32 ones whose value is rounded after each step, with moments in float32.

    Args:
        params: parameters, groups of them, or ``model.named_parameters()``.
        numbers: what stands in each group unless it says otherwise; schedules are allowed.
        plan: which rules advance which groups.
    """

    _known: Mapping[str, rules.Fact] = {}

    def __init__(self, params: Any, numbers: Mapping[str, Any], plan: Plan) -> None:
        self._plan, self._numbers = plan, dict(numbers)
        self._schedules: list[dict[str, Schedule]] = []
        self._shown: list[dict[str, float]] = []
        self._complete: dict[str, tuple[str, bool]] = {}
        self._evaluating, self._runner = False, Runner()
        self.info: Info = {}
        fixed = {key: value.at(0) if isinstance(value, Schedule) else value for key, value in numbers.items()}
        super().__init__(params, fixed)

    # --- parameter groups -----------------------------------------------------------------------------------

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters with their own numbers; numbers that are not given are those of the optimizer."""
        group = {key: value for key, value in param_group.items() if key != TREE}
        self._refuse_misspelt(group)
        given = {key: group.get(key, value) for key, value in self._numbers.items()}
        schedules = {key: value for key, value in given.items() if isinstance(value, Schedule)}
        shown = {key: schedule.at(self.steps) for key, schedule in schedules.items()}
        group.update(shown)
        self._plan.check({**given, **shown})
        super().add_param_group(group)
        self._keep()
        before = len(self.param_groups) - 1  # groups may have been taken away
        self._schedules[before:], self._shown[before:] = [schedules], [shown]

    def _refuse_misspelt(self, group: Group) -> None:
        for key in set(group) - set(self._numbers) - {"params", "param_names"}:
            if any(key.endswith(f"_{name}") for name in self._numbers):
                continue  # what torch's schedulers leave in a group: initial_lr, max_momentum
            near = difflib.get_close_matches(key, self._numbers, n=1, cutoff=0.75)
            if near:
                raise BadValue(
                    f"a parameter group has {key!r}, which nothing reads: did you mean {near[0]!r}?"
                )

    def _named(self) -> list[Tree]:
        """The parameters of each group by name; where they were given without names, by number."""
        return named(self.param_groups)

    @property
    def steps(self) -> int:
        """The number of steps taken."""
        taken: int = self._common["steps"]
        return taken

    @property
    def note(self) -> str:
        """How the last step was taken: in one pass in C, or with torch's operations and why."""
        return "; ".join(dict.fromkeys(self._runner.notes.values()))

    @property
    def _common(self) -> dict[str, Any]:
        """What belongs to all parameters together: the number of steps, and what the rule keeps for the tree."""
        for group in self.param_groups:
            if TREE in group:
                found: dict[str, Any] = group[TREE]
                return found
        return {"rule": self._plan.kind, "steps": 0, "tree": {}}

    def _keep(self, **changed: Any) -> None:
        kept = {**self._common, **changed}
        for group in self.param_groups:
            group[TREE] = kept

    # --- a step ---------------------------------------------------------------------------------------------

    @torch.compiler.disable  # a compiled training step runs it as it is, instead of in fifty pieces
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, *, max_norm: float | None = None) -> Any:
        """Take one step with the gradients that are there; a parameter without one stays as it is.

        Args:
            closure: computes the gradients anew and returns the loss, which is returned; a rule that asks for the
                loss or for gradients at other parameters (SAM, line searches) calls it several times.
            max_norm: clip by the norm of all gradients together first, g ← g · min(1, max_norm / (‖g‖ + 1e-6)), in
                the same pass: ``p.grad`` stays as it is, and ‖g‖ stands in ``info["norm"]``.

        >>> from fallline import optim
        >>> w = torch.nn.Parameter(torch.zeros(2))
        >>> w.grad = torch.tensor([3.0, 4.0])
        >>> optimizer = optim.SGD([w], lr=1.0)
        >>> optimizer.step(max_norm=1.0)
        >>> w.detach(), optimizer.info["norm"].item()
        (tensor([-0.6000, -0.8000]), 5.0)
        """
        if self._evaluating:
            raise BadRule("step() inside evaluating(): the parameters are not those that are trained")
        if closure is None and self._asks_for_state():
            for part in self._plan.parts(self.param_groups, self._named()):
                self._fill(part, {name: p for name, p in part.params.items() if p.grad is not None})
            return None
        asked = Closure(closure)
        loss = asked.first()
        self._refuse_two_hands()
        self.info = {}
        parts, scale = self._plan.parts(self.param_groups, self._named()), 1.0
        if max_norm is not None:
            scale, self.info["norm"] = share(parts, max_norm)
        self._runner.notes.clear()
        for part in parts:
            self._advance(part, asked, scale)
        self._keep(steps=self.steps + 1)
        self._show()
        return loss

    def _asks_for_state(self) -> bool:
        """Whether this is no step of training, but one before the first, of rate 0 and along gradients of 0.

        ``torch.distributed.checkpoint`` takes it to have the state made; as a step it would age moments and weights.
        """
        if self.steps or self.state or any(plain_number(g.get("lr", 0)) for g in self.param_groups):
            return False
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        return bool(grads) and all(g.layout == torch.strided and not bool(g.any()) for g in grads)

    def _advance(self, part: Part, asked: Closure, scale: Any = 1.0) -> None:
        """Advance one part, in one pass where that can be done."""
        live = {name: p for name, p in part.params.items() if p.grad is not None}
        if not live:
            return
        oracle = asked.oracle(part.rule, part.params, part.uphill)
        self._fill(part, live)
        told = self._runner.advance(part, live, self.state, scale)
        if told is not None:
            self.info.update(told)
            return
        for portion in portions(part.rule, live):
            self._advance_plainly(part, portion, oracle, scale)

    def _advance_plainly(self, part: Part, live: Tree, oracle: rules.Oracle | None, scale: Any) -> None:
        seen = seen_by(part.rule)
        direction = {n: gradient(n, p, part.rule, n in part.uphill, scale) for n, p in live.items()}
        state = self._state_of(live)
        params = {name: seen(p) for name, p in part.params.items()}
        step, after, info = rules.update(part.rule, direction, state, params, part.h, oracle)
        for name, p in live.items():
            if after.params[name]:
                self.state[p] = {key: apart(t, p) for key, t in after.params[name].items()}
        self._keep(tree={**state.tree, **after.tree})
        self.info.update(info)
        torch._foreach_add_(list(map(real, live.values())), [step[name] for name in live])

    def _fill(self, part: Part, live: Tree) -> None:
        """Give a state to parameters that have none yet, or whose rule has come to need more."""
        needed = specs.structure(part.rule)
        known = ((needed, False), (needed, True))  # a state that was there may have been cleared
        new = [n for n, p in live.items() if self._complete.get(n) != known[bool(self.state.get(p))]]
        if not new:
            return
        for name in new:
            refuse(name, live[name], part.rule)
        seen = seen_by(part.rule)
        start = rules.init(part.rule, {name: seen(p) for name, p in part.params.items()}, part.h)
        for name in new:
            if start.params[name]:
                self.state[live[name]] = {**start.params[name], **self.state[live[name]]}
            self._complete[name] = known[bool(self.state.get(live[name]))]
        self._keep(tree={**start.tree, **self._common["tree"]})

    def _state_of(self, params: Tree) -> State:
        return State({name: self.state.get(p, {}) for name, p in params.items()}, self._common["tree"])

    # --- schedules ------------------------------------------------------------------------------------------

    def _show(self) -> None:
        """Put the values for the next step into the groups."""
        taken = self.steps
        self._shown = [{key: s.at(taken) for key, s in schedules.items()} for schedules in self._schedules]
        for group, shown in zip(self.param_groups, self._shown, strict=False):
            group.update(shown)

    def _refuse_two_hands(self) -> None:
        for i, (group, shown) in enumerate(zip(self.param_groups, self._shown, strict=False)):
            for key, value in shown.items():
                if group[key] != value or f"initial_{key}" in group:
                    raise BadRule(
                        f"{key} of parameter group {i} follows {self._schedules[i][key]!r}, and a torch scheduler or "
                        f"an assignment set it to {group[key]!r} too: keep one of the two "
                        "(fl.schedules.joined and scaled put schedules together)"
                    )

    def explain(self) -> str:
        """A table: each parameter with its shape, and the rules that it meets with the numbers in force now.

        >>> from fallline import optim
        >>> print(optim.SGD(torch.nn.Linear(3, 2).named_parameters(), lr=0.1).explain())
        parameter  shape  type  rules
        weight     2 × 3  —     descend(lr=0.1)
        bias       2      —     descend(lr=0.1)
        """
        return explained(self._plan.parts(self.param_groups, self._named()), self._known)

    # --- evaluation -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside, the parameters are those to evaluate (an average, say); after it, those that are trained again.

        >>> from fallline import optim
        >>> w = torch.nn.Parameter(torch.ones(1))
        >>> optimizer = optim.Optimizer([w], rules.average(rules.sgd(lr=1.0), decay=0.5))
        >>> w.grad = torch.ones(1)
        >>> optimizer.step()
        >>> with optimizer.evaluating():
        ...     w.item()
        0.5
        >>> w.item()
        0.0
        """
        kept, before = [], self._evaluating
        try:
            with torch.no_grad():
                for part in self._plan.parts(self.param_groups, self._named()):
                    held = {name: p for name, p in part.params.items() if self.state.get(p)}
                    own = {name: real(p) for name, p in part.params.items()}
                    for name, seen in rules.view(part.rule, own, self._state_of(held)).items():
                        if seen is not own[name]:
                            kept.append((own[name], own[name].clone()))
                            own[name].copy_(seen)
            self._evaluating = True
            yield
        finally:
            self._evaluating = before
            with torch.no_grad():
                for p, trained in kept:
                    p.copy_(trained)

    # --- saving and loading ---------------------------------------------------------------------------------

    @torch.compiler.disable
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave, bit for bit.

        Parameters are found by name where the optimizer that was saved and this one have names
        (``named_parameters()``): their order may differ, and frozen ones may have come or gone. Else they are found
        by place. State keeps its own dtype (float32 moments of bfloat16 parameters) and comes to the device. The
        state of torch's optimizer by the same name is taken too. What does not fit changes nothing.
        """
        if self._evaluating:
            raise BadRule(
                "load_state_dict() inside evaluating(): its end would put the parameters of before back"
            )
        given: Any = copy.copy(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, given)
            given = given if changed is None else changed
        state, groups = taken_over(given, self.param_groups, list(self._numbers), self._plan)
        self.__setstate__({"state": state, "param_groups": groups})
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        own = ("_plan", "_numbers", "_schedules", "_shown")
        return {**super().__getstate__(), **{name: self.__dict__[name] for name in own}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._complete, self._evaluating, self.info, self._runner = {}, False, {}, Runner()
        self._show()
