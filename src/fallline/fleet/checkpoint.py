"""Checkpoints: arrays and plain facts in one file that is there whole or not at all; loading one executes nothing.

The file is in the safetensors format. Its last array is the SHA-256 of every byte before it, so that a file that was
cut off or damaged anywhere is never taken for a checkpoint; the one before it is kept beside for that case.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load

from ..errors import BadStore, BadValue
from .snapshot import Array

PREVIOUS, BESIDE = ".previous", ".new"
SEAL = "sha256"
_TYPES = {
    "?": "BOOL", "u1": "U8", "i1": "I8", "u2": "U16", "i2": "I16", "u4": "U32", "i4": "I32", "u8": "U64", "i8": "I64",
    "f2": "F16", "f4": "F32", "f8": "F64", "c8": "C64",
}  # fmt: skip


def write(path: Path, arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint; the one that was there is kept as the previous one.

    At every moment, that of a power cut included, a whole checkpoint is there once the first has been written.

    Args:
        path: of the file.
        arrays: by name; any shape, any layout in memory.
        facts: as JSON can hold them.

    Raises:
        OSError: where the disk is full, for one; the earlier checkpoint is as it was, and nothing is left beside it.
    """
    beside = _named(path, BESIDE)
    try:
        with beside.open("wb") as file:
            for piece in _sealed(arrays, facts):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            _keep(path)
        os.replace(beside, path)
        _sync(path.parent)
    except BaseException:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def read(path: Path) -> tuple[dict[str, Array], dict[str, Any], str]:
    """Arrays, facts, and a note where the last checkpoint could not be read and the one before was taken.

    Raises:
        BadStore: where the one before cannot be read either.
    """
    wrong = ""
    for file in (path, _named(path, PREVIOUS)):
        try:
            arrays, facts = _opened(file.read_bytes())
        except OSError as error:
            said = "it is missing" if isinstance(error, FileNotFoundError) else str(error)
            wrong = wrong or said
        else:
            note = f"the checkpoint {path.name} could not be read ({wrong}), so the one before it was taken"
            return arrays, facts, note if wrong else ""
    raise BadStore(
        f"the checkpoint {path} could not be read ({wrong}), and there is none before it: what it held must be trained "
        "again from the beginning"
    )


def found(folder: Path, suffix: str) -> list[Path]:
    """The checkpoints in a folder, also one of which only the previous is left."""
    names = {name.removesuffix(PREVIOUS) for name in os.listdir(folder)} if folder.is_dir() else set()
    return [folder / name for name in sorted(names) if name.endswith(suffix)]


def remove(path: Path) -> None:
    """Remove a checkpoint, the one before it, and what is left of one that was being written."""
    for file in (_named(path, BESIDE), _named(path, PREVIOUS), path):
        file.unlink(missing_ok=True)


def _named(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def _keep(path: Path) -> None:
    """Make the checkpoint the previous one; where the file system has links, it stays in its place meanwhile."""
    previous = _named(path, PREVIOUS)
    previous.unlink(missing_ok=True)
    try:
        os.link(path, previous)
    except OSError:
        os.replace(path, previous)


def _sync(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# --- the format -------------------------------------------------------------------------------------------


def _sealed(arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> Iterator[bytes | memoryview]:
    """The bytes of the file, piece by piece, so that no second copy of all arrays is in memory."""
    if SEAL in arrays:
        raise BadValue(f"no array of a checkpoint may be called {SEAL!r}: that is its seal")
    header: dict[str, Any] = {"__metadata__": {"facts": json.dumps(facts)}}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _type(name, array), "shape": list(array.shape), "data_offsets": [begin, end]}
    header[SEAL] = {"dtype": "U8", "shape": [32], "data_offsets": [end, end + 32]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    seal = hashlib.sha256()
    pieces: Iterator[bytes | memoryview] = chain(
        (len(text).to_bytes(8, "little"), text), map(_bytes, arrays.values())
    )
    for piece in pieces:
        seal.update(piece)
        yield piece
    yield seal.digest()


def _type(name: str, array: Array) -> str:
    kind = "?" if array.dtype == bool else array.dtype.str[1:]
    if kind not in _TYPES:
        raise BadValue(f"a checkpoint holds arrays of numbers, but {name} is of the type {array.dtype}")
    return _TYPES[kind]


def _bytes(array: Array) -> memoryview:
    """The entries in their order, low bytes first."""
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return plain.reshape(-1).view(np.uint8).data


def _opened(raw: bytes) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays and facts.

    Raises:
        BadStore: where it is not what was written.
    """
    if hashlib.sha256(raw[:-32]).digest() != raw[-32:]:
        raise BadStore(f"its {len(raw)} bytes are not those that were written")
    length = int.from_bytes(raw[:8], "little")
    arrays = load(raw)
    arrays.pop(SEAL)
    return arrays, json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["facts"])
