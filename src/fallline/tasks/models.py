"""The model of a task: the function that makes it, what is frozen in it, and its dropout rates."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .. import losses, rng
from ..errors import BadTask, BadValue, FalllineError
from ..specs import Loss
from ..types import Numbers

MODEL = "model."
"""How the names of a model's numbers begin among those of a task."""


# --- the function that makes it ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Factory:
    """A function that makes an ``nn.Module``, with the arguments that a run may set.

    Args:
        make: the function.
        options: its arguments, as they are unless a run sets them.
        changed: those that are not what the function has by itself.
    """

    make: Callable[..., nn.Module]
    options: Mapping[str, Any]
    changed: Mapping[str, Any]

    @staticmethod
    def of(model: Any) -> Factory:
        """The factory of what somebody gave as the model."""
        if isinstance(model, nn.Module):
            raise BadTask(
                f"model is one {type(model).__name__}, so every run would start from the same weights: pass a function "
                f"that makes a new one, as in model=lambda: {type(model).__name__}(…)"
            )
        if not callable(model):
            raise BadTask(
                f"model must be a function that makes an nn.Module, as in model=lambda: MyNet(), got {model!r}"
            )
        return Factory(model, _options(model), {})

    def set(self, options: Mapping[str, Any]) -> Factory:
        """The same function with other arguments."""
        for name, value in options.items():
            _check_type(name, value, self.options[name])
        merged = {**self.options, **options}
        changed = {k: v for k, v in merged.items() if k in self.changed or v != self.options[k]}
        return Factory(self.make, merged, changed)

    def without(self, option: str) -> Factory:
        """The same function, of which runs cannot set one argument."""
        return replace(self, options={k: v for k, v in self.options.items() if k != option})

    def __call__(self, seed: int, dtype: torch.dtype) -> nn.Module:
        """The module of one seed."""
        call = f"model({', '.join(f'{k}={v!r}' for k, v in self.changed.items())})"
        with rng.seeded(rng.seed_for(seed, "init")):
            try:
                module = self.make(**self.changed)
            except FalllineError:
                raise
            except Exception as error:
                given = "with the arguments of a run" if self.changed else "without arguments"
                raise BadTask(
                    f"{call} failed: {type(error).__name__}: {error}; it is called {given}, once for each seed, "
                    "as in model=lambda: MyNet(64, 10)"
                ) from error
        if not isinstance(module, nn.Module):
            raise BadTask(f"model() must return an nn.Module, got a {type(module).__name__}")
        lazy = [n for n, p in module.named_parameters() if isinstance(p, nn.parameter.UninitializedParameter)]
        if lazy:
            raise BadTask(
                f"the parameter {lazy[0]} of {type(module).__name__} has no shape before the first call: give lazy layers "
                "their sizes, as in nn.Linear(64, 10) in place of nn.LazyLinear(10)"
            )
        return module.to(dtype)


def _options(make: Callable[..., Any]) -> dict[str, Any]:
    """The arguments that have a plain default: what a run may set."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # written in C
        return {}
    named = (p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return {p.name: p.default for p in named if isinstance(p.default, (int, float, str, bool))}


def _check_type(name: str, value: Any, default: Any) -> None:
    kind = type(default)
    fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not fits or (isinstance(value, bool) and kind is not bool):
        words = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}
        raise BadValue(
            f"the model's option {name}={value!r} must be {words[kind]}, as its default {default!r} is; got a "
            f"{type(value).__name__}"
        )


# --- what is frozen ---------------------------------------------------------------------------------------


def template(
    make: Factory, dtype: torch.dtype, like: nn.Module | None = None
) -> tuple[nn.Module, frozenset[str]]:
    """A module that stands for those of all seeds, and the names of the frozen parameters that they have in common.

    Those stay in the module, once for all runs, and are no variables of a run; all others of its weights are never
    used.

    Args:
        make: makes the module of a seed.
        dtype: of its parameters.
        like: a template of the same model with other options, whose frozen parameters are taken where they are equal.
    """
    module = make(0, dtype)
    fixed = {name: p for name, p in module.named_parameters() if not p.requires_grad}
    module = _without_weights(module)
    if not fixed:
        return module, frozenset()
    other = dict(make(1, dtype).named_parameters())
    common = [name for name, p in fixed.items() if name in other and _equal(p, other[name])]
    held = {} if like is None else dict(like.named_parameters())
    for name in common:
        if name in held and not held[name].requires_grad and _equal(held[name], fixed[name]):
            path, _, leaf = name.rpartition(".")
            setattr(module.get_submodule(path), leaf, held[name])
    return module, frozenset(common)


def _without_weights(module: nn.Module) -> nn.Module:
    """A copy without the numbers of the parameters that are trained; their shapes and types stay.

    Frozen parameters are the same ones.
    """
    instead: dict[int, Any] = {
        id(p): nn.Parameter(p.detach().to("meta")) if p.requires_grad else p for p in module.parameters()
    }
    try:
        return copy.deepcopy(module, instead)
    except Exception:  # it holds what cannot be copied
        return module


def with_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """Give a template's copy weights of its own, by name; parameters that are shared stay so."""
    made: dict[nn.Parameter, nn.Parameter] = {}
    for name, p in list(module.named_parameters(remove_duplicate=False)):
        path, _, leaf = name.rpartition(".")
        if name in weights and p not in made:
            made[p] = nn.Parameter(weights[name].detach().clone(), p.requires_grad)
        if p in made:
            setattr(module.get_submodule(path), leaf, made[p])
    with torch.no_grad():
        for name, t in module.named_buffers():
            if name in weights:
                t.copy_(weights[name])
    return module


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() or torch.equal(one, other)


@contextmanager
def as_made(module: nn.Module | None) -> Iterator[None]:
    """Afterwards a module's plain attributes are as before: what it counts in one run is not seen by the next."""
    parts = [] if module is None else list(module.modules())
    kept = [{k: v for k, v in vars(part).items() if k not in _TORCHS} for part in parts]
    before = [{k: _copy(v) for k, v in own.items()} for own in kept]
    try:
        yield
    finally:
        for part, own, copies in zip(parts, kept, before, strict=True):
            for name in set(vars(part)) - set(own) - _TORCHS:
                del vars(part)[name]
            vars(part).update({name: own[name] if copy is None else copy for name, copy in copies.items()})


_TORCHS = {"_parameters", "_buffers", "_modules", "training"}


def _copy(value: Any) -> Any:
    """A copy of a collection of plain values, which may be changed in place; None for what is kept as it is."""
    if type(value) not in (list, dict, set):
        return None
    within = [*value, *value.values()] if isinstance(value, dict) else list(value)
    return copy.copy(value) if all(isinstance(v, (int, float, str, type(None))) for v in within) else None


# --- dropout rates ----------------------------------------------------------------------------------------

Places = list[tuple[nn.Module, str]]
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_BY_ITSELF = (nn.LSTM, nn.GRU, nn.RNN)  # whose kernels drop out by themselves, with one rate for all runs


def rates(module: nn.Module) -> dict[str, Places]:
    """Where the dropout rates of a model are, by the names that a run knows them by: dropout (all), <path>.p (one)."""
    found: dict[str, Places] = {}
    for path, part in module.named_modules():
        attribute, kinds = ("p", (int, float)) if isinstance(part, _DROPOUTS) else ("dropout", float)
        if isinstance(vars(part).get(attribute), kinds) and type(part) not in _BY_ITSELF:
            found[MODEL + (f"{path}.p" if path else "p")] = [(part, attribute)]
    every = [place for places in found.values() for place in places]
    return {MODEL + "dropout": every, **found} if found else {}


def rate_numbers(places: Mapping[str, Places]) -> dict[str, float]:
    """The rates as the model has them; as the common one the largest, which those of single modules then overrule."""
    return {name: max(float(getattr(*place)) for place in at) for name, at in places.items()}


@contextmanager
def with_rates(places: Mapping[str, Places], h: Numbers) -> Iterator[None]:
    """Inside, the modules have the rates of a run, those of single modules above the common one."""
    held = [(*place, getattr(*place)) for place in places.get(MODEL + "dropout", ())]
    try:
        for name, at in places.items():
            for place in at if name in h else ():
                setattr(*place, rng.Rate(h[name]) if isinstance(h[name], Tensor) else h[name])
        yield
    finally:
        for module, attribute, value in held:
            setattr(module, attribute, value)


def check_end(model: nn.Module, loss: Loss) -> None:
    """Refuse a model that ends in a softmax or a sigmoid for a loss that takes what comes before it."""
    last = model
    while isinstance(last, nn.Sequential) and len(last):
        last = last[-1]
    if losses.takes_logits(loss) and isinstance(last, (nn.Softmax, nn.Softmax2d, nn.Sigmoid)):
        raise BadTask(
            f"the model ends in {type(last).__name__}, and the loss {loss!r} takes what comes before it: it would be applied "
            "twice; take it out of the model"
        )


def check_classes(loss: Loss, target: Tensor) -> None:
    """Refuse targets that are all one class for a loss that tells classes apart."""
    values = target.numpy()  # torch has no smallest and largest of narrow unsigned types
    if losses.takes_logits(loss) and target.ndim == 1 and values.min() == values.max():
        raise BadTask(
            f"all {len(target)} targets of the train part are {float(target[0]):g}: there is nothing to be told apart; look "
            "at how the labels were read, or shuffle before splitting"
        )
