"""The store: round trips bit for bit, readers beside a writer, killed writers, and damaged files."""

import shutil
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from fallline.errors import BadStore, BadValue, NotFound
from fallline.records import Outcome, Record, Series
from fallline.specs import Axis, Loss, Rule, Run, Schedule, Study
from fallline.store import Store
from fallline.store_file import APPLICATION, FORMAT

STUDY = Study(
    "compare", ("digits",), ({"arm": "adam", "rule": Rule("adam", {"lr": Axis((0.1, 1.0))})},), {"steps": 60}
)
PROVENANCE = {"command": ["fallline", "compare", "digits"], "seconds": float("nan")}


def record(i: int = 0, arm: str = "adam", stage: str = "final") -> Record:
    rng = np.random.default_rng(i)
    steps = np.arange(0, 60, 5)
    rule = Rule("adam", {"lr": Schedule("cosine", {"start": 0.1}), "eps": 1e-8}, {"mode": "plain"})
    tags = {"arm": arm, "task": "digits", "replicate": i, "stage": stage, "settings": {"lr": 0.1}}
    losses = rng.normal(size=12)
    losses[-1] = [np.nan, np.inf, 0.5][i % 3]
    return Record(
        Run(Rule("chain", children=(rule,)), seed=i, loss={"1.weight": 0.3}, tags=tags),
        Outcome("finished", 60, "", 0.25 + i, {"validation_loss": float(losses[0]), "test_score": 0.9}),
        {
            "train_loss": Series(steps, losses),
            "validation_loss": Series(steps[:4] + i, losses[:4].astype(np.float32)),
            "empty": Series(steps[:0], losses[:0].astype(np.float16)),
        },
        {
            "test_loss": rng.normal(size=9).astype(np.float32),
            "test_score": rng.integers(0, 2, 9).astype(np.float32),
        },
    )


def assert_same(got: Record, want: Record) -> None:
    assert got.run == want.run
    assert got.run.plain() == want.run.plain()
    assert got.outcome == want.outcome
    assert list(got.series) == list(want.series)
    assert all(got.series[name] == want.series[name] for name in want.series)
    assert list(got.examples) == list(want.examples)
    for name, outcomes in want.examples.items():
        assert got.examples[name].dtype == np.float32
        assert got.examples[name].tobytes() == outcomes.tobytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.db"


def write(path: Path, runs: int = 3) -> Path:
    with Store.create(path, STUDY, PROVENANCE) as store:
        store.add(record(i) for i in range(runs))
        store.finish({"verdict": "a tie"})
    return path


# --- round trips ------------------------------------------------------------------------------------------


def test_records_come_back_bit_for_bit(path: Path):
    with Store.open(write(path)) as store:
        got = list(store.records())
    assert len(got) == 3
    for i, one in enumerate(got):
        assert_same(one, record(i))


def test_one_file_remains(path: Path):
    write(path)
    assert [p.name for p in path.parent.iterdir()] == ["study.db"]


def test_study_provenance_and_result_come_back(path: Path):
    with Store.open(write(path)) as store:
        assert store.study == STUDY
        assert store.provenance == {"command": ["fallline", "compare", "digits"], "seconds": None}
        assert store.result == {"verdict": "a tie"}
        assert repr(store) == f"Store({str(path)!r}: 3 runs, finished)"


def test_infinite_numbers_and_settings_survive(path: Path):
    run = Run(Rule("clip_norm", {"max_norm": float("inf")}), loss={"weight": float("inf")})
    outcome = Outcome(
        "diverged", 7, "left the finite numbers", float("nan"), {"validation_loss": float("-inf")}
    )
    with Store.create(path, STUDY, {}) as store:
        store.add([Record(run, outcome)])
    with Store.open(path) as store:
        got = next(store.records())
    assert got.run == run
    assert got.outcome.numbers == {"validation_loss": float("-inf")}
    assert np.isnan(got.outcome.seconds)


def test_custom_kinds_are_read_without_being_imported(path: Path):
    run = Run(Rule("no_such_module:rule", {"lr": 0.1}))
    with Store.create(path, STUDY, {}) as store:
        store.add([Record(run, Outcome("finished", 1))])
    with Store.open(path) as store:
        assert next(store.records()).run == run


def test_losses_in_the_study_come_back(path: Path):
    study = Study("compare", ("a", "b"), ({"arm": "x", "loss": Loss("mse")},), {"rates": (0.1, 1.0)})
    with Store.create(path, study, {}) as store:
        assert store.study == study


def test_right_and_wrong_answers_take_a_byte_each(path: Path):
    write(path)
    db = sqlite3.connect(path)
    kinds = dict(db.execute("SELECT name, dtype FROM arrays WHERE family = 'examples'"))
    db.close()
    assert kinds == {"test_loss": "<f4", "test_score": "|u1"}


def test_equal_steps_are_stored_once(path: Path):
    with Store.create(path, STUDY, {}) as store:
        store.add([record(0)])
        store.add([record(0), record(0)])
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*) FROM grids").fetchone() == (3,)
    db.close()


def test_weights_are_not_stored(path: Path):
    one = Record(Run(Rule("sgd")), Outcome("finished", 1), weights={"w": np.zeros(3)})
    with Store.create(path, STUDY, {}) as store:
        store.add([one])
        assert next(store.records()).weights == {}


def test_records_are_found_by_arm_and_stage(path: Path):
    with Store.create(path, STUDY, {}) as store:
        store.add([record(0, "adam", "tune"), record(1, "adam"), record(2, "sgd")])
        assert [r.run.seed for r in store.records(arm="adam")] == [0, 1]
        assert [r.run.seed for r in store.records(stage="final")] == [1, 2]
        assert [r.run.seed for r in store.records("adam", "final")] == [1]
        assert (store.count(), store.count("sgd"), store.count("sgd", "tune")) == (3, 1, 0)


def test_arrays_can_be_left_out(path: Path):
    with Store.open(write(path)) as store:
        bare = next(store.records(series=False, examples=False))
        assert (bare.series, bare.examples) == ({}, {})
        assert next(store.records(series=False)).examples
        assert next(store.records(examples=False)).series


def test_notes_add_to_the_provenance(path: Path):
    with Store.create(path, STUDY, {"a": 1, "b": 2}) as store:
        store.note({"b": 3, "c": 4})
        assert store.provenance == {"a": 1, "b": 3, "c": 4}


# --- writing what cannot be stored ------------------------------------------------------------------------


def test_a_record_that_cannot_be_stored_takes_the_others_with_it(path: Path):
    bad = Record(Run(Rule("sgd")), Outcome("finished", 1), examples={"test_loss": np.zeros((2, 2))})
    with Store.create(path, STUDY, {}) as store:
        with pytest.raises(
            BadValue, match=r"test_loss needs one number for each test example, got .* shape \[2, 2\]"
        ):
            store.add([record(0), bad])
        assert store.count() == 0
        store.add([record(1)])
        assert store.count() == 1


def test_a_transaction_that_fails_halfway_leaves_no_part(path: Path, monkeypatch: pytest.MonkeyPatch):
    with Store.create(path, STUDY, {}) as store:
        with monkeypatch.context() as patch:
            patch.setattr(
                "fallline.store_file.seal", lambda cells: zlib.crc32(b"") if len(cells) > 3 else 1 / 0
            )
            with pytest.raises(ZeroDivisionError):
                store.add([record(0)])
        assert store.count() == 0
        store.add([record(0)])
        assert_same(next(store.records()), record(0))


def test_create_leaves_nothing_behind_where_it_fails(path: Path):
    with pytest.raises(BadValue, match="is not plain data"):
        Store.create(path, STUDY, {"model": object()})
    assert list(path.parent.iterdir()) == []


def test_create_cleans_up_where_the_disk_fails(path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("fallline.store_file.open_writable", fail)
    with pytest.raises(
        BadStore, match=r"study.db cannot be written \(database or disk is full\): check its disk"
    ):
        Store.create(path, STUDY, {})
    assert list(path.parent.iterdir()) == []


def test_create_cleans_up_what_lies_beside(path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(
        BadStore, match=r"study.db cannot be written \(.*No space left on device\): check its disk"
    ):
        Store.create(path, STUDY, {})
    assert list(path.parent.iterdir()) == []


def test_create_writes_over_nothing(path: Path):
    before = write(path).read_bytes()
    with pytest.raises(BadStore, match=r"exists already: choose another name, or go on with Store.resume"):
        Store.create(path, STUDY, {})
    assert path.read_bytes() == before


def test_create_needs_its_folder(tmp_path: Path):
    with pytest.raises(BadStore, match=r"the folder .*nowhere for study.db does not exist: make it first"):
        Store.create(tmp_path / "nowhere" / "study.db", STUDY, {})


@pytest.mark.parametrize(
    "make", [Path.mkdir, lambda lock: lock.write_text("no database, but long enough " * 99)]
)
def test_create_needs_its_lock(path: Path, make: Callable[[Path], object]):
    make(path.with_name("study.db.lock"))
    with pytest.raises(
        BadStore, match=r"the lock .*study.db.lock cannot be taken \(.*\): check who may write in"
    ):
        Store.create(path, STUDY, {})
    assert not path.exists()


def test_a_file_that_another_program_holds_is_told(path: Path):
    with Store.create(path, STUDY, {}) as store:
        store._db.execute("PRAGMA busy_timeout = 0")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(
            BadStore, match=r"study.db is held by another process: try again once that one is done"
        ):
            store.add([record()])
        other.close()
        store.add([record()])
        assert store.count() == 1


def test_a_full_disk_is_told(path: Path):
    with Store.create(path, STUDY, {}) as store:
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(
            BadStore, match=r"study.db cannot be written \(database or disk is full\): check its disk"
        ):
            store.add(record(i) for i in range(99))
        assert store.count() == 0


def test_a_file_that_may_not_be_read_is_told(path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    write(path)
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refuse)
        with pytest.raises(
            BadStore, match=r"study.db cannot be read \(Permission denied\): check who may read it"
        ):
            Store.open(path)


def test_a_reader_does_not_write(path: Path):
    with (
        Store.open(write(path)) as store,
        pytest.raises(BadStore, match="is open for reading: write through"),
    ):
        store.add([record()])


# --- two processes ----------------------------------------------------------------------------------------

READER = """
import sys
from fallline.store import Store
from tests_store import assert_same, record
with Store.open(sys.argv[1]) as store:
    seen = 0
    print("ready", flush=True)
    while seen < 40:
        seen = store.count()
        assert seen % 4 == 0, "half a transaction was seen"
        for i, one in enumerate(store.records()):
            assert_same(one, record(i))
    assert store.study.kind == "compare"
print(seen, flush=True)
"""
WRITER = """
import sys
from fallline.store import Store
from tests_store import STUDY, record
store = Store.create(sys.argv[1], STUDY, {})
store.add(record(i) for i in range(3))
print("ready", flush=True)
sys.stdin.read()
"""
SECOND = """
import sys
from fallline.errors import BadStore
from fallline.store import Store
try:
    Store.resume(sys.argv[1])
except BadStore as error:
    print(error)
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Start Python in a process of its own, with this file importable as ``tests_store``."""
    helpers = tmp_path / "helpers"
    helpers.mkdir()
    shutil.copy(__file__, helpers / "tests_store.py")
    started: list[subprocess.Popen[str]] = []

    def start(code: str, path: Path) -> subprocess.Popen[str]:
        code = f"import sys; sys.path.insert(0, {str(helpers)!r})\n{code}"
        command = [sys.executable, "-c", code, str(path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_another_process_reads_while_this_one_writes(tmp_path: Path, start):
    path = tmp_path / "study.db"
    with Store.create(path, STUDY, {}) as store:
        reader = start(READER, path)
        assert reader.stdout.readline() == "ready\n"
        for first in range(0, 40, 4):
            store.add(record(i) for i in range(first, first + 4))
        out, _ = reader.communicate(timeout=60)
    assert (out, reader.returncode) == ("40\n", 0)


def test_a_killed_study_opens_and_says_how_many_runs_it_holds(tmp_path: Path, start):
    path = tmp_path / "study.db"
    writer = start(WRITER, path)
    assert writer.stdout.readline() == "ready\n"
    writer.kill()
    writer.wait()
    with Store.open(path) as store:
        assert store.result is None
        assert repr(store) == f"Store({str(path)!r}: 3 runs, unfinished)"
        assert_same(list(store.records())[2], record(2))
    with Store.resume(path) as store:
        store.add([record(3)])
        assert store.count() == 4
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["study.db"]


def test_a_second_writer_is_refused(path: Path, start):
    with Store.create(path, STUDY, {}) as store:
        out, _ = start(SECOND, path).communicate(timeout=60)
        assert f"another process is writing {path}, and a store has one writer: wait until it ends" in out
        with pytest.raises(BadStore, match="a store has one writer"):
            Store.create(path, STUDY, {})
        store.add([record()])
    with Store.resume(path) as store:
        assert store.count() == 1


def test_a_reader_in_the_middle_holds_up_no_writer(path: Path):
    with Store.create(path, STUDY, {}) as store, Store.open(path) as reader:
        store._db.execute("PRAGMA busy_timeout = 0")
        reader._db.execute("BEGIN")
        assert reader.count() == 0
        store.add([record(0)])
        assert reader.count() == 0  # it still reads what was there when it began
        reader._db.execute("COMMIT")
        assert reader.count() == 1


def test_a_closed_store_can_be_read_where_nothing_can_be_written(path: Path):
    assert write(path).read_bytes()[18:20] == b"\x01\x01"  # no write-ahead log is needed to read it
    assert len(read_all(path)) == 3
    assert [p.name for p in path.parent.iterdir()] == ["study.db"]


def test_a_reader_that_stays_does_not_hold_up_the_end(path: Path):
    store = Store.create(path, STUDY, {})
    store.add([record(0)])
    with Store.open(path) as reader:
        halfway = reader.records()
        assert_same(next(halfway), record(0))
        store.finish({"verdict": "a tie"})
        store.close()
        assert reader.result == {"verdict": "a tie"}
    with Store.open(path) as again:
        assert again.count() == 1


# --- files that are not right -----------------------------------------------------------------------------


def read_all(path: Path) -> list[Record]:
    with Store.open(path) as store:
        _ = store.study, store.provenance, store.result, store.finished, store.count(), repr(store)
        return list(store.records())


def test_a_missing_file_is_not_found(path: Path):
    with pytest.raises(NotFound, match=r"there is no store at .*study.db: give the file that a study wrote"):
        Store.open(path)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", r"is empty \(0 bytes\), expected a store"),
        (b"hello", r"is not a store: it begins with b'hello', expected b'SQLite format 3\\x00'"),
        (b"{" * 5000, "is not a store: it begins with b'{{{"),
        (b"SQLite format 3\x00", "is cut off after 16 bytes"),
    ],
)
def test_what_is_not_a_store_says_so(path: Path, content: bytes, sentence: str):
    path.write_bytes(content)
    for use in (Store.open, Store.resume):
        with pytest.raises(BadStore, match=sentence):
            use(path)
    assert path.read_bytes() == content


def test_a_folder_is_not_a_store(tmp_path: Path):
    with pytest.raises(BadStore, match="is a folder, not a store"):
        Store.open(tmp_path)


def test_a_database_of_another_program_is_not_a_store(path: Path):
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t (x)")
    db.close()
    with pytest.raises(BadStore, match="is a database, but not a fallline store"):
        Store.open(path)


@pytest.mark.parametrize(
    ("version", "sentence"), [(FORMAT + 1, "update fallline to read it"), (0, "it is damaged")]
)
def test_another_format_is_told(path: Path, version: int, sentence: str):
    db = sqlite3.connect(write(path))
    db.execute(f"PRAGMA user_version = {version}")
    db.close()
    with pytest.raises(BadStore, match=f"has store format {version}.*{sentence}"):
        Store.open(path)


def test_the_file_says_what_it_is(path: Path):
    header = write(path).read_bytes()[:100]
    assert int.from_bytes(header[68:72], "big") == APPLICATION
    assert int.from_bytes(header[60:64], "big") == FORMAT


def test_a_file_cut_at_any_length_reads_or_teaches(path: Path):
    whole = write(path, runs=12).read_bytes()
    originals = {i: record(i) for i in range(12)}
    lengths = {
        0,
        1,
        15,
        16,
        17,
        99,
        100,
        101,
        1000,
        len(whole) - 1,
        len(whole) - 100,
        *range(4096, len(whole), 2048),
    }
    outcomes = [_reads_or_teaches(path, whole[:length], originals) for length in sorted(lengths)]
    assert not any(outcomes[:11])


def test_damaged_bytes_read_or_teach_and_are_never_taken_for_measurements(path: Path):
    whole = write(path, runs=6).read_bytes()
    originals = {i: record(i) for i in range(6)}
    rng = np.random.default_rng(0)
    outcomes = []
    for trial in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 1 + trial % 8):
            damaged[place] ^= int(rng.integers(1, 256))
        outcomes.append(_reads_or_teaches(path, bytes(damaged), originals))
    assert 10 < sum(outcomes) < 290  # both happen: damage in unused bytes does no harm


def test_a_damaged_page_is_told_before_anything_is_read(path: Path):
    damaged = bytearray(write(path).read_bytes())
    page = damaged.index(b"\x0d", 4096) // 4096 * 4096  # the first page of rows
    damaged[page + 8 : page + 10] = b"\xff\xff"  # where its first row lies
    path.write_bytes(damaged)
    with pytest.raises(
        BadStore, match=r"study.db is damaged \(.*\): restore it from a copy, or run the study again"
    ):
        Store.open(path)


def test_a_measurement_that_was_changed_is_told(path: Path):
    db = sqlite3.connect(write(path))
    db.execute("UPDATE arrays SET data = zeroblob(length(data)) WHERE run = 2 AND name = 'train_loss'")
    db.commit()
    db.close()
    with pytest.raises(
        BadStore, match=r"is damaged: run 2 is not as it was written \(its checksum differs\)"
    ):
        read_all(path)


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("DELETE FROM arrays WHERE run = 2 AND name = 'train_loss'", "run 2 lost some of its arrays"),
        (
            "DELETE FROM grids WHERE id = 1",
            "is damaged: row 1 of its grids is missing; restore it from a copy",
        ),
        ("DELETE FROM documents WHERE name = 'study'", "its study is missing"),
        ("UPDATE documents SET text = '{}'", "its study is not as it was written"),
        ("DROP TABLE runs", "cannot be read as a fallline store"),
    ],
)
def test_what_was_lost_is_told(path: Path, statement: str, sentence: str):
    db = sqlite3.connect(write(path))
    db.execute(statement)
    db.commit()
    db.close()
    with pytest.raises(BadStore, match=sentence):
        read_all(path)


def _reads_or_teaches(path: Path, content: bytes, originals: dict[int, Record]) -> bool:
    for beside in path.parent.glob("study.db*"):
        beside.unlink()
    path.write_bytes(content)
    got: list[Record] | None = None
    with suppress(BadStore):
        got = read_all(path)
    for one in got or ():
        assert_same(one, originals[one.run.seed])
    return got is not None
