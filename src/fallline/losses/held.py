"""What a loss holds that is no number: old weights, an old model, a user's function.

A loss is plain data, and tensors are not. So they are kept here once, for all runs, under a name that tells their
content, and the loss has the name: it prints, compares and goes through JSON. A program that makes the loss again
from the same tensors, as a task's file does when a study resumes, finds them under the same name; one that does not
is told so. A function that can be imported is named ``module:function`` and needs no keeping.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .. import registry
from ..errors import BadValue, NotFound
from ..specs import Loss
from ..types import Tree

_things: dict[str, Any] = {}
_PLAIN = (bool, int, float, str, bytes, type(None))


@dataclass(frozen=True)
class Option:
    """What is no number in a loss.

    Args:
        keep: ``(kind, name, what somebody gave) → plain data``, and refuses what it cannot be.
        look: the thing of that plain data, None where it is not held.
    """

    keep: Callable[[str, str, Any], Any]
    look: Callable[[Any], Any] = lambda plain: plain

    def find(self, loss: Loss, name: str) -> Any:
        """What the loss holds under a name."""
        if name not in loss.options:
            raise BadValue(f"the loss {loss.kind} lacks its {name}: give it, as in {loss.kind}({name}=…)")
        found = self.look(loss.options[name])
        if found is None:
            raise NotFound(
                f"the loss {loss.kind} has {name}={loss.options[name]!r}, which this program does not hold: make the "
                f"loss again from it, as in {loss.kind}({name}=…), in the task's file, which is run when a study resumes"
            )
        return found


def _hold(name: str, thing: Any) -> str:
    _things.setdefault(name, thing)
    return name


def _look(name: str) -> Any:
    return _things.get(name)


def _digest(words: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(words.encode())
    for name, t in sorted(tensors.items()):
        digest.update(f"{name}/{t.dtype}/{tuple(t.shape)}".encode())
        numbers: Any = t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(numbers)
    return digest.hexdigest()[:12]


# --- weights ----------------------------------------------------------------------------------------------


def _keep_weights(kind: str, option: str, given: Any) -> str:
    tensors = dict(given.named_parameters()) if isinstance(given, nn.Module) else given
    if not isinstance(tensors, Mapping) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise BadValue(
            f"{kind}({option}=…) takes tensors by the names of parameters, or the model that has them; got a "
            f"{type(given).__name__}"
        )
    if not tensors:
        raise BadValue(f"{kind}({option}=…) is empty: without a tensor there is nothing to hold on to")
    own = {name: t.detach().clone() for name, t in tensors.items()}
    for name, t in own.items():
        if not t.is_floating_point() or not t.isfinite().all():
            raise BadValue(
                f"{kind}({option}=…): {name} is {list(t.shape)} of {t.dtype}, and must be finite floating-point numbers"
            )
    return _hold(f"weights {_digest('', own)}", own)


WEIGHTS = Option(_keep_weights, _look)
"""Tensors by the names of parameters, or a model, of which they are the parameters."""


def like(weights: Tree, p: Tensor, name: str) -> Tensor:
    """The held tensor of a parameter, in its type and where it is."""
    return weights[name].to(p.device, p.dtype)


# --- models -----------------------------------------------------------------------------------------------


def _keep_model(kind: str, option: str, given: Any) -> str:
    if not isinstance(given, nn.Module):
        raise BadValue(f"{kind}({option}=…) takes a model, an nn.Module; got a {type(given).__name__}")
    model = copy.deepcopy(given).eval().requires_grad_(requires_grad=False)
    return _hold(f"{type(model).__name__} {_digest(repr(model), model.state_dict())}", model)


MODEL = Option(_keep_model, _look)
"""A model, of which a copy is kept as it is when it is judged (without dropout)."""


def outputs(model: nn.Module, inputs: Any, like: Tensor) -> Tensor:
    """What a held model gives, in the type of another tensor and where that is; no gradient reaches the model."""
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    moved = {
        name: t.detach().to(like.device, like.dtype if t.is_floating_point() else t.dtype)
        for name, t in own.items()
    }
    args = inputs if isinstance(inputs, tuple) else () if isinstance(inputs, dict) else (inputs,)
    named = inputs if isinstance(inputs, dict) else {}
    found: Tensor = torch.func.functional_call(model, moved, args, named)
    return found.detach()


# --- functions --------------------------------------------------------------------------------------------


def _keep_function(kind: str, option: str, given: Any) -> str:
    if not callable(given):
        raise BadValue(
            f"{kind}({option}=…) takes a function of what the loss is given, such as lambda given: "
            f"given.prediction.mean() - 1.0; got a {type(given).__name__}"
        )
    label = getattr(given, "__qualname__", type(given).__name__)
    path = f"{getattr(given, '__module__', '')}:{label}"
    if path.count(":") == 1 and not path.startswith("__main__") and _imported(path) is given:
        return path
    name = first = f"{label} {hashlib.sha256(_text(given).encode()).hexdigest()[:12]}"
    others = itertools.count(2)
    while not _same(_things.get(name, given), given):  # the same code over another tensor or object
        name = f"{first} #{next(others)}"
    return _hold(name, given)


def _imported(path: str) -> Any:
    try:
        return registry.load(path)
    except NotFound:
        return None


def _same(one: Any, other: Any) -> bool:
    """Whether two functions do the same: one code, over the same values."""
    if one is other:
        return True
    if not (hasattr(one, "__code__") and hasattr(other, "__code__")) or one.__code__ != other.__code__:
        return False
    pairs = zip(_values(one), _values(other), strict=True)
    return all(a is b or (isinstance(a, _PLAIN) and type(a) is type(b) and a == b) for a, b in pairs)


def _values(function: Any) -> list[Any]:
    """What a function's code works on beside its arguments."""
    cells: Iterable[Any] = function.__closure__ or ()
    named = (function.__kwdefaults__ or {}).values()
    cells = (cell.cell_contents for cell in cells)
    return [function.__globals__, *(function.__defaults__ or ()), *named, *cells]


def _text(value: Any) -> str:
    """A function's code and the plain values in it, as text that is the same in every process."""
    if hasattr(value, "__code__"):
        return f"{_text(value.__code__)} {[_text(v) for v in _values(value)[1:]]}"
    if isinstance(value, types.CodeType):
        return f"{value.co_code.hex()} {value.co_names} {[_text(c) for c in value.co_consts]}"
    if isinstance(value, (tuple, frozenset)):
        inner = [_text(v) for v in value]
        return f"{inner if isinstance(value, tuple) else sorted(inner)}"
    return repr(value) if isinstance(value, _PLAIN) else type(value).__name__


def _look_function(name: str) -> Any:
    return _imported(name) if ":" in name else _look(name)


FUNCTION = Option(_keep_function, _look_function)
"""A function of what a loss is given: by its name where it can be imported, else kept, as a lambda is."""


# --- plain values -----------------------------------------------------------------------------------------


def _keep_whole(kind: str, option: str, given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise BadValue(f"{kind}({option}={given!r}): {option} must be a whole number of at least 1")
    return given


def _keep_flag(kind: str, option: str, given: Any) -> bool:
    if not isinstance(given, bool):
        raise BadValue(f"{kind}({option}={given!r}): {option} must be True or False")
    return given


WHOLE, FLAG = Option(_keep_whole), Option(_keep_flag)
