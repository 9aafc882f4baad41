"""How the cost of a step grows with the number of runs and of parameters, and where a fleet stops paying; drawn.

MLPs on digits of one hidden layer, Adam, batches of 32, on one core: 64-32-10 for 1 to 4,096 runs, and widths from
13 to 130,000 hidden units (1e3 to 1e7 parameters) for as many runs as a block holds.

    python benchmarks/growth.py --out benchmarks/results
"""

from __future__ import annotations

import argparse
import functools
import time
from pathlib import Path
from typing import Any

from peers import digits_columns, fleet, machine, took, torch_loop

RUNS = (1, 4, 16, 64, 256, 1024, 4096)
WIDTHS = (13, 133, 1_333, 13_333, 133_333)


def wide(width: int) -> Any:
    """The module."""
    from torch import nn

    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def wide_task(width: int) -> Any:
    """The same as a task."""
    import fallline as fl

    X, y = digits_columns()
    make = functools.partial(wide, width)
    return fl.Task.supervised(make, (X.numpy(), y.numpy()), loss=fl.losses.cross_entropy, batch=32)


def measured(width: int, runs: int, steps: int) -> tuple[float, float, float]:
    """µs a step of a run: torch's loop, traced, compiled."""
    loop = took(
        functools.partial(torch_loop, functools.partial(wide, width), digits_columns),
        1,
        (steps, 3 * steps),
        1,
    )
    made = [
        took(
            functools.partial(fleet, functools.partial(wide_task, width), executor),
            runs,
            (steps, 3 * steps),
            1,
        )
        for executor in ("traced", "compiled")
    ]
    return loop.step, made[0].step, made[1].step


def draw(rows: dict[str, list[tuple[float, float, float, float]]], path: Path) -> None:
    """Both pictures side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, (what, lines) in zip(figure.subplots(1, 2), rows.items(), strict=True):
        for i, name in enumerate(("torch loop", "fleet, traced", "fleet, compiled"), 1):
            axes.loglog([row[0] for row in lines], [row[i] for row in lines], marker="o", label=name)
        axes.set(xlabel=what, ylabel="µs a step of a run, one core")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path)


def main() -> None:
    """Print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    print(machine())
    rows: dict[str, list[tuple[float, float, float, float]]] = {"runs": [], "parameters": []}
    for runs in RUNS:
        rows["runs"].append((runs, *measured(32, runs, max(100, min(400, 20_000 // runs)))))
        print(
            "runs {:6.0f}   loop {:8.1f}   traced {:8.1f}   compiled {:8.1f}".format(*rows["runs"][-1]),
            flush=True,
        )
    for width in WIDTHS:
        parameters = 75 * width + 10
        runs = max(1, min(64, 640_000 // parameters))
        rows["parameters"].append(
            (parameters, *measured(width, runs, max(50, min(200, 2_000_000 // parameters))))
        )
        line = "parameters {:10.0f}   loop {:10.1f}   traced {:10.1f}   compiled {:10.1f}"
        print(line.format(*rows["parameters"][-1]), flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    draw(rows, given.out / f"growth-{time.strftime('%Y-%m-%d')}.svg")


if __name__ == "__main__":
    main()
