"""A sweep of 256 MLPs on digits: a fleet against a PyTorch loop in one single-threaded process per core.

Every side trains the same runs (32 learning rates × 8 seeds, Adam, batch 32), evaluates on validation at the same
steps, and is timed as a whole process: start, imports, tracing and compiling included.

    python benchmarks/sweep.py                     # 256 runs of 1,000 steps, three rounds
    python benchmarks/sweep.py --runs 64 --rounds 1

Prints both sides and the ratio of one round, then medians. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import statistics
import subprocess
import sys
import time

SIDES = ("torch", "fleet", "fleet, compiled")


def rates(runs: int) -> list[tuple[float, int]]:
    """(learning rate, seed) of each run."""
    grid = [10 ** (-4 + 3 * i / 31) for i in range(32)]
    return [(grid[i % 32], i // 32) for i in range(runs)]


# --- the peer: a plain loop, written as one would write it for speed -----------------------------------------


def loop(job: tuple[list[tuple[float, int]], int]) -> list[float]:
    """Train runs one after another; the validation accuracies."""
    import torch
    from torch import nn

    from fallline import fleet, tasks

    wanted, steps = job
    torch.set_num_threads(1)
    parts = tasks.digits().parts
    X, y = parts["train"]["inputs"], parts["train"]["target"]
    XV, yV = parts["validation"]["inputs"], parts["validation"]["target"]
    evaluated, scores = set(fleet.evaluations(steps)), []
    for lr, seed in wanted:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
        loss = nn.CrossEntropyLoss()
        epochs = -(-steps * 32 // len(X))
        order = torch.cat([torch.randperm(len(X)) for _ in range(epochs)])[: steps * 32].reshape(steps, 32)
        score = 0.0
        for t in range(steps):
            batch = order[t]
            optimizer.zero_grad()
            loss(model(X[batch]), y[batch]).backward()
            optimizer.step()
            if t + 1 in evaluated:
                with torch.no_grad():
                    z = model(XV)
                    loss(z, yV).item()
                    score = (z.argmax(1) == yV).double().mean().item()
        scores.append(score)
    return scores


def torch_side(runs: int, steps: int, workers: int) -> list[float]:
    """The peer on all cores."""
    wanted = rates(runs)
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return [
            s
            for scores in pool.map(loop, [(wanted[w::workers], steps) for w in range(workers)])
            for s in scores
        ]


# --- ours ----------------------------------------------------------------------------------------------------


def fleet_side(runs: int, steps: int, workers: int, executor: str) -> list[float]:
    """The fleet on all cores."""
    import fallline as fl

    asked = [fl.Run(rule=fl.rules.adam(lr=lr), seed=seed) for lr, seed in rates(runs)]
    records = fl.fleet.run(fl.tasks.digits(), asked, steps=steps, workers=workers, executor=executor)
    return [record.outcome.numbers["validation_score"] for record in records]


# --- timing --------------------------------------------------------------------------------------------------


def timed(side: str, given: argparse.Namespace) -> tuple[float, float]:
    """Seconds of a whole process, and the mean of its validation accuracies."""
    command = [sys.executable, __file__, "--side", side]
    command += ["--runs", str(given.runs), "--steps", str(given.steps), "--workers", str(given.workers)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - began, statistics.fmean(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=256)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help="run one side only, and print its accuracies")
    given = parser.parse_args()
    if given.side == "torch":
        print(json.dumps(torch_side(given.runs, given.steps, given.workers)))
        return
    if given.side:
        executor = "compiled" if "compiled" in given.side else "traced"
        print(json.dumps(fleet_side(given.runs, given.steps, given.workers, executor)))
        return
    import torch

    print(f"{given.runs} runs × {given.steps} steps, {given.workers} workers, torch {torch.__version__}, "
          f"python {platform.python_version()}, {platform.machine()}; whole processes")  # fmt: skip
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for i in range(given.rounds):
        for side in SIDES:
            took, accuracy = timed(side, given)
            seconds[side].append(took)
            ratio = seconds["torch"][-1] / took
            print(
                f"  round {i + 1}  {side:16} {took:8.1f} s  {ratio:6.1f}×  mean accuracy {accuracy:.4f}",
                flush=True,
            )
    for side in SIDES:
        middle = statistics.median(seconds[side])
        ratios = sorted(a / b for a, b in zip(seconds["torch"], seconds[side], strict=True))
        per = middle / given.runs / given.steps * 1e6
        print(f"median  {side:16} {middle:8.1f} s  {per:7.1f} µs per step of a run  {statistics.median(ratios):6.1f}× "
              f"(from {ratios[0]:.1f} to {ratios[-1]:.1f})")  # fmt: skip


if __name__ == "__main__":
    main()
