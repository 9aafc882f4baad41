"""How much memory there is, how much was taken, and how that is said."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path


def free_memory() -> int:
    """Bytes that new processes can take."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    with suppress(OSError, ValueError):  # a container's own limit
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        free = min(free, limit - used)
    return free


def peak(*, reset: bool = False) -> int:
    """The most memory that this process has held, in bytes, since it was last reset; 0 where it is not told.

    A reset hands back what was freed, or what is taken next would be taken from that, and not be seen.
    """
    if reset:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return 0


def told(size: float) -> str:
    """A size in words.

    >>> told(3_200_000_000), told(5e5)
    ('3.2 GB', '0.5 MB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
