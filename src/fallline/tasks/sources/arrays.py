"""Arrays in files: NPZ, which is read, and folders of NPY files, which are mapped and never read whole."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import BadTask
from ..base import PARTS
from . import cache
from .data import Arrays, Data, ordered, sliced

LARGE = 1 << 28
"""Mapped arrays of more bytes than this are split into parts on the disk, and not in memory."""
COLUMNS = {"x": "X", "inputs": "X", "data": "X", "y": "y", "target": "y", "labels": "y"}
SHORT = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
}
NAME = re.compile(rf"(?:({'|'.join(SHORT)})_)?({'|'.join(COLUMNS)})(?:_({'|'.join(SHORT)}))?", re.IGNORECASE)


def arrays(path: Path) -> Data:
    """The arrays X and y of a file or folder, or those of its parts: train_X, train_y, test_X, …."""
    found = {f.stem: _mapped(f) for f in sorted(path.glob("*.npy"))} if path.is_dir() else _unpacked(path)
    whole = _parts(path, found)
    size = sum(array.nbytes for pair in whole.values() for array in pair)
    if not path.is_dir() or size <= LARGE or len(whole) == len(PARTS):
        return Data(path.stem, whole, {"from": path.name})

    def make(writer: cache.Writer) -> dict[str, Any]:
        return {"sizes": ordered(writer, whole), "from": path.name}

    kept = cache.kept(path.stem, ["arrays", *(cache.stamp(f) for f in sorted(path.glob("*.npy")))], make)
    return sliced(path.stem, kept.columns, kept.facts)


def _parts(path: Path, found: dict[str, np.ndarray[Any, Any]]) -> Arrays:
    """The arrays by part, as (X, y), checked."""
    parts: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
    for name, array in found.items():
        match = NAME.fullmatch(name)
        if match is None or (match[1] and match[3]):
            raise BadTask(
                f"{path.name} holds an array {name!r}, which says neither X nor y: call them X and y, or train_X, "
                "train_y, validation_X, …, test_y"
            )
        part = SHORT[(match[1] or match[3] or "train").lower()]
        parts.setdefault(part, {})[COLUMNS[match[2].lower()]] = array
    if "train" not in parts:
        raise BadTask(f"{path.name} has no training part: it needs arrays X and y, or train_X and train_y")
    for part, pair in parts.items():
        if len(pair) != 2:
            raise BadTask(
                f"the {part} part of {path.name} has only {next(iter(pair))}: it needs both X and y"
            )
        if pair["X"].ndim == 0 or pair["y"].ndim == 0 or len(pair["X"]) != len(pair["y"]):
            shapes = " and ".join(str(list(pair[name].shape)) for name in ("X", "y"))
            raise BadTask(
                f"X and y of the {part} part of {path.name} must have equally many rows, got {shapes}"
            )
    return {part: (parts[part]["X"], parts[part]["y"]) for part in PARTS if part in parts}


def _mapped(path: Path) -> np.ndarray[Any, Any]:
    try:
        return _numbers(path, path.stem, np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError, OSError) as error:
        if isinstance(error, BadTask):
            raise
        raise BadTask(f"{path.name} cannot be mapped as an NPY file of numbers: {error}") from error


def _unpacked(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: _numbers(path, name, file[name]) for name in file.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        if isinstance(error, BadTask):
            raise
        raise BadTask(f"{path.name} cannot be read as an NPZ file of numbers: {error}") from error


def _numbers(path: Path, name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype.kind not in "biuf":
        raise BadTask(
            f"the array {name!r} of {path.name} holds {array.dtype} and not numbers: number the classes 0, 1, …"
        )
    return array
