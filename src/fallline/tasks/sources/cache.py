"""Columns kept on disk, memory-mapped: written beside, synced, renamed, and checked when they are read.

An entry is a folder of ``.npy`` files and one ``about.json`` with facts, lengths and checksums. It is there whole or
not at all; one that is damaged is made again. ``FALLLINE_CACHE`` says where entries lie; else the platform's place.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import BadStore

VARIABLE = "FALLLINE_CACHE"
FORMAT = 1
MADE, DAY = ".being-made-", 86_400.0
WHOLE = 1 << 26
"""Files up to this many bytes are hashed again when they are read; of larger ones the length is checked."""


@dataclass(frozen=True)
class Kept:
    """An entry: its columns, mapped and not read, and its facts."""

    columns: dict[str, np.ndarray[Any, Any]]
    facts: dict[str, Any]


class Writer:
    """Makes the columns of an entry, as arrays on disk to be filled."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.arrays = folder, dict[str, np.memmap[Any, Any]]()

    def column(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        """A new column, of zeros; what is written to it goes to the disk."""
        array = np.lib.format.open_memmap(self.folder / f"{name}.npy", "w+", np.dtype(dtype), shape)
        self.arrays[name] = array
        return array

    def finish(self, facts: dict[str, Any]) -> None:
        """Sync all columns, then what is said about them."""
        files = {}
        for name, array in self.arrays.items():
            array.flush()
            path = self.folder / f"{name}.npy"
            _sync(path)
            files[name] = {"bytes": path.stat().st_size, "sha256": checksum(path)}
        about = self.folder / "about.json"
        about.write_text(json.dumps({"format": FORMAT, "files": files, "facts": facts}), encoding="utf-8")
        _sync(about)
        _sync(self.folder)


def folder() -> Path:
    """Where entries lie."""
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).expanduser()
    home = Path.home()
    places = {
        "win32": os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local",
        "darwin": home / "Library" / "Caches",
    }
    return Path(places.get(sys.platform) or os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "fallline"


def kept(name: str, key: Any, make: Callable[[Writer], dict[str, Any]]) -> Kept:
    """The entry for ``key``, made now if it is not there whole.

    Args:
        name: what it is called in the folder, for people who look into it.
        key: plain data on which the columns depend; other data are another entry.
        make: fills the columns of a writer, and gives facts as JSON can hold them.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, key], sort_keys=True, default=str).encode()).hexdigest()
    place = folder() / f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name)[:60]}-{digest[:16]}"
    found = _read(place)
    if found is None:
        with beside(place) as new:
            writer = Writer(new)
            writer.finish(make(writer))
            writer.arrays.clear()
            _put(new, place)
        found = _read(place)
    if found is None:
        raise BadStore(
            f"what was just written to {place} cannot be read back: look after the disk, or set {VARIABLE}"
        )
    return found


@contextmanager
def beside(place: Path) -> Iterator[Path]:
    """A new folder beside a place, which leaves nothing behind when the work in it fails."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place.parent)
        new = Path(tempfile.mkdtemp(prefix=MADE, dir=place.parent))
    except OSError as error:
        raise BadStore(
            f"data cannot be kept in {place.parent}: {error.strerror}; set {VARIABLE} to a folder that can be written"
        ) from error
    try:
        yield new
    except OSError as error:
        if isinstance(error, BadStore) or error.errno is None or not _within(error, new):
            raise
        raise BadStore(
            f"data could not be written to {place.parent}: {error.strerror}; nothing was kept: make room there, or set "
            f"{VARIABLE} to another folder"
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Take away what processes that were killed left behind, a day ago or more."""
    for left in parent.glob(f"{MADE}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > DAY:
                shutil.rmtree(left, ignore_errors=True)


def _within(error: OSError, place: Path) -> bool:
    """Whether an error is about a file of ours, or about none by name (a full disk)."""
    return error.filename is None or str(error.filename).startswith(str(place))


def _put(new: Path, place: Path) -> None:
    if place.exists() and _read(place) is None:
        shutil.rmtree(place, ignore_errors=True)
    try:
        os.rename(new, place)
    except OSError:
        if not place.exists():
            raise
        return  # another process was first, with the same columns
    _sync(place.parent)


def _read(place: Path) -> Kept | None:
    """An entry that is whole, or nothing."""
    try:
        about = json.loads((place / "about.json").read_text(encoding="utf-8"))
        for name, said in about["files"].items():
            path = place / f"{name}.npy"
            size = path.stat().st_size
            if size != said["bytes"] or (size <= WHOLE and checksum(path) != said["sha256"]):
                return None
        return Kept(
            {
                name: np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in about["files"]
            },
            about["facts"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def stamp(path: Path) -> list[Any]:
    """What tells one state of a file from another."""
    state = path.stat()
    return [str(path.resolve()), state.st_size, state.st_mtime_ns]


def checksum(path: Path) -> str:
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and sys.platform == "win32":
        return  # a folder cannot be opened there
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
