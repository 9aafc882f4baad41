"""Data in a file or folder, by what it is: a table, arrays, or pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ...errors import BadTask, BadValue, NotFound, nearest
from ..base import Task
from .arrays import arrays
from .data import Data
from .frames import table
from .images import images, is_folder_of_images
from .table import Options
from .texts import text

ENDINGS = (".csv", ".tsv", ".parquet", ".npz", ".txt")
FOR = {
    "table": {"target", "drop", "missing", "kind"},
    "array file": set[str](),
    "folder of pictures": {"size", "gray"},
    "text": {"context"},
}


def read(path: str | Path, **options: Any) -> Data:
    """Data in a local file or folder, split into parts, ready to train on.

    - ``.csv``, ``.tsv``, ``.parquet``: a table. Numbers are standardized by the training part's mean and deviation,
      texts become one column for each category. What is made of it is kept, mapped, so that it may be larger than
      memory.
    - ``.npz``, or a folder of ``.npy`` files: arrays X and y, or train_X, train_y, test_X, …. NPY files are mapped.
    - a folder with a sub-folder of pictures for each class, or with such folders in train, validation and test:
      bytes [channels, size, size].
    - ``.txt``: windows of its bytes, each to be followed by the next; mapped.

    Parts that do not come apart are split off as :meth:`Task.supervised` does.

    Args:
        path: the file or folder.
        **options: of a table, ``target`` (the name of its column), ``drop`` (names of columns to leave out),
            ``missing`` ("refuse" or "fill") and ``kind`` (of the target, "classes" or "numbers"); of pictures,
            ``size`` (32) and ``gray`` (False); of a text, ``context`` (64).

    Errors: ``NotFound`` for a file, column or package that is not there, ``BadTask`` for data that cannot be used.

    >>> from pathlib import Path
    >>> rows = "\\n".join(f"{i},{'even' if i % 2 == 0 else 'odd'}" for i in range(20))
    >>> _ = Path("numbers.csv").write_text("number,parity\\n" + rows)
    >>> read("numbers.csv", target="parity").facts["classes"]
    ['even', 'odd']
    """
    path = Path(path).expanduser()
    kind = _kind(path)
    for name in options:
        if name not in FOR[kind]:
            known = nearest(name, FOR[kind]) if FOR[kind] else "there are none"
            raise BadValue(
                f"{path.name} is read as a{'n' * (kind[0] == 'a')} {kind}, which has no option {name!r}; {known}"
            )
    if kind == "table":
        return table(path, _options(**options))
    if kind == "array file":
        return arrays(path)
    if kind == "text":
        return text(path, _count("context", options.get("context", 64), "bytes that a model sees at once"))
    size = _count("size", options.get("size", 32), "height and width of a picture")
    return images(path, size, gray=bool(options.get("gray", False)))


def from_file(
    path: str | Path, model: Callable[..., nn.Module] | None = None, *, loss: Any = None, score: Any = None, **options: Any
) -> Task:  # fmt: skip
    """The task of learning the target of a local file or folder; see :func:`read` for what is understood.

    Args:
        path: the file or folder.
        model: makes the model; left out, an MLP with 64 hidden units, a small CNN for pictures, or a small transformer
            for text.
        loss: left out, cross-entropy for classes, and the mean squared error for numbers.
        score: left out, accuracy for classes, r2 for numbers, and the loss for text.
        **options: of :func:`read`.

    >>> from pathlib import Path
    >>> rows = "\\n".join(f"{i},{i * i}.5" for i in range(50))
    >>> _ = Path("squares.csv").write_text("number,square\\n" + rows)
    >>> from_file("squares.csv", target="square")
    Task('squares', 30 + 10 + 10 examples, by r2)
    """
    return read(path, **options).task(model, loss, score=score)


def named(text: str) -> tuple[str, str] | None:
    """A path to data and the name of the target, from ``data.csv:target``, ``data.npz`` or a folder; else nothing."""
    for ending in ENDINGS:
        path, found, target = text.rpartition(f"{ending}:")
        if found:
            return path + ending, target
    is_data = text.lower().endswith(ENDINGS) or (text != "" and Path(text).is_dir())
    return (text, "") if is_data else None


def _count(name: str, value: Any, meaning: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadValue(f"{name} is the {meaning}, a whole number of at least 1; got {value!r}")
    return value


def _options(target: str = "", drop: Sequence[str] = (), missing: str = "refuse", kind: str = "") -> Options:
    return Options(target or "", (drop,) if isinstance(drop, str) else tuple(drop), missing, kind or "")


def _kind(path: Path) -> str:
    if not path.exists():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = nearest(path.name, beside) if beside else f"there is nothing in {path.parent}"
        raise NotFound(f"there is no file or folder {path}; {hint}")
    if path.is_dir():
        if any(path.glob("*.npy")):
            return "array file"
        if is_folder_of_images(path):
            return "folder of pictures"
        raise BadTask(
            f"the folder {path} holds neither NPY files (X.npy and y.npy) nor sub-folders with pictures, one for each class"
        )
    if path.suffix.lower() not in ENDINGS:
        raise BadTask(
            f"{path.name} is not a kind of data that is read here; known: {', '.join(ENDINGS)}, and folders"
        )
    return {".npz": "array file", ".txt": "text"}.get(path.suffix.lower(), "table")
