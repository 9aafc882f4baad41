"""Small convolutional networks and transformers: fleets against PyTorch loops, a single-threaded process per core.

python benchmarks/models.py                    # five rounds of each model
python benchmarks/models.py --rounds 1 --only cnn
"""

from __future__ import annotations

import argparse
import functools
from typing import Any

import numpy as np
import torch
from peers import fleet, machine, table, torch_loop
from torch import Tensor, nn
from torch.nn import functional as F


class CNN(nn.Module):
    """Convolutions 1-8-16 on pictures of 8 × 8, a pooling and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.out = nn.Linear(16 * 4 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.second(F.relu(self.first(x))))
        return self.out(F.max_pool2d(x, 2).flatten(1))


class Block(nn.Module):
    """Attention with two heads, then a layer four times as wide; norms before both."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        heads = self.qkv(self.norm1(x)).reshape(n, tokens, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        x = x + self.mix(seen.transpose(1, 2).reshape(n, tokens, width))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Transformer(nn.Module):
    """Embeddings of token and place, blocks, and a class from the mean over tokens."""

    def __init__(self, width: int, layers: int, tokens: int) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(32, width), nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(layers)))
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.blocks(self.token(x) + self.place).mean(1))


MODELS: dict[str, tuple[Any, tuple[int, ...] | int, int]] = {
    "cnn": (CNN, (1, 8, 8), 32),
    "transformer d16 L1 T8": (functools.partial(Transformer, 16, 1, 8), 8, 32),
    "transformer d32 L2 T16": (functools.partial(Transformer, 32, 2, 16), 16, 16),
}
"""What makes each model, its inputs (pictures of this shape, or so many tokens), and the runs on each core."""


def columns(name: str) -> tuple[Tensor, Tensor]:
    """Examples of random content: what is learned does not change what a step costs."""
    random, inputs = np.random.default_rng(0), MODELS[name][1]
    if isinstance(inputs, int):
        X = torch.from_numpy(random.integers(0, 32, (1000, inputs)))
    else:
        X = torch.from_numpy(random.normal(size=(1000, *inputs)).astype(np.float32))
    return X, torch.from_numpy(random.integers(0, 10, 1000))


def task(name: str) -> Any:
    """The same as a task."""
    import fallline as fl

    X, y = columns(name)
    return fl.Task.supervised(MODELS[name][0], (X.numpy(), y.numpy()), loss=fl.losses.cross_entropy, batch=32)


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=MODELS)
    given = parser.parse_args()
    print(machine())
    for name in [given.only] if given.only else MODELS:
        make, _, runs = MODELS[name]
        loop = functools.partial(torch_loop, make, functools.partial(columns, name))
        sides = {"torch loop, fused Adam": (loop, 2, (50, 250))}
        for executor in ("traced", "compiled"):
            made = functools.partial(fleet, functools.partial(task, name), executor)
            sides[f"fleet, {executor}"] = (made, runs, (50, 250))
        print(f"\n{name}, batches of 32, {runs} runs on each core")
        table(sides, given.rounds, "torch loop, fused Adam")


if __name__ == "__main__":
    main()
