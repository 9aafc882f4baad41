"""Folders of pictures, one sub-folder for each class: decoded once, in parallel, into mapped bytes."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import BadTask, NotFound
from ..base import PARTS
from . import cache
from .data import Data, sliced, split
from .progress import shown

ENDINGS = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


def is_folder_of_images(path: Path) -> bool:
    """Whether a folder has pictures in sub-folders."""
    return any(f.suffix.lower() in ENDINGS for f in path.glob("*/*")) or _has_parts(path)


def images(path: Path, size: int, *, gray: bool) -> Data:
    """The pictures of ``path/CLASS/``, or of ``path/train/CLASS/`` and the other parts, as bytes [c, size, size].

    Args:
        path: the folder.
        size: height and width; a picture is cut to a square about its middle first.
        gray: one channel instead of three.
    """
    listed = _listed(path)
    classes = sorted({file.parent.name for files in listed.values() for file in files})
    channels = 1 if gray else 3

    def make(writer: cache.Writer) -> dict[str, Any]:
        targets = {
            part: np.array([classes.index(f.parent.name) for f in files]) for part, files in listed.items()
        }
        parts = split(targets)
        files = [listed[source][row] for source, rows in parts.values() for row in rows]
        X = writer.column("X", (len(files), channels, size, size), np.uint8)
        _decode(files, X, f"reading the pictures of {path.name}")
        y = writer.column("y", (len(files),), np.int64)
        y[:] = np.concatenate([targets[source][rows] for source, rows in parts.values()])
        sizes = {part: len(rows) for part, (_, rows) in parts.items()}
        return {"sizes": sizes, "classes": classes, "from": path.name}

    key = [
        "images",
        size,
        channels,
        {part: [cache.stamp(f) for f in files] for part, files in listed.items()},
    ]
    kept = cache.kept(path.name, key, make)
    return sliced(path.name, kept.columns, kept.facts)


def _has_parts(path: Path) -> bool:
    return (path / "train").is_dir() and any(f.suffix.lower() in ENDINGS for f in path.glob("train/*/*"))


def _listed(path: Path) -> dict[str, list[Path]]:
    """The files of each part, in order of their names."""
    folders = (
        {part: path / part for part in PARTS if (path / part).is_dir()}
        if _has_parts(path)
        else {"train": path}
    )
    listed = {
        part: sorted(f for f in folder.glob("*/*") if f.suffix.lower() in ENDINGS)
        for part, folder in folders.items()
    }
    for part, files in listed.items():
        classes = {f.parent.name for f in files}
        if len(classes) < (2 if part == "train" else 1):
            raise BadTask(
                f"{folders[part]} has pictures of {len(classes)} classes: put those of each class into a sub-folder, as "
                "in cats/1.jpg and dogs/1.jpg"
            )
        unknown = classes - {f.parent.name for f in listed["train"]}
        if unknown:
            raise BadTask(
                f"the {part} part of {path.name} has the class {min(unknown)!r}, which train does not have"
            )
    return listed


def _decode(files: Sequence[Path], X: np.ndarray[Any, Any], what: str) -> None:
    """Fill X with the pictures, several at a time: decoding lets other threads run."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise NotFound("pictures need Pillow to be read: pip install 'fallline[data]'") from error
    mode, done = "L" if X.shape[1] == 1 else "RGB", 0

    def decode(i: int) -> None:
        try:
            with Image.open(files[i]) as image:
                fitted = ImageOps.fit(image.convert(mode), X.shape[2:], Image.Resampling.BILINEAR)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise BadTask(
                f"{files[i]} cannot be read as a picture: {error}; mend it or take it away"
            ) from error
        X[i] = np.asarray(fitted).reshape(*X.shape[2:], X.shape[1]).transpose(2, 0, 1)

    with shown(what, lambda: f"{done} of {len(files)}", cache.folder()), ThreadPoolExecutor() as threads:
        for _ in threads.map(decode, range(len(files))):
            done += 1
