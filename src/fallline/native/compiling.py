"""Compile a text in C, once per machine, and load it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

from .pointwise import Unwritable


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
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=kept.parent) as place:
            source, made = Path(place) / "program.c", Path(place) / "program.so"
            source.write_text(text)
            ends = ["-shared", "-fPIC", f"-I{headers}", str(source), "-o", str(made), "-lm"]
            done = subprocess.run(
                [str(compiler()), *flags, *ends], capture_output=True, text=True, check=False
            )
            if done.returncode:
                said = done.stderr[:500]
                warnings.warn(
                    f"the C compiler refused a program, and torch's operations take its place: {said}",
                    stacklevel=2,
                )
                raise Unwritable(f"compiler here that takes it: {said}")
            os.replace(made, kept)
    try:
        return ctypes.CDLL(str(kept))
    except OSError as error:  # cut off by a full disk, or where nothing may be executed
        kept.unlink(missing_ok=True)
        raise Unwritable(f"library that can be loaded: {error}") from error


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
