"""Rules that see matrices: a step against public implementations, and fleets against one run after another.

A step is timed alone, on gradients that are given, in turns with its peer; the table has medians over rounds, with
their quartiles, and the ratio of medians. Muon has ``torch.optim.Muon`` beside it (torch 2.9 and later), in bfloat16
products as there, and with products in float32; Shampoo has pytorch_optimizer's, whose roots are exact at every step,
too, but which takes them by a singular value decomposition, and of exponent −1/2 a side, and does not always
converge: then all sides get other matrices. A fleet of 16 MLPs on
digits stands against the same runs, one after another, in one process.

    python benchmarks/matrices.py                      # nine rounds
    python benchmarks/matrices.py --rounds 3 --width 128
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from peers import machine

import fallline as fl
from fallline import optim, rules

RUNS = 16
RULES = {
    "muon": rules.muon(), "shampoo": rules.shampoo(), "soap": rules.soap(), "kfac": rules.kfac(),
    "natural gradient": rules.natural_gradient(), "lbfgs": rules.lbfgs(search="strong_wolfe", trials=5),
    "sam(sgd)": rules.sam(rules.sgd(lr=0.1)),
}  # fmt: skip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--width", type=int, default=384, help="of a transformer's layer")
    parser.add_argument("--steps", type=int, default=100, help="of a run in a fleet")
    given = parser.parse_args()
    print(machine())
    shapes = [(3 * given.width, given.width), (given.width, given.width), (4 * given.width, given.width)] * 2
    print(f"\na step of {len(shapes)} matrices of a transformer of width {given.width}, ms")
    if hasattr(torch.optim, "Muon"):
        peer = "torch.optim.Muon"
        sides = {
            peer: lambda p: torch.optim.Muon(p, lr=1e-3),
            "fl.optim.Muon": lambda p: optim.Muon(p, lr=1e-3),
            "fl.rules.muon in float32": lambda p: optim.Optimizer(p, rules.muon(lr=1e-3)),
        }
        steps(sides, shapes, given.rounds, peer)
    if importlib.util.find_spec("pytorch_optimizer"):
        public = __import__("pytorch_optimizer")
        peer = "pytorch_optimizer.Shampoo"
        sides = {
            peer: lambda p: public.Shampoo(p, lr=1e-3, matrix_eps=1e-4),
            "fl.rules.shampoo": lambda p: optim.Optimizer(
                p, rules.shampoo(lr=1e-3, beta=0.0, block_size=10**6)
            ),
            "fl.rules.shampoo, tiles of 128": lambda p: optim.Optimizer(
                p, rules.shampoo(lr=1e-3, beta=0.0, block_size=128)
            ),
        }
        steps(sides, [(given.width, given.width)] * len(shapes), given.rounds, peer)
    print(f"\n{RUNS} MLPs on digits, µs for a step of one run")
    for name, rule in RULES.items():
        fleet(name, rule, given.rounds, given.steps)


def steps(
    sides: dict[str, Callable[[Any], Any]], shapes: list[tuple[int, int]], rounds: int, peer: str
) -> None:
    """A step of each side in turns; on other matrices, where a decomposition does not converge on these."""
    for seed in range(10):
        try:
            times = timed(sides, shapes, rounds, torch.Generator().manual_seed(seed))
            break
        except torch.linalg.LinAlgError as error:
            print(f"  (the matrices of seed {seed} are left out: {str(error)[:45]}…)")
    else:
        return
    for name, took in times.items():
        ratio = statistics.median(times[peer]) / statistics.median(took)
        print(f"  {name:32} {told(took)}   {ratio:5.2f} times {peer}")


def timed(
    sides: dict[str, Callable[[Any], Any]],
    shapes: list[tuple[int, int]],
    rounds: int,
    random: torch.Generator,
) -> dict[str, list[float]]:
    """Milliseconds of the steps of each side, without the first one."""
    gradients = [torch.randn(shape, generator=random) for shape in shapes]
    made = {}
    for name, make in sides.items():
        params = [torch.nn.Parameter(torch.randn(shape, generator=random)) for shape in shapes]
        made[name] = params, make(params)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, (params, optimizer) in made.items():
            for p, g in zip(params, gradients, strict=True):
                p.grad = g.clone()
            began = time.perf_counter()
            optimizer.step()
            if turn:
                times[name].append(1e3 * (time.perf_counter() - began))
    return times


def fleet(name: str, rule: fl.specs.Rule, rounds: int, count: int) -> None:
    """Runs in one block against the same runs, one after another: what more steps cost."""
    task = fl.tasks.digits()
    runs = [fl.Run(rule, seed=seed) for seed in range(RUNS)]

    def took(executor: str, length: int) -> float:
        began = time.perf_counter()
        fl.fleet.run(task, runs, steps=length, batch=32, executor=executor, workers=0)
        return time.perf_counter() - began

    times: dict[str, list[float]] = {"traced": [], "alone": []}
    for _ in range(max(3, rounds // 3)):
        for executor, found in times.items():
            more = count if executor == "alone" else 20 * count  # recording takes as long as many steps
            longer, shorter = took(executor, more + 10), took(executor, 10)
            found.append(1e6 * (longer - shorter) / more / RUNS)
    ratio = statistics.median(times["alone"]) / statistics.median(times["traced"])
    print(
        f"  {name:20} fleet {told(times['traced'])}   alone {told(times['alone'])}   {ratio:5.1f} times as fast"
    )


def told(found: list[float]) -> str:
    """The median, and the quartiles."""
    low, middle, high = statistics.quantiles(found, n=4)
    return f"{middle:8.1f} [{low:.1f}, {high:.1f}]"


if __name__ == "__main__":
    main()
