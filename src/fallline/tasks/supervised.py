"""The usual task: a model, data, a loss and a score."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .. import losses, rng, specs
from ..errors import BadTask, FalllineError
from ..specs import Loss
from ..types import Numbers, Tree
from . import data, scores
from .base import PARTS, Batch, Task, Variables

_LOSS_STATE = "loss:"
FEW = 4
"""Examples that a task is tried on when it is made."""


def supervised(
    model: Any, train: Any, validation: Any, test: Any, *, loss: Any, score: Any, name: str, better: Any,
    batch: int | None, dtype: torch.dtype,
) -> Task:  # fmt: skip
    """See :meth:`fallline.tasks.Task.supervised`."""
    make = _factory(model)
    if not isinstance(loss, Loss):
        raise BadTask(f"loss must be a fallline loss such as fl.losses.cross_entropy, got {loss!r}")
    if dtype not in (torch.float32, torch.float64):
        raise BadTask(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    given = {"train": train, "validation": validation, "test": test}
    batch = data.batch_size(train) or 32 if batch is None else batch
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise BadTask(f"batch must be a whole number of at least 1, got {batch!r}")
    whole = {k: data.columns(k, v, dtype) for k, v in given.items() if v is not None}
    data.agree(whole)
    parts = data.split(whole)
    classes = data.is_classes(parts["train"]["target"])
    each, metric = scores.find(score, better, classes=classes)
    template = _made(make, dtype)
    name = name or type(template).__name__
    one = _Supervised(name, make, template, loss, each, dtype)
    few = one.check(parts)
    if metric.name == "r2":
        parts = {part: scores.with_variance(columns) for part, columns in parts.items()}
    if each is not None:
        _check_score(each, few, {name: column[:FEW] for name, column in parts["train"].items()})
    facts = {
        "model": type(template).__name__,
        "parameters": sum(p.numel() for p in template.parameters()),
        "loss": repr(loss),
        "examples": {part: len(parts[part]["target"]) for part in PARTS},
        "data": _fingerprint(parts, PARTS),
        "test_data": _fingerprint(parts, ("test",)),
    }
    numbers = dict(specs.flatten(loss))
    return Task(name, one.init, one.loss, one.score, parts, metric, numbers, batch, facts, repr(loss))


def _factory(model: Any) -> Callable[[], nn.Module]:
    if isinstance(model, nn.Module):
        raise BadTask(
            f"model is one {type(model).__name__}, so every run would start from the same weights: pass a function "
            f"that makes a new one, as in model=lambda: {type(model).__name__}(…)"
        )
    if not callable(model):
        raise BadTask(
            f"model must be a function that makes an nn.Module, as in model=lambda: MyNet(), got {model!r}"
        )
    make: Callable[[], nn.Module] = model
    return make


def _made(make: Callable[[], nn.Module], dtype: torch.dtype, seed: int = 0) -> nn.Module:
    with rng.seeded(rng.seed_for(seed, "init")):
        try:
            module = make()
        except FalllineError:
            raise
        except Exception as error:
            raise BadTask(
                f"model() failed: {type(error).__name__}: {error}; it is called without arguments, once for each seed, "
                "as in model=lambda: MyNet(64, 10)"
            ) from error
    if not isinstance(module, nn.Module):
        raise BadTask(f"model() must return an nn.Module, got a {type(module).__name__}")
    return module.to(dtype)


@dataclass(frozen=True)
class _Supervised:
    """The functions of one run, over a template of the model whose own weights are never used."""

    name: str
    make: Callable[[], nn.Module]
    template: nn.Module
    spec: Loss
    each: scores.Score | None
    dtype: torch.dtype

    def init(self, seed: int) -> Variables:
        module = _made(self.make, self.dtype, seed)
        named = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
        fixed = {name: p.detach() for name, p in module.named_parameters() if not p.requires_grad}
        state = {_LOSS_STATE + name: t for name, t in losses.start(self.spec).items()}
        return Variables(named, {**fixed, **dict(module.named_buffers()), **state})

    def loss(self, params: Tree, buffers: Tree, batch: Batch, h: Numbers) -> tuple[Tensor, Tree]:
        given, after = self._given(params, buffers, batch, training=True)
        value, state = losses.value(self.spec, given, h, _held(buffers))
        return value, {**after, **{_LOSS_STATE + name: t for name, t in state.items()}}

    def score(self, params: Tree, buffers: Tree, batch: Batch, h: Numbers) -> dict[str, Tensor]:
        given, _ = self._given(params, buffers, batch, training=False)
        if losses.per_example(self.spec):
            loss = losses.examples(self.spec, given, h, _held(buffers))
        else:
            loss, _ = losses.value(self.spec, given, h, _held(buffers))
        return {"loss": loss, "score": loss if self.each is None else self.each(given["prediction"], batch)}

    def _given(
        self, params: Tree, buffers: Tree, batch: Batch, *, training: bool
    ) -> tuple[dict[str, Any], Tree]:
        """What the loss is given, and the model's buffers afterwards (a step may change them: running averages)."""
        own = {name: t.clone() for name, t in buffers.items() if not name.startswith(_LOSS_STATE)}
        self.template.train(training)
        prediction = functional_call(self.template, {**params, **own}, (batch["inputs"],))
        return {"prediction": prediction, "params": params, **batch}, own

    def check(self, parts: dict[str, Batch]) -> Tensor:
        """Refuse, with a sentence, a model whose output does not fit the labels; its output for a few examples."""
        first = self.init(0)
        few = {name: column[:FEW] for name, column in parts["train"].items()}
        with torch.no_grad(), rng.Noise(*torch.zeros(2, dtype=torch.int64)):
            given = self._prediction(first, few)
        prediction: Tensor = given["prediction"]
        for columns in parts.values():  # shapes from the few, the range of the labels from all
            whole = prediction[:1].expand(len(columns["target"]), *prediction.shape[1:])
            losses.check(self.spec, {**given, **columns, "prediction": whole})
        return prediction

    def _prediction(self, first: Variables, few: Batch) -> dict[str, Any]:
        try:
            given, _ = self._given(*first, few, training=False)
        except FalllineError:
            raise
        except Exception as error:
            inputs = few["inputs"]
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            hint = (
                ""
                if inputs.is_floating_point()
                else "; if X holds numbers and not indices, pass X.astype(float)"
            )
            raise BadTask(
                f"the model {type(self.template).__name__} of {self.name} does not take inputs "
                f"{['n', *inputs.shape[1:]]} of {inputs.dtype}: {reason}{hint}"
            ) from error
        if not isinstance(given["prediction"], Tensor):
            raise BadTask(
                f"the model of {self.name} must return a tensor, got a {type(given['prediction']).__name__}"
            )
        if given["prediction"].shape[:1] != few["inputs"].shape[:1]:
            raise BadTask(
                f"the model of {self.name} gives {list(given['prediction'].shape)} for {len(few['inputs'])} examples: "
                "the first axis of its output must be the examples"
            )
        return given


def _held(buffers: Tree) -> Tree:
    """The state of the loss, which is kept among the buffers."""
    return {k.removeprefix(_LOSS_STATE): t for k, t in buffers.items() if k.startswith(_LOSS_STATE)}


def _check_score(each: scores.Score, prediction: Tensor, few: Batch) -> None:
    try:
        score: Any = each(prediction, few)
    except Exception as error:
        raise BadTask(f"the score function failed: {type(error).__name__}: {error}") from error
    if not isinstance(score, Tensor) or tuple(score.shape) not in ((), (len(prediction),)):
        got = f"a tensor {list(score.shape)}" if isinstance(score, Tensor) else f"a {type(score).__name__}"
        raise BadTask(
            f"a score function must give one number per example, a tensor [{len(prediction)}] for {len(prediction)} "
            f"examples (or one for all, 0-d); got {got}"
        )


def _fingerprint(parts: dict[str, Batch], wanted: tuple[str, ...]) -> str:
    """A short hash of data, to tell whether two tasks or studies saw the same examples."""
    digest = hashlib.sha256()
    for part in wanted:
        for name, column in sorted(parts[part].items()):
            digest.update(f"{part}/{name}/{column.dtype}/{tuple(column.shape)}".encode())
            digest.update(column.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
