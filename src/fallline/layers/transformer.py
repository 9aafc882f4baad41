"""The transformer that predicts the next token."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import BadTask, BadValue
from .attention import Attention
from .declared import causal, layer
from .parts import activated


@layer(lambda of: of(7, width=6, heads=2, depth=2, context=5), (5,), causal(1, 2), tokens=7)
def transformer(
    vocabulary: int, width: int = 32, heads: int = 2, depth: int = 1, context: int = 32, dropout: float = 0.0,
    activation: str = "gelu",
) -> nn.Module:  # fmt: skip
    """A decoder that tells each next token from those before: tokens [examples, time] ↦ logits [examples, vocabulary, time].

    With E the embedding of tokens, P that of places and N a LayerNorm with weights of its own each time:

        x = E[token] + P[place]
        x ← x + attention(N(x)),   x ← x + MLP(N(x))   (``depth`` times; the MLP is ``width``-4 ``width``-``width``)
        logits = W N(x) + b

    Inductive bias: a token depends on earlier ones, never on later ones, and on near ones no more than on far ones,
    as what is near is not known but learned.

    Args:
        vocabulary: how many tokens there are, 0 to ``vocabulary`` − 1.
        width: numbers that stand for a token inside.
        heads: of attention, each of ``width / heads`` numbers.
        depth: blocks of attention and MLP.
        context: the longest sequence that it can read.
        dropout: share that is zeroed in training: of attention, of what each block adds, and of the embeddings.
        activation: of the MLPs: relu, tanh, sigmoid, centered_sigmoid, gelu or silu.

    >>> import torch
    >>> model = transformer(97, width=16, context=8)
    >>> model(torch.zeros(5, 8, dtype=torch.int64)).shape
    torch.Size([5, 97, 8])

    Source: Vaswani et al., Attention is all you need, 2017; as a decoder alone and with the norm before each part:
    Radford et al., Language models are unsupervised multitask learners, 2019. Embeddings start from N(0, 0.02²) as
    there, other weights as ``torch.nn.Linear`` has them. Logits have the vocabulary on axis 1, where cross-entropy
    expects classes.
    """
    sizes = {"vocabulary": vocabulary, "width": width, "heads": heads, "depth": depth, "context": context}
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise BadValue(f"{name} of a transformer is a whole number of at least 1, got {value!r}")
    if not 0 <= dropout <= 1:
        raise BadValue(f"dropout of a transformer is a share from 0 to 1, got {dropout!r}")
    return Transformer(vocabulary, width, heads, depth, context, dropout, activation)


class Transformer(nn.Module):
    """See :func:`transformer`."""

    def __init__(
        self, vocabulary: int, width: int, heads: int, depth: int, context: int, dropout: float, activation: str
    ) -> None:  # fmt: skip
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout, activation) for _ in range(depth))
        self.norm, self.output = nn.LayerNorm(width), nn.Linear(width, vocabulary)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [examples, vocabulary, time]."""
        time, context = tokens.shape[-1], self.places.num_embeddings
        if time > context:
            raise BadTask(f"sequences of {time} tokens do not fit into a transformer of context={context}")
        x = self.dropout(self.tokens(tokens) + self.places.weight[:time])
        for block in self.blocks:
            x = block(x)
        return self.output(self.norm(x)).transpose(-2, -1)


class Block(nn.Module):
    """Attention, then an MLP for each token, each added to what was there."""

    def __init__(self, width: int, heads: int, dropout: float, activation: str = "gelu") -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout, causal=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), activated(activation), nn.Linear(4 * width, width)
        )
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    @property
    def ends(self) -> tuple[nn.Module, ...]:
        """The last layers of what is added."""
        return self.attention.output, self.mlp[-1]

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.before_attention(x)))
        return x + self.dropout(self.mlp(self.before_mlp(x)))
