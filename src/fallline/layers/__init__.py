"""Building blocks for models. Each states its inductive bias: what it assumes before it has seen data."""

from .adapters import lora, merged
from .cnn import cnn
from .mlp import mlp
from .recurrent import GRU, LSTM
from .transformer import transformer

__all__ = ["GRU", "LSTM", "cnn", "lora", "merged", "mlp", "transformer"]
