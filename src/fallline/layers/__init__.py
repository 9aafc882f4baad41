"""Building blocks for models. Each states its inductive bias: what it assumes before it has seen data."""

from . import init
from .adapters import lora, merged
from .attention import Attention
from .averaged import Equivariant, Invariant
from .causal import CausalConv1d, causal_mask
from .cnn import cnn
from .group_conv import GroupConv2d, GroupPool2d
from .linear import linear
from .lstm import lstm
from .mass import MassConserving, MassConservingLinear
from .mlp import mlp
from .places import GlobalPool2d, LocallyConnected2d
from .recurrent import GRU, LSTM, RNN
from .residual import Residual
from .resnet import resnet
from .sets import SetLinear, SetPool, deep_sets
from .smooth import LipschitzLinear, gradient_penalty, roughness
from .torchs import BatchNorm2d, Conv2d, LayerNorm
from .transformer import transformer
from .vgg import vgg19

__all__ = [
    "GRU", "LSTM", "RNN", "Attention", "BatchNorm2d", "CausalConv1d", "Conv2d", "Equivariant", "GlobalPool2d", "GroupConv2d",
    "GroupPool2d", "Invariant", "LayerNorm", "LipschitzLinear", "LocallyConnected2d", "MassConserving",
    "MassConservingLinear", "Residual", "SetLinear", "SetPool", "causal_mask", "cnn", "deep_sets", "gradient_penalty",
    "init", "linear", "lora", "lstm", "merged", "mlp", "resnet", "roughness", "transformer", "vgg19",
]  # fmt: skip
