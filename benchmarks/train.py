"""One training of a ResNet-18 (11 million parameters): ``fl.train`` against a plain PyTorch loop.

Every side trains the same model from the same weights on the same batches with Adam, and looks at the same
validation examples after the same steps. The plain loop is written as one would write it for speed, once with torch's
fused Adam and once with its foreach Adam.

    python benchmarks/train.py                       # 48 steps of 32 images of 32×32, five rounds
    python benchmarks/train.py --steps 24 --rounds 3

Prints both sides and the ratio of each round, medians, and how long the update of the parameters alone takes.
Nothing else should run on the machine; the time of the processor, shown beside the
time on the clock, is what another program disturbs less (with OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fallline as fl
from fallline import fleet, losses, rng
from fallline.fleet.single.pieces import Descent

LR = 1e-3
PEERS = {"torch, fused Adam": {"fused": True}, "torch, foreach Adam": {"foreach": True}}


Clocks = tuple[float, float]
"""Seconds on the clock, and of the processor."""


def clocks() -> Clocks:
    """Now."""
    return time.perf_counter(), time.process_time()


def since(began: Clocks) -> Clocks:
    """What has gone by."""
    wall, processor = clocks()
    return wall - began[0], processor - began[1]


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv(inputs, outputs, 3, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = conv(outputs, outputs, 3, 1), nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.around = (
            nn.Identity()
            if same
            else nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        z = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(z)) + self.around(x))


def conv(inputs: int, outputs: int, size: int, stride: int) -> nn.Conv2d:
    """A convolution without bias, as batch norm follows it."""
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)


def resnet18(classes: int = 10) -> nn.Sequential:
    """ResNet-18 with the stem for small images."""
    widths = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
    blocks = [b for i, o, s in widths for b in (Block(i, o, s), Block(o, o, 1))]
    stem = [conv(3, 64, 3, 1), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


def task(examples: int, judged: int, batch: int, size: int) -> fl.Task:
    """Random images: what they show costs nothing."""
    drawn = torch.Generator().manual_seed(0)

    def part(n: int) -> tuple[Tensor, Tensor]:
        return torch.randn(n, 3, size, size, generator=drawn), torch.randint(0, 10, (n,), generator=drawn)

    return fl.Task.supervised(
        resnet18,
        part(examples),
        part(judged),
        part(judged),
        loss=losses.cross_entropy,
        batch=batch,
        name="images",
    )


def plain(given: fl.Task, steps: int, options: dict[str, bool]) -> tuple[Clocks, float]:
    """Seconds, and the last training loss, of the loop as one would write it."""
    start = given.init(0)
    X, y = given.parts["train"]["inputs"], given.parts["train"]["target"]
    XV, yV = given.parts["validation"]["inputs"], given.parts["validation"]["target"]
    began = clocks()
    with rng.seeded(0):
        model = resnet18()
    model.load_state_dict({**start.params, **start.buffers})
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, **options)
    epochs = -(-steps * given.batch // len(X))
    order = torch.cat([torch.from_numpy(rng.order(0, e, len(X))) for e in range(epochs)]).split(given.batch)
    at = set(fleet.evaluations(steps))
    for t in range(steps + 1):
        if t in at:
            model.eval()
            with torch.no_grad():
                z = model(XV)
                F.cross_entropy(z, yV).item(), (z.argmax(1) == yV).double().mean().item()
            model.train()
        if t < steps:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(X[order[t]]), y[order[t]])
            loss.backward()
            optimizer.step()
    return since(began), loss.item()


def ours(given: fl.Task, steps: int) -> tuple[Clocks, float]:
    """The same by ``fl.train``."""
    began = clocks()
    found = fl.train(given, fl.rules.adam(lr=LR), steps=steps, keep="last", device="cpu", progress=False)
    return since(began), float(found.curves["train_loss"].values[-1])


def update_only() -> dict[str, float]:
    """Median milliseconds of one update of all parameters, without the gradient."""
    model = resnet18()
    gradient = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    for name, p in model.named_parameters():
        p.grad = gradient[name]
    rule = fl.rules.adam(lr=LR)
    h = dict(rule.numbers)
    descent = Descent(rule, dict(model.named_parameters()), h)
    sides: dict[str, Callable[[], object]] = {
        name: torch.optim.Adam(model.parameters(), lr=LR, **options).step for name, options in PEERS.items()
    }
    sides["fl.train"] = lambda: descent.step(gradient, h)
    return {name: statistics.median(milliseconds(step) for _ in range(20)) for name, step in sides.items()}


def milliseconds(call: Callable[[], object]) -> float:
    """The time of one call."""
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=32, help="pixels on a side")
    given = parser.parse_args()
    images = task(8 * given.batch, 8, given.batch, given.size)
    print(f"{images.facts['parameters']:,} parameters, {given.steps} steps, batch {given.batch}, torch {torch.__version__}, "
          f"{torch.get_num_threads()} threads, {platform.machine()}")  # fmt: skip
    sides: dict[str, Callable[[], tuple[Clocks, float]]] = {
        name: (lambda options=options: plain(images, given.steps, options)) for name, options in PEERS.items()
    }
    sides["fl.train"] = lambda: ours(images, given.steps)
    for side in sides.values():
        side()  # once, to warm up
    seconds: dict[str, list[Clocks]] = {name: [] for name in sides}
    for i in range(given.rounds):
        for name, side in sides.items():
            took, loss = side()
            seconds[name].append(took)
            print(f"  round {i + 1}  {name:20} {took[0]:7.2f} s  {1000 * took[0] / given.steps:7.1f} ms a step  "
                  f"(processor {took[1]:7.2f} s)  last training loss {loss:.4f}", flush=True)  # fmt: skip
    for name in PEERS:
        for clock, label in enumerate(("clock", "processor")):
            pairs = list(zip(seconds["fl.train"], seconds[name], strict=True))
            ratios = sorted(one[clock] / other[clock] for one, other in pairs)
            middle = [statistics.median(took[clock] for took in seconds[side]) for side in (name, "fl.train")]
            print(f"median by the {label:9}  {name} {middle[0]:.2f} s, fl.train {middle[1]:.2f} s: fl.train takes "
                  f"{statistics.median(ratios):.3f} of its time (from {ratios[0]:.3f} to {ratios[-1]:.3f})")  # fmt: skip
    told = ", ".join(f"{name} {ms:.1f} ms" for name, ms in update_only().items())
    print(f"one update of the parameters alone: {told}")


if __name__ == "__main__":
    main()
