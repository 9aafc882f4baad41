"""Memory of a run in training, against what its training cannot do without.

Peak resident memory of a process that trains a block, less that of one that trains a block of tiny models, for each
run; beside it the bytes of a run's parameters, gradients, Adam's two moments and activations. Goal: at most 1.3 times.

    python benchmarks/memory.py
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys

from growth import wide_task
from peers import fleet, machine

BATCH, TINY = 32, 4
BLOCKS = ((128, 64), (16_000, 1), (64_000, 1))
"""Hidden units, and as many runs as make one block."""


def needed(width: int) -> int:
    """Bytes of a run: four times its parameters (values, gradients, two moments), its batch and its activations."""
    parameters = 64 * width + width + width * 10 + 10
    activations = BATCH * (64 + 2 * width + 2 * 10)
    return 4 * (4 * parameters + activations)


def peak(width: int, runs: int, executor: str) -> int:
    """Bytes of resident memory at most, in a process of its own."""
    command = [sys.executable, __file__, "--width", str(width), "--runs", str(runs), "--executor", executor]
    return int(
        json.loads(
            subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
        )
    )


def main() -> None:
    """Print a line for each width and executor."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--executor")
    given = parser.parse_args()
    if given.width:
        fleet(lambda: wide_task(given.width), given.executor)(given.runs, 20)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return
    print(machine())
    for width, runs in BLOCKS:
        for executor in ("traced", "compiled"):
            own = (peak(width, runs, executor) - peak(TINY, runs, executor)) / runs
            ratio = own / needed(width)
            print(
                f"{75 * width:9} parameters  {executor:9} {own / 1e6:8.2f} MB a run, {ratio:5.2f} times what it needs"
            )


if __name__ == "__main__":
    main()
