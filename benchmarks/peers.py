"""What the benchmarks share: the plain loops that fleets are measured against, and how all sides are timed.

Every side is a function of (runs, steps). It runs in one single-threaded process per core, all at once. Its steady
state is what more steps cost: the difference between a long and a short training, so that start, tracing and
compiling drop out; they are told apart.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

CORES = multiprocessing.cpu_count()
Side = Callable[[int, int], None]


@dataclass(frozen=True)
class Took:
    """Microseconds that one step of one run takes on all cores together, and the seconds before the first step."""

    step: float
    start: float


def _work(
    make: Callable[[], Side], runs: int, steps: tuple[int, int], core: int, gate: Any, out: Any
) -> None:
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[core]})
    side, seconds = make(), []
    began = time.perf_counter()
    side(runs, 1)
    first = time.perf_counter() - began
    for count in steps:
        gate.wait()
        began = time.perf_counter()
        side(runs, count)
        seconds.append(time.perf_counter() - began)
    out.put((first, *seconds))


def took(make: Callable[[], Side], runs: int, steps: tuple[int, int], cores: int = CORES) -> Took:
    """Time a side on all cores; ``runs`` is for each core."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    context = multiprocessing.get_context("spawn")
    gate, out = context.Barrier(cores), context.Queue()
    workers = [context.Process(target=_work, args=(make, runs, steps, c, gate, out)) for c in range(cores)]
    for worker in workers:
        worker.start()
    found = [out.get() for _ in workers]
    for worker in workers:
        worker.join()
    first, short, long = (max(column) for column in zip(*found, strict=True))
    return Took((long - short) / (steps[1] - steps[0]) / runs / cores * 1e6, first)


def table(
    sides: Mapping[str, tuple[Callable[[], Side], int, tuple[int, int]]],
    rounds: int,
    peer: str,
    cores: int = CORES,
) -> dict[str, list[Took]]:
    """Time all sides in turn, ``rounds`` times over, and print medians and ratios to the peer of the same round."""
    found: dict[str, list[Took]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (make, runs, steps) in sides.items():
            found[name].append(took(make, runs, steps, cores))
    print(f"{'':34} {'µs a step of a run':>20} {'times faster':>26} {'first step after':>18}")
    for name, times in found.items():
        ratios = sorted(p.step / t.step for p, t in zip(found[peer], times, strict=True))
        step, start = (statistics.median(x) for x in ([t.step for t in times], [t.start for t in times]))
        span = f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
        print(f"{name:34} {step:20.2f} {span:>26} {start:16.2f} s", flush=True)
    return found


def machine() -> str:
    """Where and with what the numbers were taken."""
    import torch

    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    return f"{CORES} cores of {model or platform.machine()}, torch {torch.__version__}, python {platform.python_version()}"


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().splitlines()
    except OSError:
        return []


# --- the peers ------------------------------------------------------------------------------------------------


def torch_loop(module: Callable[[], Any], columns: Callable[[], tuple[Any, Any]], batch: int = 32) -> Side:
    """One run after another, written as one would write it for speed: fused Adam, indices drawn before."""
    import torch

    torch.set_num_threads(1)
    X, y = columns()
    loss = torch.nn.CrossEntropyLoss()

    def train(runs: int, steps: int) -> None:
        for seed in range(runs):
            torch.manual_seed(seed)
            model = module()
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
            order = torch.randint(len(X), (steps, batch))
            for t in range(steps):
                rows = order[t]
                optimizer.zero_grad()
                loss(model(X[rows]), y[rows]).backward()
                optimizer.step()

    return train


def fleet(task: Callable[[], Any], executor: str) -> Side:
    """A block of runs, each with its own learning rate and seed, in this process."""
    import torch

    import fallline as fl

    torch.set_num_threads(1)
    given = task()

    def train(runs: int, steps: int) -> None:
        asked = [fl.Run(rule=fl.rules.adam(lr=1e-3 * (1 + i / runs)), seed=i % 8) for i in range(runs)]
        fl.fleet.run(given, asked, steps=steps, workers=0, executor=executor)

    return train


def digits_columns() -> tuple[Any, Any]:
    from fallline import tasks

    part = tasks.digits().parts["train"]
    return part["inputs"], part["target"]


def mlp() -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def digits() -> Any:
    from fallline import tasks

    return tasks.digits()


CHUNK = 100
"""Steps that JAX is given at once, so that it compiles one program for trainings of any length."""
SHAPES = ((64, 32), (32,), (32, 10), (10,))


def jax_mlp(*, drawn_before: bool, single: bool) -> Side:
    """The same sweep in JAX: ``jit(vmap(scan))``, with Adam written out.

    Args:
        drawn_before: whether the examples of all steps are drawn before, or by ``jax.random`` at each step.
        single: whether XLA is held to one thread, for a process per core.
    """
    if single:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    import jax
    import jax.numpy as jnp
    import numpy as np

    X, y = (jnp.asarray(np.asarray(column)) for column in digits_columns())

    def loss(w: Any, rows: Any) -> Any:
        z = jnp.maximum(X[rows] @ w[0] + w[1], 0) @ w[2] + w[3]
        return -jnp.mean(jax.nn.log_softmax(z)[jnp.arange(32), y[rows]])

    def adam(w: Any, m: Any, v: Any, g: Any, t: Any, lr: Any) -> Any:
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        return w - lr * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v

    def one(w: Any, m: Any, v: Any, lr: Any, t: Any, order: Any, key: Any) -> Any:
        def step(carry: Any, given: Any) -> Any:
            (w, m, v), (t, drawn) = carry, given
            rows = drawn if drawn_before else jax.random.randint(drawn, (32,), 0, len(X))
            value, g = jax.value_and_grad(loss)(w, rows)
            new = [adam(*each, t, lr) for each in zip(w, m, v, g, strict=True)]
            return tuple(list(part) for part in zip(*new, strict=True)), value

        drawn = order if drawn_before else jax.random.split(key, CHUNK)
        return jax.lax.scan(step, (w, m, v), (t + jnp.arange(1, CHUNK + 1), drawn))

    program = jax.jit(jax.vmap(one, in_axes=(0, 0, 0, 0, None, 0, 0)))

    def train(runs: int, steps: int) -> None:
        random = np.random.default_rng(0)
        w = [jnp.asarray(random.normal(size=(runs, *s)) * 0.1, jnp.float32) for s in SHAPES]
        m, v = ([jnp.zeros_like(p) for p in w] for _ in range(2))
        keys, rates = jax.random.split(jax.random.key(0), runs), jnp.linspace(1e-3, 2e-3, runs)
        for start in range(0, steps, CHUNK):
            order = jnp.asarray(random.integers(0, len(X), (runs, CHUNK, 32)))
            (w, m, v), value = program(w, m, v, rates, start, order, keys)
        value.block_until_ready()

    return train
