"""Sweeps on one GPU: a fleet against PyTorch loops on the same GPU, one run after another.

Both sides have the data on the GPU, and draw what they see there. The loops use fused Adam; one is called step by
step, as loops mostly are, the other captures its step as a CUDA graph, as a loop does at its best. The fleet finds its
block size by itself; it is timed with 256 runs, and with as many as its block holds.

    python benchmarks/gpu.py                 # five rounds of MLP and CNN
    python benchmarks/gpu.py --only mlp --rounds 1

A time is what more steps cost: the difference between a long and a short training, so that start, tracing and
capturing drop out; the seconds before the first step are told apart.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from models import CNN
from models import columns as pictures
from peers import digits_columns, mlp
from torch import Tensor

import fallline as fl
from fallline.fleet import Fleet, settings_for

RUNS, BATCH = 256, 32
MODELS: dict[str, tuple[Callable[[], Any], Callable[[], tuple[Tensor, Tensor]]]] = {
    "mlp": (mlp, digits_columns),
    "cnn": (CNN, functools.partial(pictures, "cnn")),
}
GOALS = {"mlp": 200, "cnn": 15}
Side = Callable[[int], None]
"""Trains so many steps of its runs, and waits until they are done."""


# --- the peers ------------------------------------------------------------------------------------------------


class Loop:
    """One run, as one would write it for speed.

    Args:
        make: the module.
        data: inputs and labels.
        graphed: whether its step is captured as a CUDA graph.
    """

    def __init__(self, make: Callable[[], Any], data: tuple[Tensor, Tensor], *, graphed: bool) -> None:
        torch.manual_seed(0)
        self.X, self.y = (t.cuda() for t in data)
        self.model, self.loss = make().cuda(), torch.nn.CrossEntropyLoss()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, fused=True, capturable=graphed)
        self.rows = torch.zeros(BATCH, dtype=torch.int64, device="cuda")
        self.graph: torch.cuda.CUDAGraph | None = self.captured() if graphed else None

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.loss(self.model(self.X[self.rows]), self.y[self.rows]).backward()
        self.optimizer.step()

    def captured(self) -> torch.cuda.CUDAGraph:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad()  # so that the backward pass writes its gradients, and adds nothing up
        with torch.cuda.graph(graph):
            self.loss(self.model(self.X[self.rows]), self.y[self.rows]).backward()
            self.optimizer.step()
        return graph

    def __call__(self, steps: int) -> None:
        order = torch.randint(len(self.X), (steps, BATCH), device="cuda")
        for t in range(steps):
            if self.graph is not None:
                self.rows.copy_(order[t])
                self.graph.replay()
            else:
                self.rows = order[t]
                self.step()
        torch.cuda.synchronize()


# --- ours -----------------------------------------------------------------------------------------------------


def fleet(crew: Fleet, runs: int) -> Side:
    """Runs with learning rates and seeds of their own, through the same door as every training."""
    asked = [(0, fl.Run(rule=fl.rules.adam(lr=1e-3 * (1 + i / runs)), seed=i % 8)) for i in range(runs)]

    def train(steps: int) -> None:
        for _ in crew.train(asked, settings_for(crew.tasks, steps, BATCH, judge=False)):
            pass

    return train


# --- timing ---------------------------------------------------------------------------------------------------


def took(side: Side, steps: tuple[int, int]) -> float:
    """Seconds that one step more costs."""
    seconds = []
    for count in steps:
        torch.cuda.synchronize()
        began = time.perf_counter()
        side(count)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return (seconds[1] - seconds[0]) / (steps[1] - steps[0])


def measure(name: str, rounds: int) -> None:
    """Print the table of one model."""
    make, columns = MODELS[name]
    data = columns()
    task = fl.Task.supervised(make, tuple(t.numpy() for t in data), loss=fl.losses.cross_entropy, batch=BATCH)
    began = time.perf_counter()
    with Fleet([task], device="cuda") as crew:
        (choice,) = crew.choices.values()
        print(f"\n{name}, batches of {BATCH}; block size found in {time.perf_counter() - began:.1f} s: {choice.largest} "
              f"runs, {choice.executor} ({choice.reason})")  # fmt: skip
        sides: dict[str, tuple[Callable[[], Side], int]] = {
            "torch loop": (lambda: Loop(make, data, graphed=False), 1),
            "torch loop, CUDA graph": (lambda: Loop(make, data, graphed=True), 1),
            **{f"fleet of {runs:,}": (functools.partial(fleet, crew, runs), runs) for runs in sorted({RUNS, choice.largest})},
        }  # fmt: skip
        found: dict[str, list[float]] = {side: [] for side in sides}
        first: dict[str, float] = {}
        for i in range(rounds):
            for side, (made, runs) in sides.items():
                began = time.perf_counter()
                one = made()
                one(1)
                first.setdefault(side, time.perf_counter() - began)
                found[side].append(took(one, (100, 600)) / runs * 1e6)
            shown = ", ".join(f"{side} {times[-1]:.2f}" for side, times in found.items())
            print(f"  round {i + 1}, µs a step of a run: {shown}", flush=True)
        _table(name, found, first)


def _table(name: str, found: dict[str, list[float]], first: dict[str, float]) -> None:
    peers = list(found)[:2]
    print(
        f"{'':26} {'µs a step of a run':>20} {'× torch loop':>26} {'× its graph':>26} {'first step after':>18}"
    )
    for side, times in found.items():
        spans = []
        for peer in peers:
            ratios = sorted(p / t for p, t in zip(found[peer], times, strict=True))
            spans.append(f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})")
        print(
            f"{side:26} {statistics.median(times):20.2f} {spans[0]:>26} {spans[1]:>26} {first[side]:16.2f} s"
        )
    print(f"{'goal':26} {'':20} {GOALS[name]:>25}×", flush=True)


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=MODELS)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit(f"benchmarks/gpu.py needs a GPU, and torch {torch.__version__} finds none here")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}, "
          f"{torch.cuda.mem_get_info()[1] / 1e9:.0f} GB; medians of {given.rounds}")  # fmt: skip
    for name in [given.only] if given.only else MODELS:
        measure(name, given.rounds)


if __name__ == "__main__":
    main()
