"""The usual task: a model, data, a loss and a score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .. import losses, rng, specs
from ..errors import BadTask, FalllineError
from ..specs import Loss
from ..types import Numbers, Tree
from . import arguments, data, loaders, models, scores
from .augment import called
from .base import PARTS, Batch, Metric, Task, Variables
from .forms import Roles
from .gather import Gathered, gather

_LOSS_STATE = "loss:"
FEW = 4
"""Examples that a task is tried on when it is made."""


def supervised(
    model: Any, train: Any, validation: Any = None, test: Any = None, *, loss: Any = None, score: Any = None,
    name: str = "", better: Any = "higher", batch: int | None = None, dtype: torch.dtype = torch.float32,
    target: Any = None, weight: Any = None, group: Any = None, augment: Any = None,
) -> Task:  # fmt: skip
    """See :meth:`fallline.tasks.Task.supervised`."""
    make = models.Factory.of(model)
    if not isinstance(loss, Loss):
        raise BadTask(f"loss must be a fallline loss such as fl.losses.cross_entropy, got {loss!r}")
    if dtype not in (torch.float32, torch.float64):
        raise BadTask(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    if augment is not None and not callable(augment):
        raise BadTask(
            f"augment must be a function from inputs to inputs, such as tasks.augment.flip(), got {augment!r}"
        )
    batch = loaders.batch_size(train) or 32 if batch is None else batch
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise BadTask(f"batch must be a whole number of at least 1, got {batch!r}")
    others, roles = {"validation": validation, "test": test}, Roles(target, weight, group)
    found = gather(train, others, roles, dtype, batch)
    each, metric = scores.find(score, better, classes=data.is_classes(found.parts["train"]["target"]))
    template, frozen = models.template(make, dtype)
    one = _Supervised(name or type(template).__name__, make, template, frozen, loss, each, dtype, augment)
    one = one.with_own_inputs(found.parts["train"])
    one.check(found.parts)
    if found.stream is None:
        models.check_classes(loss, found.parts["train"]["target"])
    one = one.with_rate_for_option(found.parts["train"])
    if metric.name == "r2":
        judged = PARTS if found.stream is None else PARTS[1:]
        found.parts.update({part: scores.with_variance(found.parts[part]) for part in judged})
    one.check_score(found.parts["validation"])
    found.facts.update(
        data=data.fingerprint(found.parts, PARTS), test_data=data.fingerprint(found.parts, PARTS[2:])
    )
    return _assembled(one, found, metric, batch)


def _assembled(one: _Supervised, found: Gathered, metric: Metric, batch: int) -> Task:
    sizes: dict[str, Any] = {part: len(columns["target"]) for part, columns in found.parts.items()}
    facts = {
        "model": type(one.template).__name__,
        "parameters": sum(p.numel() for p in one.template.parameters()),
        "loss": repr(one.spec),
        "examples": sizes if found.stream is None else {**sizes, "train": "a stream"},
        **found.facts,
    }
    facts.update({"options": dict(one.make.options)} if one.make.options else {})
    facts.update({"augment": called(one.augment)} if one.augment else {})
    numbers = {**dict(specs.flatten(one.spec)), **models.rate_numbers(one.rates)}

    def vary(options: Mapping[str, Any]) -> Task:
        other = one.with_options(options)
        other.check(found.parts)
        return _assembled(other, found, metric, batch)

    stream = None if found.stream is None else lambda: one.checked(found)
    return Task(
        one.name, one.init, one.loss, one.score, found.parts, metric, numbers, batch, facts, repr(one.spec),
        one.make.options, vary, stream, one.template,
    )  # fmt: skip


@dataclass(frozen=True)
class _Supervised:
    """The functions of one run, over a template of the model; of its own weights only the frozen ones are used."""

    name: str
    make: models.Factory
    template: nn.Module
    frozen: frozenset[str]
    spec: Loss
    each: scores.Score | None
    dtype: torch.dtype
    augment: Callable[[Any], Any] | None
    own_inputs: bool = False

    @cached_property
    def rates(self) -> dict[str, models.Places]:
        """Where the model's dropout rates are."""
        return models.rates(self.template)

    def with_options(self, options: Mapping[str, Any]) -> _Supervised:
        """The same with other arguments of the model's factory."""
        make = self.make.set(options)
        template, frozen = models.template(make, self.dtype, self.template)
        return replace(self, make=make, template=template, frozen=frozen)

    def with_own_inputs(self, columns: Batch) -> _Supervised:
        """The same with a copy of its inputs for a model that changes them in place: they are the data."""
        few = {name: column[:FEW].clone() for name, column in columns.items()}
        before = {name: column._version for name, column in few.items()}
        first = self.init(0)
        for training in (False, True):
            with suppress(Exception), torch.no_grad(), rng.Noise(*torch.zeros(2, dtype=torch.int64)):
                self._given(*first, few, {}, training=training)  # what fails is told by the checks
        changed = any(column._version != before[name] for name, column in few.items())
        return replace(self, own_inputs=True) if changed else self

    def with_rate_for_option(self, columns: Batch) -> _Supervised:
        """The same without the factory's option dropout, where that does what the number does, and in one program."""
        name, options = models.MODEL + "dropout", self.make.options
        if name not in self.rates or not isinstance(options.get("dropout"), float):
            return self
        other = 0.25 if options["dropout"] == 0.5 else 0.5
        few, first = {k: column[:FEW] for k, column in columns.items()}, self.init(0)
        values = []
        try:
            for one, h in ((self, {name: other}), (self.with_options({"dropout": other}), {})):
                with torch.no_grad(), rng.Noise(*torch.zeros(2, dtype=torch.int64)):
                    values.append(one._given(*first, few, h, training=True)[0]["prediction"])
        except Exception:  # what cannot be tried is told by the checks of the task
            return self
        return replace(self, make=self.make.without("dropout")) if torch.equal(*values) else self

    def init(self, seed: int) -> Variables:
        module = self.make(seed, self.dtype)
        own = {name: p for name, p in module.named_parameters() if name not in self.frozen}
        params = {name: p.detach() for name, p in own.items() if p.requires_grad}
        fixed = {name: p.detach() for name, p in own.items() if not p.requires_grad}
        state = {_LOSS_STATE + name: t for name, t in losses.start(self.spec).items()}
        return Variables(params, {**fixed, **dict(module.named_buffers()), **state})

    def loss(self, params: Tree, buffers: Tree, batch: Batch, h: Numbers) -> tuple[Tensor, Tree]:
        given, after = self._given(params, buffers, batch, h, training=True)
        value, state = losses.value(self.spec, given, _of_loss(h), _held(buffers))
        return value, {**after, **{_LOSS_STATE + name: t for name, t in state.items()}}

    def score(self, params: Tree, buffers: Tree, batch: Batch, h: Numbers) -> dict[str, Tensor]:
        given, _ = self._given(params, buffers, batch, h, training=False)
        if "weight" not in losses.needs(self.spec):
            given.pop("weight", None)  # weights are for training: each example is judged alike
        if losses.per_example(self.spec):
            loss = losses.examples(self.spec, given, _of_loss(h), _held(buffers))
        else:
            loss, _ = losses.value(self.spec, given, _of_loss(h), _held(buffers))
        return {"loss": loss, "score": loss if self.each is None else self.each(given["prediction"], given)}

    def _given(
        self, params: Tree, buffers: Tree, batch: Batch, h: Numbers, *, training: bool
    ) -> tuple[dict[str, Any], Tree]:
        """What the loss is given, and the model's buffers afterwards (a step may change them: running averages)."""
        own = {name: t.clone() for name, t in buffers.items() if not name.startswith(_LOSS_STATE)}
        columns = data.settled(batch, self.dtype)
        if self.own_inputs:
            columns = {k: column.clone() if data.is_input(k) else column for k, column in columns.items()}
        inputs = arguments.inputs(columns)
        if training and self.augment is not None:
            inputs = self.augment(inputs)
        self.template.train(training)
        with models.with_rates(self.rates, h):
            prediction = functional_call(
                self.template, {**params, **own}, *arguments.arguments(self.template, inputs)
            )
        rest = {name: column for name, column in columns.items() if not data.is_input(name)}
        return {"prediction": prediction, "params": params, "inputs": inputs, **rest}, own

    def checked(self, found: Gathered) -> Iterator[Batch]:
        """A new iterator over a stream, whose batches are looked at as they come."""
        assert found.stream is not None
        given = self._few(found.parts["train"])
        for columns in found.stream():
            self._check_columns(given, columns)
            yield columns

    # --- what is refused ----------------------------------------------------------------------------------

    def check(self, parts: Mapping[str, Batch]) -> None:
        """Refuse, with a sentence, a model that does not fit the inputs, or whose output does not fit the targets."""
        given = self._few(parts["train"])
        for columns in parts.values():
            self._check_columns(given, columns)
        if self.augment is not None:
            self._check_augmentation(parts["train"])
        models.check_end(self.template, self.spec)

    def check_score(self, columns: Batch) -> None:
        """Refuse, with a sentence, a score function that does not give one number per example."""
        if self.each is None:
            return
        given = self._few(columns)
        n = len(given["prediction"])
        try:
            score: Any = self.each(given["prediction"], given)
        except Exception as error:
            raise BadTask(f"the score function failed: {type(error).__name__}: {error}") from error
        if not isinstance(score, Tensor) or tuple(score.shape) not in ((), (n,)):
            got = (
                f"a tensor {list(score.shape)}" if isinstance(score, Tensor) else f"a {type(score).__name__}"
            )
            raise BadTask(
                f"a score function must give one number per example, a tensor [{n}] for {n} examples (or one for all, "
                f"0-d); got {got}"
            )

    def _few(self, columns: Batch) -> dict[str, Any]:
        """What the loss is given for a few examples of a fresh model that is judged."""
        few, first = {name: column[:FEW] for name, column in columns.items()}, self.init(0)
        with torch.no_grad(), rng.Noise(*torch.zeros(2, dtype=torch.int64)):
            try:
                given, _ = self._given(*first, few, {}, training=False)
            except FalllineError:
                raise
            except Exception as error:
                raise BadTask(
                    f"the model {type(self.template).__name__} of {self.name} does not take "
                    f"{self._inputs_in_words(few)}: {_reason(error)}{_hint(few)}"
                ) from error
        prediction, n = given["prediction"], len(few["target"])
        if not isinstance(prediction, Tensor):
            raise BadTask(f"the model of {self.name} must return a tensor, got a {type(prediction).__name__}")
        if prediction.shape[:1] != (n,):
            raise BadTask(
                f"the model of {self.name} gives {list(prediction.shape)} for {n} examples: the first axis of its "
                "output must be the examples"
            )
        return given

    def _inputs_in_words(self, few: Batch) -> str:
        own = {k: v for k, v in data.settled(few, self.dtype).items() if data.is_input(k)}
        names = {k: "" if k == "inputs" else f"{k.removeprefix('inputs.')} " for k in own}
        return "inputs " + ", ".join(f"{names[k]}{['n', *v.shape[1:]]} of {v.dtype}" for k, v in own.items())

    def _check_columns(self, given: Mapping[str, Any], columns: Batch) -> None:
        """Refuse columns that do not fit the model: shapes by what a few examples gave, the range of labels by all."""
        prediction, known = given["prediction"], {name: given[name] for name in ("params", "inputs")}
        for piece in data.looked_at(columns, self.dtype):
            whole = prediction[:1].expand(len(piece["target"]), *prediction.shape[1:])
            losses.check(self.spec, {**known, **piece, "prediction": whole})

    def _check_augmentation(self, columns: Batch) -> None:
        few = data.settled({name: column[:FEW] for name, column in columns.items()}, self.dtype)
        inputs = arguments.inputs(few)
        try:
            with rng.untouched("augment"), rng.Noise(*torch.zeros(2, dtype=torch.int64)):
                changed: Any = self.augment(inputs) if self.augment else inputs
        except FalllineError:
            raise
        except Exception as error:
            raise BadTask(f"augment failed: {_reason(error)}") from error
        wanted, got = arguments.form(inputs), arguments.form(changed)
        if wanted != got:
            raise BadTask(
                f"augment must give as many examples, in the form in which it got them: it was given {wanted} and gave "
                f"{got}"
            )


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _hint(few: Batch) -> str:
    whole = [
        k for k, v in few.items() if data.is_input(k) and not v.is_floating_point() and v.dtype != torch.uint8
    ]
    return "; if X holds numbers and not indices, pass X.astype(float)" if whole else ""


def _of_loss(h: Numbers) -> dict[str, Any]:
    """The numbers of the loss, without those of the model."""
    return {name: number for name, number in h.items() if not name.startswith(models.MODEL)}


def _held(buffers: Tree) -> Tree:
    """The state of the loss, which is kept among the buffers."""
    return {k.removeprefix(_LOSS_STATE): t for k, t in buffers.items() if k.startswith(_LOSS_STATE)}
