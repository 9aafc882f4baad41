"""Compile a source, once per machine, and call it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from ...errors import BadTask
from .source import Source, Unwritable

FLAGS = ("-O3", "-march=native", "-ffp-contract=on", "-fno-math-errno", "-fno-trapping-math", "-fwrapv")
HERE = Path(__file__).parent
MOST = 256 << 20
"""Bytes that the compiled programs of all processes may take; one takes some ten thousands."""
LATELY = 3600.0
"""Seconds for which a program stays after it was used."""
BESIDE = "program-"
"""How the folders begin in which programs are compiled."""


class Library:
    """A source, compiled and loaded."""

    def __init__(self, source: Source) -> None:
        self.source, self._run = source, _loaded(source.text)

    def bind(self, runs: int) -> Callable[..., list[Tensor]]:
        """The function for a block of as many runs, from tensors to tensors."""
        run, empty, constants = self._run, torch.empty, self.source.constants
        shapes = [((runs, *shape), dtype) for shape, dtype in self.source.results]
        scratch = torch.empty(self.source.scratch + 64, dtype=torch.uint8)
        start = ctypes.c_void_p(scratch.data_ptr() + -scratch.data_ptr() % 64)
        places = ctypes.c_void_p * (self.source.arguments + len(constants) + len(shapes))

        def call(*args: Tensor) -> list[Tensor]:
            out = [empty(shape, dtype=dtype) for shape, dtype in shapes]
            given = [t if t.is_contiguous() else t.contiguous() for t in args]
            if run(places(*[t.data_ptr() for t in (*given, *constants, *out)]), runs, start):
                raise BadTask(
                    "the model or its loss looks up an entry that is not there: an index is outside of its table; "
                    "check the classes and tokens in the data"
                )
            return out

        call.scratch = scratch  # type: ignore[attr-defined]  # lives as long as the function
        return call


@functools.cache
def compiler() -> str | None:
    """The machine's C compiler; none where there is none that this package can use."""
    found = (shutil.which(name) for name in ("gcc", "clang", "cc"))
    return next((path for path in found if path), None) if os.name == "posix" else None


@functools.cache
def _loaded(text: str) -> Callable[..., int]:
    kept = _folder() / f"{_fingerprint(text)}.so"
    try:
        os.utime(kept)  # used now: the last to be removed
    except OSError:
        _make(text, kept)
    try:
        run = ctypes.CDLL(str(kept)).run
    except OSError as error:  # cut off by a full disk, or where nothing may be executed
        kept.unlink(missing_ok=True)
        raise Unwritable(f"library that can be loaded: {error}") from error
    run.argtypes, run.restype = [ctypes.c_void_p, ctypes.c_long, ctypes.c_void_p], ctypes.c_int
    found: Callable[..., int] = run
    return found


def _make(text: str, kept: Path) -> None:
    """Compile a source beside its place, and put it there whole."""
    _make_room(kept.parent)
    with tempfile.TemporaryDirectory(prefix=BESIDE, dir=kept.parent) as folder:
        source, made = Path(folder) / "program.c", Path(folder) / "program.so"
        source.write_text(text)
        around = ("-shared", "-fPIC", f"-I{HERE}", str(source), "-o", str(made), "-lm")
        command = [str(compiler()), *FLAGS, *around]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unwritable(f"compiler here that takes it: {' '.join(done.stderr.split())[:500]}")
        os.replace(made, kept)


def _make_room(folder: Path) -> None:
    """Remove programs, those first that were not used for longest, until the others take less than ``MOST`` bytes.

    A process that has loaded one keeps it. What was used lately stays, since a process may be about to load it; so
    does what another process removes, or compiles, at the same time.
    """
    before, found, left = time.time() - LATELY, [], []
    for entry in os.scandir(folder):
        with suppress(OSError):
            told = entry.stat(follow_symlinks=False)
            if entry.name.endswith(".so"):
                found.append((told.st_mtime, told.st_size, entry.path))
            elif entry.name.startswith(BESIDE) and told.st_mtime < before:
                left.append(entry.path)  # by a process that was killed
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    size = sum(one for _, one, _ in found)
    for at, one, path in sorted(found):
        if size <= MOST or at >= before:
            return
        with suppress(OSError):
            os.unlink(path)
        size -= one


@functools.cache
def _folder() -> Path:
    """Where compiled programs are kept: this user's alone; for this process only, where that cannot be had."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fallline"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (
            folder.stat().st_uid == os.getuid()
            and not folder.stat().st_mode & 0o022
            and os.access(folder, os.W_OK)
        ):
            return folder
    except (OSError, RuntimeError):
        pass
    return Path(tempfile.mkdtemp(prefix="fallline-"))


def _fingerprint(text: str) -> str:
    """What a compiled program depends on: its text, the kernels, the compiler and the processor."""
    parts = [text, *FLAGS, *((HERE / name).read_text() for name in ("prelude.h", "kernels.h")), *_machine()]
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


@functools.cache
def _machine() -> tuple[str, ...]:
    version = subprocess.run(
        [str(compiler()), "--version"], capture_output=True, text=True, check=False
    ).stdout
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [repr(os.uname())]
    return version, *sorted(
        {line for line in lines if line.startswith(("model name", "flags", "Features", "posix"))}
    )
