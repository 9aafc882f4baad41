"""Data sets of OpenML, through scikit-learn: fetched once, checked by their checksum, kept as mapped columns."""

from __future__ import annotations

import gzip
import json
import os
import socket
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import numpy as np

from ...errors import BadStore, NotFound
from . import cache
from .data import Data, ordered, sliced
from .progress import megabytes, shown
from .table import Frame, Options, build

RETRIES, DELAY, TIMEOUT = 3, 1.0, 30.0
"""How often scikit-learn tries again, how long it waits before, and how long a silent server is waited for, in s."""


def fetch(name: str, version: int) -> Any:
    """A data set as scikit-learn's ``fetch_openml`` gives it: arrays, categories as numbers, classes as text.

    The files are thrown away once they are read: what is made of them is what is kept.

    Args:
        name: what OpenML calls it.
        version: OpenML's number of its version.

    Errors: ``NotFound`` where OpenML has no such data set, ``BadStore`` where it cannot be fetched whole.
    """
    from sklearn.datasets import fetch_openml

    with cache.beside(cache.folder() / name) as files:
        meter = shown(f"fetching {name} from OpenML", lambda: megabytes(_size(files)), cache.folder())
        with meter, _patience(TIMEOUT), _teaching(name, version):
            return fetch_openml(
                name, version=version, data_home=str(files), as_frame=False, parser="liac-arff", n_retries=RETRIES,
                delay=DELAY,
            )  # fmt: skip


def pictures(
    name: str, version: int, shape: tuple[int, int, int], classes: tuple[str, ...], last_test: float = 0.0
) -> Data:
    """A data set whose rows are the bytes of pictures.

    Args:
        name: what OpenML calls it.
        version: OpenML's number of its version.
        shape: channels, height and width of a picture.
        classes: the names of the classes 0, 1, ….
        last_test: the share of the rows, at the end, that are the test part by custom; 0 for a split of ours.
    """

    def make(writer: cache.Writer) -> dict[str, Any]:
        found = fetch(name, version)
        target = np.asarray(found.target).astype(np.int64)
        cut = len(target) - round(last_test * len(target))
        given = {"train": (found.data[:cut], target[:cut])}
        if last_test:
            given["test"] = (found.data[cut:], target[cut:])
        return {
            "sizes": ordered(writer, given, shape, np.uint8), "classes": list(classes),
            "from": f"OpenML {name}, version {version}", "url": found.url, "md5": found.details["md5_checksum"],
        }  # fmt: skip

    kept = cache.kept(name, ["openml pictures", name, version, shape, classes, last_test], make)
    return sliced(name, kept.columns, kept.facts)


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Wait for a silent server so long, and not for ever, as scikit-learn would."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _teaching(name: str, version: int) -> Iterator[None]:
    """Turn what goes wrong on the way into one sentence."""
    what = f"{name} (version {version})"
    again = "nothing was kept: try again, or pass data of your own"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="sklearn")  # each retry warns; the end is told below
            yield
    except HTTPError as error:
        status = error.code
        error.close()
        if status in (404, 412):
            raise NotFound(f"OpenML has no data set {what}: it answered with status {status}") from error
        raise BadStore(
            f"OpenML could not give {what}: it answered with status {status}; {again} later"
        ) from error
    except (URLError, ConnectionError, TimeoutError, socket.gaierror) as error:
        reason = getattr(error, "reason", None) or error
        raise BadStore(
            f"OpenML cannot be reached for {what}: {str(reason) or type(error).__name__}; data are fetched once, which "
            f"needs a network: {again}"
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error, HTTPException, json.JSONDecodeError) as error:
        raise BadStore(f"what came of {what} from OpenML was cut short or is damaged; {again}") from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever scikit-learn's reader makes of what came
        if "not found" in str(error):
            raise NotFound(f"OpenML has no data set {what}: look for its name at openml.org") from error
        if "md5" in str(error):
            raise BadStore(
                f"what came of {what} does not match OpenML's checksum: it was cut short or changed on its way; {again}"
            ) from error
        raise BadStore(f"what came of {what} from OpenML cannot be read: {error}; {again}") from error


def _size(folder: Path) -> int:
    """The bytes of all files below a folder, which may change meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.path.getsize(os.path.join(place, name))
    return total


def table(name: str, version: int) -> Data:
    """A data set of numbers and categories; what is missing is filled."""

    def make(writer: cache.Writer) -> dict[str, Any]:
        found = fetch(name, version)
        facts = build(writer, _frame(found), Options(target="target", missing="fill"))
        source = {"from": f"OpenML {name}, version {version}", "url": found.url}
        return {**facts, **source, "md5": found.details["md5_checksum"]}

    kept = cache.kept(name, ["openml table", name, version], make)
    return sliced(name, kept.columns, kept.facts)


def _frame(found: Any) -> Frame:
    """The columns of a fetched table, categories as text again; the target is called "target"."""

    def chunks() -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        columns: dict[str, np.ndarray[Any, Any]] = {}
        for i, name in enumerate(found.feature_names):
            values = found.data[:, i].astype(np.float64)
            known = found.categories.get(name)
            if known is None:
                columns[name] = values
                continue
            missing = np.isnan(values)
            texts = np.array(known, dtype=object)[np.where(missing, 0, values).astype(int)]
            texts[missing] = None
            columns[name] = texts
        yield {**columns, "target": np.asarray(found.target, dtype=object)}

    return chunks
