"""A training in a file: weights, buffers, the rule's state, what was measured, and the best so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...errors import BadStore
from ...records import jsonable
from ...tasks.base import Variables
from ...types import Tree
from .. import checkpoint
from .best import Kept

if TYPE_CHECKING:
    from .loop import Loop


def save(loop: Loop) -> None:
    """Write where a training stands."""
    kept = loop.best.kept
    assert kept is not None
    assert loop.plan.file is not None
    tensors: Tree = {
        **_named("params", loop.descent.params),
        **_named("buffers", loop.module.held),
        **_named("state", loop.descent.tensors()),
        **_named("kept/params", kept.variables.params),
        **_named("kept/buffers", kept.variables.buffers),
    }
    arrays = {name: t.detach().cpu().numpy() for name, t in tensors.items()}
    arrays |= {f"log/{name}": np.array(values) for name, values in loop.log.values.items()}
    arrays["losses"] = np.array(loop.losses, dtype=np.float64)
    arrays["record"] = np.array([*loop.best.record, kept.loss, kept.score])
    scaler = loop.backward.scaler
    facts = {
        "asked": asked(loop),
        "step": loop.step, "died": loop.died, "stopped": loop.stopped, "seconds": loop.seconds,
        "waited": loop.best.waited, "kept": kept.step, "log": loop.log.steps,
        "scaler": scaler.state_dict() if scaler else {},
    }  # fmt: skip
    checkpoint.write(loop.plan.file, arrays, facts)


def asked(loop: Loop) -> dict[str, Any]:
    """What makes a training that training: what is saved of another cannot be gone on with."""
    plan, task = loop.plan, loop.task
    found: dict[str, Any] = jsonable({
        "rule": repr(loop.run.rule), "seed": loop.run.seed, "steps": plan.steps, "batch": plan.batch,
        "keep": plan.keep, "patience": plan.patience, "precision": plan.precision,
        "parts of a batch": plan.accumulate * loop.ranks.count, "task": task.name, "facts of the task": dict(task.facts),
    })  # fmt: skip
    return found


def load(loop: Loop) -> None:
    """Go on from what is saved, where that is asked for and there is something."""
    file = loop.plan.file
    if file is None or file not in checkpoint.found(file.parent, file.name):
        return
    if not loop.plan.resume:
        raise BadStore(
            f"{file.parent} already holds a training ({file.name}): go on with it by resume, choose another folder, or "
            "remove it first"
        )
    arrays, facts, note = checkpoint.read(file)
    if "asked" not in facts:
        raise BadStore(
            f"the checkpoint {file} was not written by fl.train: choose another folder, or remove it to begin anew"
        )
    _check_same(facts["asked"], asked(loop), file.parent)
    loop.notes += [note] if note else []
    tensors = {
        name: torch.from_numpy(np.array(array)).to(loop.ranks.device) for name, array in arrays.items()
    }
    _fill(loop.descent.params, _under("params", tensors))
    _fill(loop.module.held, _under("buffers", tensors))
    loop.descent.load(_under("state", tensors))
    loop.step, loop.died, loop.spent = facts["step"], facts["died"], facts["seconds"]
    loop.stopped = "" if facts["stopped"] == "interrupted" else facts["stopped"]
    loop.log.steps = {name: list(at) for name, at in facts["log"].items()}
    loop.log.values = {name: arrays[f"log/{name}"].tolist() for name in loop.log.steps}
    loop.losses = arrays["losses"].tolist()
    first, second, loss, score = arrays["record"].tolist()
    variables = Variables(_under("kept/params", tensors), _under("kept/buffers", tensors))
    loop.best.kept, loop.best.record = Kept(facts["kept"], loss, score, variables), (first, second)
    loop.best.waited = facts["waited"]
    if loop.backward.scaler:
        loop.backward.scaler.load_state_dict(facts["scaler"])


def _named(prefix: str, tree: Tree) -> Tree:
    return {f"{prefix}/{name}": t for name, t in tree.items()}


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> Tree:
    start = f"{prefix}/"
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}


@torch.no_grad()
def _fill(tree: Tree, saved: Tree) -> None:
    for name, t in tree.items():
        t.copy_(saved[name])


def _check_same(saved: Mapping[str, Any], wanted: Mapping[str, Any], folder: Any) -> None:
    differ = [name for name in wanted if saved.get(name) != wanted[name]]
    if differ:
        first = differ[0]
        raise BadStore(
            f"{folder} holds another training: its {first} is {saved.get(first)!r}, and {wanted[first]!r} is asked for; "
            "ask for the same, or choose another folder"
        )
