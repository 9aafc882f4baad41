"""Steps of AdamW on 124 M parameters (GPT-2 small's shapes) and on 1,000 tiny tensors, against torch's.

All sides step the same parameters with the same gradients in one process, in turn, on two threads. Goals on a CPU: with
the clip by norm 1.5 times as fast as ``clip_grad_norm_`` and fused AdamW, without it 0.95 times fused; results within
4 ulp; peak memory at most torch's.

Predicted from bytes: fused AdamW reads four float32 and writes three of each parameter (3.5 GB), torch's clip reads the
gradient for the norm and reads and writes it for the scaling (1.5 GB); here the norm reads it once (0.5 GB) and the
scaling is part of the step. At one bandwidth that is 5.0 / 4.0 = 1.25 times as fast; what is above comes from torch's
norm, which does not reach the bandwidth.

    python benchmarks/optimizer.py                 # five rounds
    python benchmarks/optimizer.py --rounds 1
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peers import machine
from torch import Tensor

from fallline import optim

LAYERS = 12
GPT2 = [
    (50257, 768), (1024, 768),
    *LAYERS * [(768,), (768,), (768, 2304), (2304,), (768, 768), (768,), (768,), (768,), (768, 3072), (3072,), (3072, 768), (768,)],
    (768,), (768,),
]  # fmt: skip
TINY = 1000 * [(16,)]
MAX_NORM, RATE = 1.0, 1e-3
FUSED = "torch fused"
MAKERS: dict[str, Callable[[list[Tensor]], torch.optim.Optimizer]] = {
    "torch for-loop": lambda params: torch.optim.AdamW(params, foreach=False),
    "torch foreach": lambda params: torch.optim.AdamW(params, foreach=True),
    FUSED: lambda params: torch.optim.AdamW(params, fused=True),
    "fallline, plain": lambda params: optim.AdamW(params, fused=False),
    "fallline": optim.AdamW,
}


def parameters(shapes: list[tuple[int, ...]]) -> list[Tensor]:
    """Parameters with gradients, the same ones each time."""
    random = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=random)) for shape in shapes]
    for p in params:
        p.grad = 1e-3 * torch.randn(p.shape, generator=random)
    return params


def stepper(name: str, params: list[Tensor], *, clip: bool, exact: bool = False) -> Callable[[], Any]:
    """One step, with the gradients that a backward pass would leave; ``exact`` takes torch's norm in float64."""
    optimizer: Any = MAKERS[name](params)
    if not clip:
        return lambda: optimizer.step()
    if name.startswith("fallline"):
        return lambda: optimizer.step(max_norm=MAX_NORM)

    def both() -> None:
        norm = exact_norm(params) if exact else torch.nn.utils.get_total_norm([p.grad for p in params])  # type: ignore[misc]
        torch.nn.utils.clip_grads_with_norm_(params, MAX_NORM, norm)
        optimizer.step()

    return both


def exact_norm(params: list[Tensor]) -> Tensor:
    """The norm of all gradients in float64; torch takes it in float32, where 38 M squares lose digits."""
    return torch.stack([torch.linalg.vector_norm(p.grad, dtype=torch.float64) for p in params]).norm().float()


def measured(shapes: list[tuple[int, ...]], *, clip: bool, rounds: int, steps: int) -> None:
    """Print seconds a step, and how many times as fast as torch's fused, median and range over rounds."""
    params = parameters(shapes)
    grads = [p.grad.clone() for p in params]  # type: ignore[union-attr]
    steppers = {name: stepper(name, params, clip=clip) for name in MAKERS}
    times: dict[str, list[float]] = {name: [] for name in MAKERS}
    for step in steppers.values():
        step()
    for _ in range(rounds):
        took: dict[str, list[float]] = {name: [] for name in MAKERS}
        for _ in range(steps):
            for name, step in steppers.items():  # in turn, so that what disturbs one disturbs all
                for p, g in zip(params, grads, strict=True):
                    p.grad.copy_(g)  # type: ignore[union-attr]
                before = time.perf_counter()
                step()
                took[name].append(time.perf_counter() - before)
        for name, own in took.items():
            times[name].append(statistics.median(own))
    for name in MAKERS:
        ratios = sorted(peer / own for peer, own in zip(times[FUSED], times[name], strict=True))
        print(
            f"  {name:16} {1e3 * statistics.median(times[name]):8.2f} ms   {statistics.median(ratios):5.2f} times "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


def distance(*, clip: bool, steps: int = 3) -> float:
    """The largest distance from torch's fused after a step from the same parameters, in units of the last place.

    Torch's side clips by the norm taken in float64: its own is off by parts in a thousand for large tensors.

    The place is that of the weight or, where that is larger, of a step of the size of the learning rate.
    """
    largest = 0.0
    sides = {name: parameters(GPT2) for name in (FUSED, "fallline")}
    steppers = [stepper(name, params, clip=clip, exact=True) for name, params in sides.items()]
    for i in range(steps):
        random = torch.Generator().manual_seed(i)
        for p, q in zip(*sides.values(), strict=True):
            q.grad = 1e-3 * torch.randn(p.shape, generator=random)
            p.grad = q.grad.clone()  # which torch's clip changes
        for step in steppers:
            step()
        for p, q in zip(*sides.values(), strict=True):
            size = p.detach().abs().clamp(min=RATE)
            place = torch.nextafter(size, size + 1) - size
            largest = max(largest, float(((p.detach() - q.detach()).abs() / place).max()))
            q.data.copy_(p.data)
    return largest


def peak(name: str) -> int:
    """Bytes of resident memory at most of three steps with the clip, in a process of its own."""
    command = [sys.executable, __file__, "--peak", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print a table for each case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=7, help="of each side in a round")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(2)
    if given.peak:
        step = stepper(given.peak, parameters(GPT2), clip=True)
        for _ in range(3):
            step()
        print(1024 * int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]))  # type: ignore[index]
        return
    print(machine())
    for clip in (True, False):
        told = f"clip by norm {MAX_NORM:g} + AdamW" if clip else "AdamW"
        print(f"{told}, 124 M parameters in 148 tensors (how many times as fast as torch fused)")
        measured(GPT2, clip=clip, rounds=given.rounds, steps=given.steps)
        print(f"  from torch fused after a step: {distance(clip=clip):.1f} ulp at most")
    params = parameters(GPT2)
    norm = torch.nn.utils.get_total_norm([p.grad for p in params])  # type: ignore[misc]
    print(f"torch's norm of these gradients over that in float64: {float(norm / exact_norm(params)):.5f}")
    print("AdamW, 1,000 tensors of 16")
    measured(TINY, clip=False, rounds=given.rounds, steps=20)
    print("peak memory, three steps with the clip")
    for name in MAKERS:
        print(f"  {name:16} {peak(name) / 1e9:6.3f} GB")


if __name__ == "__main__":
    main()
