"""Tables in files, a chunk of rows at a time: CSV and Parquet."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import BadTask, NotFound
from . import cache
from .data import Data, sliced
from .table import Frame, Options, build

CHUNK = 8192
"""Rows of a table in memory at a time."""


def table(path: Path, options: Options) -> Data:
    """A CSV or Parquet file as numbers, kept for the next time."""
    frame = parquet(path) if path.suffix == ".parquet" else text(path)
    key = ["table", *cache.stamp(path), asdict(options)]
    kept = cache.kept(path.stem, key, lambda writer: build(writer, frame, options))
    return sliced(path.stem, kept.columns, kept.facts)


# --- tables ---------------------------------------------------------------------------------------------------


def text(path: Path) -> Frame:
    """The chunks of a CSV file, whose first line names the columns; commas, semicolons, tabs or bars separate."""

    def chunks() -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            rows = csv.reader(file, delimiter=max(",;\t|", key=first.count), strict=True)
            names = _header(path, next(rows, []))
            held: list[list[str]] = []
            for row in rows:
                if not row:
                    continue  # a blank line
                if len(row) != len(names):
                    raise BadTask(
                        f"line {rows.line_num} of {path.name} has {len(row)} values for {len(names)} columns: quote "
                        "texts that hold the separator"
                    )
                held.append(row)
                if len(held) == CHUNK:
                    yield _columns(names, held)
                    held = []
            yield _columns(names, held)

    def readable() -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        try:
            yield from chunks()
        except (UnicodeDecodeError, csv.Error) as error:
            raise BadTask(f"{path.name} cannot be read as a CSV file in UTF-8: {error}") from error

    return readable


def _header(path: Path, names: list[str]) -> list[str]:
    names = [name.strip() for name in names]
    if not names:
        raise BadTask(f"{path.name} is empty: the first line must name the columns")
    if len(set(names)) < len(names) or "" in names:
        raise BadTask(
            f"the columns of {path.name} must have different names, got {', '.join(names)!r} in its first line"
        )
    if all(re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", name, re.IGNORECASE) for name in names):
        raise BadTask(
            f"the first line of {path.name} must name the columns, but it holds numbers: write a line above it"
        )
    return names


def _columns(names: list[str], rows: list[list[str]]) -> dict[str, np.ndarray[Any, Any]]:
    whole = np.array(rows, dtype=object).reshape(-1, len(names))
    return {name: whole[:, i] for i, name in enumerate(names)}


def parquet(path: Path) -> Frame:
    """The chunks of a Parquet file, which is never read whole."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as reader
    except ImportError as error:
        raise NotFound(f"{path.name} needs pyarrow to be read: pip install 'fallline[data]'") from error

    def values(name: str, column: Any) -> np.ndarray[Any, Any]:
        if arrow.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        kind = column.type
        if arrow.types.is_integer(kind) or arrow.types.is_floating(kind) or arrow.types.is_decimal(kind):
            return column.cast(arrow.float64(), safe=False).to_numpy(zero_copy_only=False)
        if arrow.types.is_boolean(kind) or arrow.types.is_string(kind) or arrow.types.is_large_string(kind):
            return column.cast(arrow.string()).to_numpy(zero_copy_only=False).astype(object)
        raise BadTask(
            f"column {name!r} of {path.name} is of the type {kind}, and neither numbers nor texts: pass drop=[{name!r}] "
            "after making numbers of what you need"
        )

    def chunks() -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        with reader.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=CHUNK):
                yield {name: values(name, batch.column(i)) for i, name in enumerate(batch.schema.names)}

    def readable() -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        try:
            yield from chunks()
        except (arrow.ArrowException, OSError) as error:
            raise BadTask(
                f"{path.name} cannot be read as a Parquet file: {str(error).splitlines()[0]}"
            ) from error

    return readable
