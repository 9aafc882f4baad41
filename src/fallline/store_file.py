"""The file behind a store: its tables, its seals, its one writer, and the sentences for a file that is not right.

Every row carries a *seal*, a checksum over its cells, so that damage is told and never read as a measurement.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import BadStore, NotFound

APPLICATION = 0x66616C6C  # SQLite's application_id: "fall"
FORMAT = 1

_MAGIC = b"SQLite format 3\x00"
_SCHEMA = """
CREATE TABLE documents (name TEXT PRIMARY KEY, text TEXT NOT NULL, seal INTEGER NOT NULL);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, arm TEXT, task TEXT, stage TEXT, replicate INTEGER, run TEXT NOT NULL,
    status TEXT NOT NULL, step INTEGER NOT NULL, sentence TEXT NOT NULL, seconds REAL, numbers TEXT NOT NULL,
    arrays INTEGER NOT NULL, seal INTEGER NOT NULL);
CREATE INDEX runs_by_arm ON runs (arm, stage);
CREATE TABLE grids (id INTEGER PRIMARY KEY, length INTEGER NOT NULL, steps BLOB NOT NULL, seal INTEGER NOT NULL);
CREATE TABLE arrays (
    run INTEGER NOT NULL, family TEXT NOT NULL, name TEXT NOT NULL, dtype TEXT NOT NULL, length INTEGER NOT NULL,
    grid INTEGER, data BLOB NOT NULL, seal INTEGER NOT NULL, PRIMARY KEY (run, family, name));
"""


def refuse(wrong: bool, sentence: str) -> None:
    """Raise the sentence where something is wrong."""
    if wrong:
        raise BadStore(sentence)


def seal(cells: Sequence[Any]) -> int:
    """The checksum of a row."""
    total = 0
    for cell in cells:
        total = zlib.crc32(cell if isinstance(cell, bytes) else f"{cell!r};".encode(), total)
    return total


@contextmanager
def teaching(path: Path) -> Iterator[None]:
    """Turn what SQLite says into a sentence."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError, MemoryError) as cause:
        said = str(cause)
        if "locked" in said:
            raise BadStore(f"{path} is held by another process: try again once that one is done") from None
        if "full" in said or "readonly" in said:
            raise BadStore(
                f"{path} cannot be written ({said}): check its disk and who may write there"
            ) from None
        raise BadStore(
            f"{path} cannot be read as a fallline store ({said or 'out of memory'}): it is damaged or cut off; "
            "restore it from a copy, or run the study again"
        ) from None


# --- reading ------------------------------------------------------------------------------------------------


def open_readable(path: Path) -> sqlite3.Connection:
    """A connection that reads, once the file is known to be a store of a format we know."""
    _check_header(path)
    with teaching(path):
        db = _reader(path)
        try:
            db.execute("PRAGMA cell_size_check = ON")
            _check_format(path, db)
            found = (
                db.execute("PRAGMA quick_check(1)").fetchone()[0].splitlines()[-1]
            )  # a millisecond for a few thousand runs
            refuse(
                found != "ok", f"{path} is damaged ({found}): restore it from a copy, or run the study again"
            )
        except BaseException:
            db.close()
            raise
    return db


def _reader(path: Path) -> sqlite3.Connection:
    """A connection that reads; what a writer that was killed left half written is taken back first."""
    try:
        return _connected(path, "ro")
    except sqlite3.OperationalError as cause:
        if "readonly" not in str(cause):
            raise
    _connected(path, "rw").close()  # SQLite takes it back for one that may write, and for no other
    return _connected(path, "ro")


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, check_same_thread=False)
    try:
        db.execute("PRAGMA trusted_schema = OFF")  # a file from elsewhere runs nothing
        db.execute("SELECT count(*) FROM sqlite_master")
    except BaseException:
        db.close()
        raise
    return db


def _check_header(path: Path) -> None:
    try:
        refuse(
            path.is_dir(),
            f"{path} is a folder, not a store: give the file that a study wrote, such as study.db",
        )
        with open(path, "rb") as file:
            start = file.read(100)
    except FileNotFoundError:
        raise NotFound(
            f"there is no store at {path}: give the file that a study wrote, such as study.db"
        ) from None
    except BadStore:
        raise
    except OSError as cause:
        raise BadStore(f"{path} cannot be read ({cause.strerror}): check who may read it") from None
    refuse(not start, f"{path} is empty (0 bytes), expected a store: run the study again")
    refuse(
        not start.startswith(_MAGIC[: len(start)]),
        f"{path} is not a store: it begins with {start[:16]!r}, expected {_MAGIC!r}; give the file that a study wrote",
    )
    refuse(
        len(start) < 100,
        f"{path} is cut off after {len(start)} bytes: restore it from a copy, or run the study again",
    )


def _check_format(path: Path, db: sqlite3.Connection) -> None:
    application = db.execute("PRAGMA application_id").fetchone()[0]
    version = db.execute("PRAGMA user_version").fetchone()[0]
    refuse(
        application != APPLICATION,
        f"{path} is a database, but not a fallline store (application id {application:#x}, expected "
        f"{APPLICATION:#x}): give the file that a study wrote",
    )
    refuse(
        version > FORMAT,
        f"{path} has store format {version}, this fallline reads up to {FORMAT}: update fallline to read it",
    )
    refuse(
        version < 1,
        f"{path} has store format {version}, expected {FORMAT}: it is damaged; restore it from a copy",
    )


# --- writing ------------------------------------------------------------------------------------------------


def take_lock(path: Path) -> sqlite3.Connection:
    """Become the one writer of a store.

    The lock is an exclusive transaction on an empty file beside the store: it needs no platform's own calls, and
    it ends with the process that holds it, however that ends.
    """
    lock = None
    try:
        lock = sqlite3.connect(_lock_path(path), timeout=0, isolation_level=None, check_same_thread=False)
        lock.execute("BEGIN EXCLUSIVE")
        return lock
    except sqlite3.Error as cause:
        if lock is not None:
            lock.close()
        if "locked" in str(cause):
            raise BadStore(
                f"another process is writing {path}, and a store has one writer: wait until it ends, or read it with "
                "Store.open"
            ) from None
        raise BadStore(
            f"the lock {_lock_path(path)} cannot be taken ({cause}): check who may write in {path.parent}"
        ) from None


def release_lock(path: Path, lock: sqlite3.Connection) -> None:
    """Let another process write."""
    with suppress(OSError):  # Windows removes no open file: there the empty lock stays, and does no harm
        _lock_path(path).unlink()
    lock.close()


def create(path: Path, documents: Mapping[str, str]) -> None:
    """Write the tables and the first documents beside, then rename: the store is there whole or not at all."""
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)  # left by a process that was killed; the lock is ours
    db = sqlite3.connect(beside, isolation_level=None)
    try:
        db.executescript(
            f"BEGIN; {_SCHEMA}; PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT};"
        )
        for cells in documents.items():
            db.execute("INSERT INTO documents VALUES (?, ?, ?)", (*cells, seal(cells)))
        db.execute("COMMIT")
        db.close()
        os.replace(beside, path)
    except BaseException:
        db.close()
        for name in (beside, beside.with_name(f"{beside.name}-journal")):
            name.unlink(missing_ok=True)
        raise


def open_writable(path: Path) -> sqlite3.Connection:
    """A connection that writes ahead, so that others can read meanwhile."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        db.close()
        raise
    return db


def close_writable(db: sqlite3.Connection) -> None:
    """Bring the log into the one file. Where a reader holds it back it stays beside, and is read with the file."""
    with suppress(sqlite3.Error):
        db.execute("PRAGMA busy_timeout = 200")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("PRAGMA journal_mode = DELETE")
    db.close()


def _lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")
