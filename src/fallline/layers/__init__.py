"""Building blocks for models. Each states its inductive bias: what it assumes before it has seen data."""

from . import init
from .adapters import lora, merged
from .cnn import cnn
from .linear import linear
from .lstm import lstm
from .mlp import mlp
from .recurrent import GRU, LSTM
from .resnet import resnet
from .transformer import transformer
from .vgg import vgg19

__all__ = [
    "GRU",
    "LSTM",
    "cnn",
    "init",
    "linear",
    "lora",
    "lstm",
    "merged",
    "mlp",
    "resnet",
    "transformer",
    "vgg19",
]
