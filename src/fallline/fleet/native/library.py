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
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import BadTask
from .memory import LINE
from .pointwise import Unwritable
from .source import Source

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

    def bind(self, runs: int) -> Loop:
        """The function for a block of as many runs."""
        return Loop(self.source, self._run, runs)


class Loop:
    """A step in C, for a block of some runs.

    Args:
        source: the function's.
        run: the function.
        runs: how many runs there are.
    """

    def __init__(self, source: Source, run: Callable[..., int], runs: int) -> None:
        self.source, self._run, self._runs = source, run, runs
        self._scratch = torch.empty(source.scratch + LINE, dtype=torch.uint8)
        self._start = self._scratch.data_ptr() + -self._scratch.data_ptr() % LINE
        self._places = ctypes.c_void_p * (source.arguments + len(source.constants) + len(source.results))
        self._strides = ctypes.c_long * (source.arguments + len(source.results))
        self._left = torch.empty(runs, dtype=torch.int64)

    def __call__(self, *args: Any) -> list[Tensor]:
        """The results of one step; where tensors are carried, the first argument is a list of them."""
        carried: list[Tensor] = []
        if self.source.carried:
            carried = [t.clone(memory_format=torch.contiguous_format) for t in args[0]]
            args = args[1:]
        told, _ = self.advance(carried, args, [0] * len(args), 1)
        return [*carried, *(t[0] for t in told)]

    def advance(
        self, carried: Sequence[Tensor], given: Sequence[Tensor], strides: Sequence[int], steps: int
    ) -> tuple[list[Tensor], Tensor]:
        """Take all runs some steps further, each of them to the end of its steps or of the finite numbers.

        Args:
            carried: what runs take from step to step, changed in place.
            given: the other arguments.
            strides: how many entries lie between two steps of each of these; 0 for what is the same at all steps.
            steps: how many.

        Returns:
            the results of each step, [steps, runs, …], NaN where a run had left before; and for each run the number
            of steps before the one in which it left, or −1.
        """
        source = self.source
        out = [_blank((steps, self._runs, *shape), dtype) for shape, dtype in source.results]
        held = [t if t.is_contiguous() else t.contiguous() for t in given]
        tensors = (*carried, *held, *source.constants, *out)
        by_step = (*[0] * len(carried), *strides, *(t[0].numel() for t in out))
        if self._run(
            self._places(*[t.data_ptr() for t in tensors]),
            self._strides(*by_step),
            self._runs,
            steps,
            self._start,
            self._left.data_ptr(),
        ):
            raise BadTask(
                "the model or its loss looks up an entry that is not there: an index is outside of its table; "
                "check the classes and tokens in the data"
            )
        return out, self._left.clone()


def _blank(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return (
        torch.full(shape, torch.nan, dtype=dtype)
        if dtype.is_floating_point
        else torch.zeros(shape, dtype=dtype)
    )


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
    address, number = ctypes.c_void_p, ctypes.c_long
    run.argtypes, run.restype = [address, address, number, number, address, address], ctypes.c_int
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
            said = " ".join(done.stderr.split())[:500]
            warnings.warn(f"the C compiler refused a program, which is traced instead: {said}", stacklevel=2)
            raise Unwritable(f"compiler here that takes it: {said}")
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
