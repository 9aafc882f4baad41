"""Compile a text in C, once per machine, and load it."""

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
from contextlib import suppress
from pathlib import Path

from .pointwise import Unwritable

MOST = 256 << 20
"""Bytes that the compiled programs of all processes may take; one takes some ten thousands."""
LATELY = 3600.0
"""Seconds for which a program stays after it was used."""
BESIDE = "program-"
"""How the folders begin in which programs are compiled."""


@functools.cache
def compiler() -> str | None:
    """The machine's C compiler; none where there is none that this package can use."""
    found = (shutil.which(name) for name in ("gcc", "clang", "cc"))
    return next((path for path in found if path), None) if os.name == "posix" else None


@functools.cache
def loaded(text: str, flags: tuple[str, ...], headers: Path) -> ctypes.CDLL:
    """A text, compiled and loaded.

    Args:
        text: in C.
        flags: the compiler's.
        headers: the folder of the files that it includes.

    Raises:
        Unwritable: where the compiler does not take it, or the result cannot be loaded.
    """
    kept = folder() / f"{fingerprint(text, flags, headers)}.so"
    try:
        os.utime(kept)  # used now: the last to be removed
    except OSError:
        _make(text, flags, headers, kept)
    try:
        return ctypes.CDLL(str(kept))
    except OSError as error:  # cut off by a full disk, or where nothing may be executed
        kept.unlink(missing_ok=True)
        raise Unwritable(f"library that can be loaded: {error}") from error


def _make(text: str, flags: tuple[str, ...], headers: Path, kept: Path) -> None:
    """Compile a text beside its place, and put it there whole."""
    _make_room(kept.parent)
    with tempfile.TemporaryDirectory(prefix=BESIDE, dir=kept.parent) as place:
        source, made = Path(place) / "program.c", Path(place) / "program.so"
        source.write_text(text)
        around = ("-shared", "-fPIC", f"-I{headers}", str(source), "-o", str(made), "-lm")
        command = [str(compiler()), *flags, *around]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = " ".join(done.stderr.split())[:500]
            warnings.warn(
                f"the C compiler refused a program, and torch's operations take its place: {said}",
                stacklevel=2,
            )
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
def folder() -> Path:
    """Where compiled programs are kept: this user's alone; for this process only, where that cannot be had."""
    try:
        place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fallline"
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (
            place.stat().st_uid == os.getuid()
            and not place.stat().st_mode & 0o022
            and os.access(place, os.W_OK)
        ):
            return place
    except (OSError, RuntimeError):
        pass
    return Path(tempfile.mkdtemp(prefix="fallline-"))


def fingerprint(text: str, flags: tuple[str, ...], headers: Path) -> str:
    """What a compiled program depends on: its text and what it includes, the compiler and the processor."""
    parts = [text, *flags, *(path.read_text() for path in sorted(headers.glob("*.h"))), *_machine()]
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
