"""The store: one SQLite file for each study, written by one process, safe to read by others while it grows.

    with Store.create("study.db", study, provenance) as store:
        store.add(records)  # one transaction: all of them or none
        store.finish(result)
    with Store.open("study.db") as store:
        finals = list(store.records(arm="adam", stage="final"))

While it grows, the file is in SQLite's write-ahead mode (``study.db-wal`` lies beside it); once closed, all is in
the one file. A writer that is killed loses at most the transaction it was in. :mod:`fallline.store_file` has the
file's format, its seals and its lock.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import store_file as file
from .errors import BadStore, BadValue
from .records import Outcome, Record, Series, json_text
from .specs import Run, Study, plain, rebuild


class Store:
    """A study's file. Begin one with :meth:`create`, read it with :meth:`open`, go on with :meth:`resume`."""

    def __init__(self, path: Path, db: sqlite3.Connection, lock: sqlite3.Connection | None = None) -> None:
        self.path = path
        self._db = db
        self._lock = lock  # held by the one writer; None in a reader
        self._grid_ids: dict[bytes, int] = {}
        self._grids: dict[int, NDArray[np.int64]] = {}

    # --- opening and closing ------------------------------------------------------------------------------

    @classmethod
    def create(cls, path: str | os.PathLike[str], study: Study, provenance: Mapping[str, Any]) -> Store:
        """Begin a store for a study; a create that fails leaves nothing behind."""
        path = Path(path)
        documents = {"study": json_text(study.plain()), "provenance": json_text(dict(provenance))}
        file.refuse(
            not path.parent.is_dir(),
            f"the folder {path.parent} for {path.name} does not exist: make it first",
        )
        lock = file.take_lock(path)
        created = False
        try:
            file.refuse(
                path.exists(), f"{path} exists already: choose another name, or go on with Store.resume"
            )
            file.create(path, documents)
            created = True
            return cls(path, file.open_writable(path), lock)
        except BaseException as cause:
            if created:
                path.unlink(missing_ok=True)
            file.release_lock(path, lock)
            if isinstance(cause, (sqlite3.Error, OSError)) and not isinstance(cause, BadStore):
                raise BadStore(
                    f"{path} cannot be written ({cause}): check its disk and who may write there"
                ) from None
            raise

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Store:
        """Open a store to read it, also while another process still writes it."""
        return cls(Path(path), file.open_readable(Path(path)))

    @classmethod
    def resume(cls, path: str | os.PathLike[str]) -> Store:
        """Open a store to go on writing it; it has one writer at a time."""
        path = Path(path)
        file.open_readable(path).close()  # says what is wrong with the file before anything is written
        lock = file.take_lock(path)
        try:
            with file.teaching(path):
                return cls(path, file.open_writable(path), lock)
        except BaseException:
            file.release_lock(path, lock)
            raise

    def close(self) -> None:
        """Bring everything into the one file and let it go."""
        if self._lock is None:
            self._db.close()
        else:
            file.close_writable(self._db)
            file.release_lock(self.path, self._lock)
            self._lock = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"Store({str(self.path)!r}: {self.count()} runs, {'finished' if self.finished else 'unfinished'})"
        )

    # --- writing ------------------------------------------------------------------------------------------

    def add(self, records: Iterable[Record]) -> None:
        """Add records in one transaction: all of them or, where one cannot be stored, none."""
        rows = [(_run_cells(record), list(_array_cells(record))) for record in records]
        with self._writing() as db:
            first = self._next_id("runs")
            for run_id, (cells, arrays) in enumerate(rows, first):
                _insert(db, "runs", (run_id, *cells, len(arrays)))
                for family, name, steps, dtype, length, data in arrays:
                    grid = None if steps is None else self._grid_id(db, steps)
                    _insert(db, "arrays", (run_id, family, name, dtype, length, grid, data))

    def note(self, additions: Mapping[str, Any]) -> None:
        """Add to the provenance."""
        self._write_document("provenance", {**self.provenance, **additions})

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result document: the study is finished."""
        self._write_document("result", result)

    def _write_document(self, name: str, value: Mapping[str, Any]) -> None:
        text = json_text(value)
        with self._writing() as db:
            _insert(db, "documents", (name, text))

    def _grid_id(self, db: sqlite3.Connection, steps: bytes) -> int:
        """Most series are measured at the same steps, so those are stored once."""
        if steps not in self._grid_ids:
            self._grid_ids[steps] = self._next_id("grids")
            _insert(db, "grids", (self._grid_ids[steps], len(steps) // 8, steps))
        return self._grid_ids[steps]

    def _next_id(self, table: str) -> int:
        return int(self._rows(f"SELECT coalesce(max(id), 0) + 1 FROM {table}")[0][0])

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        file.refuse(
            self._lock is None, f"{self.path} is open for reading: write through Store.create or Store.resume"
        )
        with file.teaching(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._grid_ids.clear()
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    # --- reading ------------------------------------------------------------------------------------------

    @property
    def study(self) -> Study:
        """The question, as it was asked."""
        data = self._document("study")
        if data is None:
            raise BadStore(f"{self.path} is damaged: its study is missing; restore it from a copy")
        arms = tuple(_rebuilt(arm) for arm in data["arms"])
        return Study(data["kind"], tuple(data["tasks"]), arms, _rebuilt(data["protocol"]))

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the numbers come from: versions, hardware, seeds, command, plan, code."""
        return self._document("provenance") or {}

    @property
    def result(self) -> dict[str, Any] | None:
        """The result document, or None while the study is unfinished."""
        return self._document("result")

    @property
    def finished(self) -> bool:
        """Whether the result was written."""
        return bool(self._rows("SELECT count(*) FROM documents WHERE name = 'result'")[0][0])

    def count(self, arm: str | None = None, stage: str | None = None) -> int:
        """The number of runs that the store holds, of one arm or stage where asked."""
        where, given = _where(arm, stage)
        return int(self._rows(f"SELECT count(*) FROM runs{where}", given)[0][0])

    def records(
        self, arm: str | None = None, stage: str | None = None, *, series: bool = True, examples: bool = True
    ) -> Iterator[Record]:
        """The runs in the order in which they were added, those of one arm or stage where asked.

        Per-example outcomes come back as float32. Without ``series`` or ``examples`` those stay empty, and reading
        is faster.
        """
        where, given = _where(arm, stage)
        families = [family for family, wanted in (("series", series), ("examples", examples)) if wanted]
        for row in self._rows(f"SELECT id FROM runs{where} ORDER BY id", given):
            yield self._record(row[0], families)

    def _record(self, run_id: int, families: Sequence[str]) -> Record:
        cells = self._one("runs", run_id)
        run, status, step, sentence, seconds, numbers, arrays = cells[5:]
        found = {family: dict(self._arrays(run_id, family)) for family in families}
        lost = len(families) == 2 and sum(map(len, found.values())) != arrays
        file.refuse(
            lost, f"{self.path} is damaged: run {run_id} lost some of its arrays; restore it from a copy"
        )
        outcome = Outcome(
            status, step, sentence, math.nan if seconds is None else seconds, _floats(json.loads(numbers))
        )
        return Record(_run(json.loads(run)), outcome, found.get("series", {}), found.get("examples", {}))

    def _arrays(self, run_id: int, family: str) -> Iterator[tuple[str, Any]]:
        query = "SELECT * FROM arrays WHERE run = ? AND family = ? ORDER BY rowid"
        for row in self._rows(query, (run_id, family)):
            _, _, name, dtype, _, grid, data = self._unsealed(row, f"run {run_id}")
            values = np.frombuffer(data, dtype)
            yield name, values.astype(np.float32) if grid is None else Series(self._grid(grid), values)

    def _grid(self, grid: int) -> NDArray[np.int64]:
        if grid not in self._grids:
            self._grids[grid] = np.frombuffer(self._one("grids", grid)[2], "<i8")
        return self._grids[grid]

    def _document(self, name: str) -> dict[str, Any] | None:
        rows = self._rows("SELECT * FROM documents WHERE name = ?", (name,))
        return dict(json.loads(self._unsealed(rows[0], f"its {name}")[1])) if rows else None

    def _one(self, table: str, row_id: int) -> tuple[Any, ...]:
        rows = self._rows(f"SELECT * FROM {table} WHERE id = ?", (row_id,))
        what = f"row {row_id} of its {table}"
        file.refuse(not rows, f"{self.path} is damaged: {what} is missing; restore it from a copy")
        return self._unsealed(rows[0], what)

    def _unsealed(self, row: tuple[Any, ...], what: str) -> tuple[Any, ...]:
        *cells, seal = row
        file.refuse(
            seal != file.seal(cells),
            f"{self.path} is damaged: {what} is not as it was written (its checksum differs); restore it from a "
            "copy, or run the study again",
        )
        return tuple(cells)

    def _rows(self, query: str, given: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with file.teaching(self.path):
            return self._db.execute(query, given).fetchall()


# --- rows -------------------------------------------------------------------------------------------------


def _insert(db: sqlite3.Connection, table: str, cells: tuple[Any, ...]) -> None:
    marks = ", ".join("?" * (len(cells) + 1))
    db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", (*cells, file.seal(cells)))


def _where(arm: str | None, stage: str | None) -> tuple[str, list[str]]:
    asked = {name: value for name, value in (("arm", arm), ("stage", stage)) if value is not None}
    return (" WHERE " + " AND ".join(f"{name} = ?" for name in asked) if asked else ""), list(asked.values())


def _run_cells(record: Record) -> tuple[Any, ...]:
    """One row of the table ``runs``, but for its id, the number of its arrays and its seal."""
    tags, outcome = record.run.tags, record.outcome
    arm, task, stage = (
        None if tags.get(name) is None else str(tags[name]) for name in ("arm", "task", "stage")
    )
    replicate = int(tags["replicate"]) if isinstance(tags.get("replicate"), int) else None
    run = json_text(plain(record.run.plain()))
    numbers = json_text(plain({name: float(value) for name, value in outcome.numbers.items()}))
    seconds = None if math.isnan(outcome.seconds) else float(outcome.seconds)
    ended = (str(outcome.status), int(outcome.step), str(outcome.sentence), seconds)
    return arm, task, stage, replicate, run, *ended, numbers


def _array_cells(record: Record) -> Iterator[tuple[Any, ...]]:
    """(family, name, steps or None, dtype, length, data) for each array of a record."""
    for name, series in record.series.items():
        values = series.values.astype(_little(series.values.dtype))
        steps = series.steps.astype("<i8").tobytes()
        yield "series", name, steps, values.dtype.str, len(values), values.tobytes()
    for name, outcomes in record.examples.items():
        values = _compact(name, outcomes)
        yield "examples", name, None, values.dtype.str, len(values), values.tobytes()


def _little(dtype: np.dtype[Any]) -> str:
    return f"<f{min(dtype.itemsize, 8)}"  # a long double is not the same on every machine


def _compact(name: str, outcomes: NDArray[Any]) -> NDArray[Any]:
    """Outcomes that are all 0 or 1, such as right and wrong answers, in a byte each; others as float32."""
    with np.errstate(over="ignore"):
        values = np.asarray(outcomes).astype("<f4")
    if values.ndim != 1:
        raise BadValue(
            f"{name} needs one number for each test example, got an array of shape {list(values.shape)}"
        )
    binary = np.isin(values, (0, 1)).all() and not np.signbit(values).any()
    return values.astype("|u1") if binary else values


def _floats(numbers: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in numbers.items()}  # float("inf") undoes specs.plain


def _rebuilt(data: Mapping[str, Any]) -> dict[str, Any]:
    """Item by item: an arm may have a part that is called "rule", which does not make the arm a rule."""
    return {name: rebuild(value) for name, value in data.items()}


def _run(data: Mapping[str, Any]) -> Run:
    return Run.rebuild({**data, "loss": _floats(data["loss"])})
