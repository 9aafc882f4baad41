"""The answer of :func:`fallline.train`: weights, curves, and a module to go on with."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save as packed
from torch import Tensor, nn

from ..errors import BadStore, BadValue
from ..figure import Mark, Panel, Scale
from ..fleet.single import Trained, module, template
from ..records import Record, Series, jsonable
from ..reports import words
from ..reports.draw_svg import draw
from ..tasks.base import Task


@dataclass(frozen=True, eq=False)
class Training:
    """The answer of :func:`train`: it prints as a sentence, and shows itself with its curves in a notebook.

    Args:
        document: the whole answer as plain data, as ``fallline train --json`` prints it.
        task: what was trained.
        trained: weights and record.
    """

    document: dict[str, Any]
    task: Task
    trained: Trained

    @property
    def record(self) -> Record:
        """The record, as ``fl.fleet.run`` gives it for this run."""
        return self.trained.record

    @property
    def curves(self) -> Mapping[str, Series]:
        """What was measured on the way: ``train_loss``, ``validation_loss``, ``validation_score`` and more."""
        return self.record.series

    def model(self) -> nn.Module:
        """The task's module with the weights that were kept, in evaluation mode."""
        return module(self.task, self.trained.variables)

    def state_dict(self) -> dict[str, Tensor]:
        """The weights that were kept, by the names of the module: ``module.load_state_dict`` takes them strictly."""
        if template(self.task) is not None:
            return dict(self.model().state_dict())
        return {**self.trained.variables.params, **self.trained.variables.buffers}

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write :meth:`state_dict` as one safetensors file, whole or not at all."""
        target = Path(path)
        if target.suffix in (".pt", ".pth", ".bin", ".ckpt"):
            raise BadValue(
                f"{target.name} is called as torch.save's files are, and save() writes safetensors: call it "
                f"{target.stem}.safetensors, or use torch.save(trained.state_dict(), {target.name!r})"
            )
        tensors = {name: t.detach().clone().contiguous() for name, t in self.state_dict().items()}
        facts = {name: self.document[name] for name in ("task", "rule", "seed", "best_step")}
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            try:
                with beside.open("wb") as file:
                    file.write(packed(tensors, {"format": "pt", "fallline": json.dumps(facts)}))
                    file.flush()
                    os.fsync(file.fileno())
                beside.replace(target)
            finally:
                beside.unlink(missing_ok=True)
        except OSError as error:
            raise BadStore(
                f"the weights cannot be written to {target} ({error.strerror}): check that its folder exists"
            ) from error
        return target

    def __str__(self) -> str:
        found = self.document
        text = (
            f"{found['task']} with {found['rule']}, seed {found['seed']}: {_told(found, 'validation')}, "
            f"{_told(found, 'test')}, by the weights of step {found['best_step']}"
        )
        took = f"{words.count(found['steps'], 'step')} in {words.seconds(found['seconds'])}"
        ended = [] if found["stopped"] == "finished" else [found["sentence"]]
        return "\n".join([f"{text}; {took}", *ended, *found["notes"]])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in str(self).splitlines())
        return (
            f'<div>{lines}<div style="display: flex; flex-wrap: wrap">{"".join(_drawings(self))}</div></div>'
        )


def document_of(task: Task, trained: Trained, notes: list[str]) -> dict[str, Any]:
    """The answer as plain data."""
    run, outcome = trained.record.run, trained.record.outcome
    cut_off = trained.stopped in ("interrupted", "diverged")
    kept = f"; the weights of step {trained.kept.step} are kept" if cut_off else ""
    found: dict[str, Any] = jsonable({
        "task": task.name, "rule": repr(run.rule), "seed": run.seed, "steps": outcome.step, "metric": task.metric.name,
        "better": task.metric.better, **trained.numbers, "best_step": trained.kept.step, "stopped": trained.stopped,
        "sentence": outcome.sentence + kept, "seconds": outcome.seconds, "weights": None, "notes": [*notes, *trained.notes],
    })  # fmt: skip
    return found


def _told(document: Mapping[str, Any], part: str) -> str:
    def shown(value: float | None) -> str:
        return "not finite" if value is None else f"{value:.4g}"

    score, loss = document[f"{part}_score"], document[f"{part}_loss"]
    if document["metric"] == "loss":
        return f"{part} loss {shown(loss)}"
    return f"{part} {document['metric']} {shown(score)} (loss {shown(loss)})"


def _drawings(training: Training) -> Iterator[str]:
    """The losses, and the score, against steps."""
    series, metric = training.curves, training.task.metric.name
    shown: list[tuple[str, tuple[str, ...]]] = [("loss", ("train_loss", "validation_loss"))]
    shown += [(metric, ("validation_score",))] if metric != "loss" else []
    for label, names in shown:
        marks = [
            Mark("line", series[name].steps.astype(float), series[name].values.astype(float), style=i)
            for i, name in enumerate(names)
            if len(series[name])
        ]
        alt = ", ".join(
            f"{n.replace('_', ' ')} ends at {series[n].values[-1]:.3g}" for n in names if len(series[n])
        )
        title = " and ".join(n.split("_")[0] for n in names)
        panel = Panel(Scale("steps"), Scale(f"{label}: {title}"), tuple(marks), alt=alt)
        yield draw(panel, f"{training.task.name}-{label}".replace(" ", "-"))
