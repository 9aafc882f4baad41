"""An optimizer's state as one safetensors file: tensors by parameter and name, and a header in JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from ..errors import BadStore, BadValue
from .plan import TREE, Group

PARAMETER, NUMBER, WHOLE = "state", "group", "tree"


def save(optimizer: torch.optim.Optimizer, path: str | os.PathLike[str]) -> None:
    """Write the state of an optimizer of ``fl.optim`` to a safetensors file, which holds numbers and nothing to run.

    Args:
        optimizer: the optimizer.
        path: where to; a file that is there is replaced at once when the new one is complete.

    >>> import tempfile
    >>> from fallline import optim
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = optim.Adam(model.named_parameters(), lr=0.1)
    >>> model(torch.ones(2)).sum().backward()
    >>> optimizer.step()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(optimizer, f"{folder}/adam.safetensors")
    ...     again = optim.Adam(model.named_parameters())
    ...     load(again, f"{folder}/adam.safetensors")
    >>> again.steps, again.param_groups[0]["lr"]
    (1, 0.1)
    """
    tensors, header = flat_state(optimizer.state_dict())
    path = Path(path)
    beside = path.with_name(f"{path.name}.part")
    save_file(tensors, beside, {"fallline": header})
    with beside.open("rb") as written:
        os.fsync(written.fileno())
    beside.replace(path)


def load(optimizer: torch.optim.Optimizer, path: str | os.PathLike[str]) -> None:
    """Go on from what :func:`save` wrote, as ``load_state_dict`` does.

    Args:
        optimizer: an optimizer with the same rule, over parameters of the same names or in the same order.
        path: the file.

    Raises:
        BadStore: if the file is not there or is not such a file; nothing is changed then.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get("fallline", "")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    except (OSError, safetensors.SafetensorError) as cause:
        raise BadStore(f"{path} cannot be read as a safetensors file: {cause}") from None
    if not header:
        raise BadStore(
            f"{path} holds tensors but no state of an optimizer: fl.optim.save(optimizer, path) writes such a file"
        )
    optimizer.load_state_dict(from_flat_state(tensors, header))


def flat_state(state_dict: Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """A state dict as tensors under flat names and one line of JSON: for files and wires that hold no more.

    Args:
        state_dict: what ``state_dict()`` of an optimizer gave.

    Returns:
        Tensors called ``state/PARAMETER/NAME``, ``tree/NAME`` or ``group/NUMBER/NAME``, and the rest as JSON.

    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = torch.optim.SGD([("w", w)], lr=0.5)
    >>> flat_state(optimizer.state_dict())[0]
    {}
    """
    tensors = {
        f"{PARAMETER}/{number}/{name}": value
        for number, held in state_dict["state"].items()
        for name, value in held.items()
    }
    groups: list[Group] = []
    whole: dict[str, Any] = {}
    for i, group in enumerate(state_dict["param_groups"]):
        numbers = {key: value for key, value in group.items() if key != TREE}
        tensors |= {f"{NUMBER}/{i}/{key}": v for key, v in numbers.items() if isinstance(v, Tensor)}
        groups.append({key: _plain(key, v) for key, v in numbers.items() if not isinstance(v, Tensor)})
        whole = group.get(TREE, whole)
    tensors |= {f"{WHOLE}/{name}": value for name, value in whole.get("tree", {}).items()}
    common = {key: value for key, value in whole.items() if key != "tree"}
    header = json.dumps({"groups": groups, "common": common}, allow_nan=False)
    return {name: t.detach().contiguous().clone() for name, t in tensors.items()}, header


def from_flat_state(tensors: Mapping[str, Tensor], header: str) -> dict[str, Any]:
    """The state dict that :func:`flat_state` took apart.

    Args:
        tensors, header: what it gave.

    >>> w = torch.nn.Parameter(torch.ones(2))
    >>> from_flat_state(*flat_state(torch.optim.SGD([w], lr=0.5).state_dict()))["param_groups"][0]["lr"]
    0.5
    """
    told = json.loads(header)
    groups: list[Group] = [{key: _back(key, v) for key, v in group.items()} for group in told["groups"]]
    state: dict[int, dict[str, Tensor]] = {}
    tree = {}
    for name, tensor in tensors.items():
        where, _, key = name.partition("/")
        if where == WHOLE:
            tree[key] = tensor
            continue
        number, _, key = key.partition("/")
        (state.setdefault(int(number), {}) if where == PARAMETER else groups[int(number)])[key] = tensor
    if told["common"]:
        groups = [{**group, TREE: {**told["common"], "tree": tree}} for group in groups]
    return {"state": state, "param_groups": groups}


def _plain(key: str, value: Any) -> Any:
    """A value of a group as JSON has it; JSON has no infinities, and they become text in a dict."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(key, each) for each in value]
    raise BadValue(
        f"a parameter group has {key!r}, a {type(value).__name__}, and a file holds numbers, text and tensors: take it "
        "out of the group, or use torch.save"
    )


def _back(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return float(value["float"])
    if isinstance(value, list):
        items = [_back(key, each) for each in value]
        return items if key in ("params", "param_names") else tuple(items)
    return value
