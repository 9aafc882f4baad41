"""Tasks on text: predict each next character."""

from __future__ import annotations

import string
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import layers, losses
from ..errors import BadValue, NotFound
from .base import Task

VOCABULARY = "\n " + string.digits + string.ascii_letters + string.punctuation
"""The characters that are told apart; what is none of them is one more, the last."""
CHARACTERS = len(VOCABULARY) + 1
JUDGED = 256
"""Windows by which a run is judged: a model of text computes so much for each that all of them would take longer
than the training."""


def stdlib_text(context: int = 32, characters: int = 300_000) -> Task:
    """The source of Python's standard library, character by character: a text that every machine has.

    Files lie in one part as a whole: of each five in the order of their names, three train, one validates, one
    tests. Each file is cut into windows of ``context`` characters, of which each is to be followed by the next; 256
    windows, spread over their files, validate, and 256 test. The model is a transformer (``width``, ``heads``,
    ``depth`` and ``dropout`` are options of a run), the loss cross-entropy, the score that loss, in nats per
    character. The text, and with it all numbers, is that of the Python that runs.

    Args:
        context: characters in a window.
        characters: how much of the text is taken, over all parts.

    >>> task = stdlib_text(characters=50_000)
    >>> task.metric.name, tuple(task.parts["train"]["inputs"].shape[1:])
    ('loss', (32,))

    Source: the files of the folder ``stdlib`` of ``sysconfig.get_paths()``, by the Python Software Foundation.
    """
    parts = [windows(texts, context) for texts in by_fives(library(characters))]

    def model(width: int = 32, heads: int = 2, depth: int = 1, dropout: float = 0.0) -> torch.nn.Module:
        return layers.transformer(CHARACTERS, width, heads, depth, context, dropout)

    train, validation, test = parts[0], spread(*parts[1]), spread(*parts[2])
    return Task.supervised(
        model, train, validation, test, loss=losses.cross_entropy, score="loss", name="stdlib_text"
    )


def library(characters: int) -> list[str]:
    """The first files of the standard library, by name, up to a number of characters; the last one is cut."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    texts, left = [], characters
    for path in sorted(folder.glob("*.py")):
        texts.append(path.read_text(encoding="utf-8", errors="replace")[: max(left, 0)])
        left -= len(texts[-1])
        if left <= 0:
            return texts
    if not texts:
        raise NotFound(
            f"there is no .py file in {folder}: this Python comes without the source of its standard library"
        )
    return texts


def by_fives(texts: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Texts for training, validation and test: of each five, three, one and one.

    >>> by_fives("abcdefg")
    (['a', 'b', 'c', 'f', 'g'], ['d'], ['e'])
    """
    train = [text for i, text in enumerate(texts) if i % 5 < 3]
    return train, list(texts[3::5]), list(texts[4::5])


def windows(texts: Iterable[str], context: int) -> tuple[Tensor, Tensor]:
    """Texts cut into windows: characters [windows, context] by number, and the character after each, the same shape.

    No window reaches over the end of a text; what fills no window at a text's end is left out.

    Args:
        texts: each a text of its own.
        context: characters in a window.

    >>> inputs, target = windows(["0123456789"], context=4)
    >>> (inputs - inputs.min()).tolist(), (target - inputs.min()).tolist()
    ([[0, 1, 2, 3], [4, 5, 6, 7]], [[1, 2, 3, 4], [5, 6, 7, 8]])
    """
    if isinstance(context, bool) or not isinstance(context, int) or context < 1:
        raise BadValue(f"context is a whole number of at least 1, got {context!r}")
    pairs = [torch.zeros(0, 2, context, dtype=torch.int64)]
    for text in texts:
        codes = encode(text)
        count = (len(codes) - 1) // context
        if count > 0:
            pieces = [codes[i : i + count * context].reshape(count, context) for i in (0, 1)]
            pairs.append(torch.stack(pieces, 1))
    whole = torch.cat(pairs)
    if not len(whole):
        raise BadValue(f"no text is longer than a window: take more characters, or a context below {context}")
    return whole[:, 0].contiguous(), whole[:, 1].contiguous()


def spread(inputs: Tensor, target: Tensor, most: int = JUDGED) -> tuple[Tensor, Tensor]:
    """At most so many windows, at equal distances, so that each text has its share.

    Args:
        inputs, target: what :func:`windows` gave.
        most: how many.

    >>> inputs, target = spread(*windows(["0123456789"], context=1), most=3)
    >>> (inputs - 2).tolist()
    [[0], [3], [6]]
    """
    chosen = torch.arange(min(most, len(inputs))) * len(inputs) // min(most, len(inputs))
    return inputs[chosen], target[chosen]


def encode(text: str) -> Tensor:
    """The numbers of a text's characters.

    >>> encode("\\n 0é").tolist()
    [0, 1, 2, 96]
    """
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    return torch.from_numpy(_CODES[np.minimum(points, len(_CODES) - 1)])


_CODES = np.full(129, len(VOCABULARY), dtype=np.int64)
_CODES[[ord(character) for character in VOCABULARY]] = np.arange(len(VOCABULARY))
