"""``fl.resume``: what was trained is not trained again, and what is another than before is refused or told."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import fallline as fl
from fallline.errors import BadStore, BadTask, BadValue, NotFound, WorkerLost
from fallline.fleet import Snapshot, block, checkpoint
from fallline.specs import Study
from fallline.store import Store
from fallline.verbs import budget
from fallline.verbs import resume as verb
from fallline.verbs.budget import Speed
from fallline.verbs.comparison import Comparison
from fallline.verbs.stopping import Terminated

from .conftest import Compare
from .toys import bowl

RULES = ["sgd", "adam"]
TIMES = {"seconds", "seconds_to_target", "store", "report"}
FILE = """
import fallline as fl
from torch import nn
import torch


def task():
    X = torch.arange(60.0).reshape(20, 3) / 60
    return fl.Task.supervised(lambda: nn.Linear(3, 1), (X, X[:, :1]), loss=fl.losses.mse, name="line")
"""


class Stop:
    """Ends a comparison from within, at the n-th step that a block takes from here on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps, self.at, self.by = 0, 0, KeyboardInterrupt
        look = block.Guard.look

        def looked(guard: Any, snapshot: Callable[[], Snapshot]) -> None:
            look(guard, snapshot)
            self.steps += 1
            if self.steps == self.at:
                raise self.by

        monkeypatch.setattr(block.Guard, "look", looked)

    def after(self, steps: int, by: type[BaseException] = KeyboardInterrupt) -> None:
        self.at, self.by = self.steps + steps, by  # type: ignore[assignment]


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Stop:
    return Stop(monkeypatch)


Stopped = Callable[..., Path]


@pytest.fixture
def stopped(compare: Compare, stop: Stop, tmp_path: Path) -> Stopped:
    """The folder of a comparison that was stopped after so many steps of its blocks."""
    numbers = count()

    def run(*given: Any, steps: int = 70, **options: Any) -> Path:
        folder = tmp_path / f"stopped-{next(numbers)}"
        stop.after(steps)
        with pytest.raises(KeyboardInterrupt, match="what was done is kept: go on with"):
            compare(*given, **{"executor": "traced", "every": 0.0, "replicates": 3, "out": folder, **options})
        return folder

    return run


def without_times(document: Any) -> Any:
    if isinstance(document, dict):
        return {name: without_times(value) for name, value in document.items() if name not in TIMES}
    return [without_times(item) for item in document] if isinstance(document, list) else document


def check_same(one: Comparison, other: Comparison) -> None:
    assert without_times(one.document) == without_times(other.document)


def provenance(folder: Path) -> dict[str, Any]:
    with Store.open(folder / "study.db") as store:
        return store.provenance


def note(folder: Path, **facts: Any) -> None:
    with Store.resume(folder / "study.db") as store:
        store.note(facts)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A task in a file of the folder that we are in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    return "mine.py"


# --- to the same numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_wherever_it_stopped_it_ends_as_if_it_had_not(
    compare: Compare, stopped: Stopped, stop: Stop, share: float
):
    """In tuning, in a range that grows, in the runs that are judged; what diverges is in it."""
    task = bowl(curvature=0.02)
    whole = compare(task, RULES, replicates=3, executor="traced")
    took, steps = stop.steps, max(1, round(share * stop.steps))
    folder = stopped(task, RULES, steps=steps)
    stop.steps = 0
    found = fl.resume(folder, tasks=[task], progress=False)
    check_same(found, whole)
    assert stop.steps <= took - steps + 1  # nothing is trained twice but the step that was not saved
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "study.db"]
    with Store.open(folder / "study.db") as store:
        assert store.count() == whole.document["runs"] == found.document["runs"]


def test_without_checkpoints_blocks_begin_anew(compare: Compare, stopped: Stopped):
    whole = compare(bowl(), RULES, replicates=3, executor="traced")
    for damage in (
        lambda folder: shutil.rmtree(folder),
        lambda folder: [p.write_bytes(b"") for p in folder.iterdir()],
    ):
        folder = stopped(bowl(), RULES)
        assert list((folder / "checkpoints").iterdir())
        damage(folder / "checkpoints")
        check_same(fl.resume(folder, bowl()), whole)
    (event,) = provenance(folder)["plan"]["events"]
    assert event.endswith("what it held must be trained again from the beginning")


HOT = """
import os, signal, sqlite3, sys

db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.executescript("PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; BEGIN; UPDATE runs SET run = run || 'x' || run")
db.execute("CREATE TABLE more AS SELECT randomblob(100000) FROM runs")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="kills itself")
def test_a_store_whose_writer_was_killed_within_a_write_is_taken_back_first(
    compare: Compare, stopped: Stopped
):
    """As SQLite leaves it when it changes how it writes: half of it is in the file, and a journal lies beside."""
    whole = compare(bowl(), RULES, replicates=3, executor="traced")
    folder = stopped(bowl(), RULES, steps=100)
    subprocess.run([sys.executable, "-c", HOT, str(folder / "study.db")], check=False)
    assert (folder / "study.db-journal").exists()
    check_same(fl.resume(folder, bowl()), whole)
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "study.db"]


def test_a_clock_that_is_set_back_changes_nothing(
    compare: Compare, stopped: Stopped, monkeypatch: pytest.MonkeyPatch
):
    whole = compare(bowl(), RULES, replicates=3, executor="traced")
    backwards: Iterator[float] = iter(range(10**9, 0, -1000))
    monkeypatch.setattr(time, "time", backwards.__next__)
    folder = stopped(bowl(), RULES)
    assert list((folder / "checkpoints").iterdir())
    check_same(fl.resume(folder, [bowl()]), whole)


def test_on_a_full_disk_the_comparison_goes_on(
    compare: Compare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    whole = compare(bowl(), RULES, replicates=3)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "_sealed", full)
    check_same(compare(bowl(), RULES, replicates=3, every=0.0, out=tmp_path / "full"), whole)
    (event,) = provenance(tmp_path / "full")["plan"]["events"]
    assert event.startswith("checkpoints cannot be written to checkpoints (No space left on device)")


def test_a_time_budget_is_as_it_was_fitted(
    compare: Compare, stopped: Stopped, stop: Stop, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(budget, "measure", lambda *_: Speed(1e-9, 0.0))
    asked = {"minutes": 60.0, "replicates": 3, "rates": 3, "seeds": 1, "executor": "traced"}
    task = bowl(curvature=1e-5)  # whose range grows twice
    whole = compare(task, RULES, **asked)
    folder = stopped(task, RULES, steps=stop.steps - 2, **asked)
    assert provenance(folder)["growth"] == [True, True]
    limit = provenance(folder)["asked"]["limit"]
    assert limit["minutes"] == 60
    note(folder, asked={**provenance(folder)["asked"], "limit": {**limit, "minutes": 1e-9}})
    found = fl.resume(folder, task)  # though time is up by now, what was decided stays
    ours, theirs = (without_times(one.document) for one in (found, whole))
    assert [n for n in ours.pop("notes") if "within" not in n] == [
        n for n in theirs.pop("notes") if "within" not in n
    ]
    assert ours == theirs
    folder = stopped(task, RULES, steps=3, **asked)
    note(folder, asked={**provenance(folder)["asked"], "limit": {**limit, "minutes": 1e-9}})
    assert fl.resume(folder, task).document["protocol"]["rounds_grown"] == 0
    assert provenance(folder)["growth"] == [False]


def test_a_baseline_and_names_that_clash_are_found_again(
    compare: Compare, stopped: Stopped, mine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.py").write_text(FILE.replace("/ 60", "/ 50"))
    names = ["mine.py", "other/mine.py:task"]
    compare(names, "sgd", replicates=3, executor="traced", out=tmp_path / "then")
    whole = compare(names, "sgd", replicates=3, executor="traced", baseline="then")
    folder = stopped(names, "sgd", baseline="then")
    monkeypatch.chdir(tmp_path / "other")
    found = fl.resume(folder)
    assert found.document["tasks"] == names
    for document in (found.document, whole.document):
        document["baseline"].pop("store")
    check_same(found, whole)


# --- what is told -----------------------------------------------------------------------------------------


def test_how_to_go_on_is_told_at_the_start_and_at_the_stop(
    stopped: Stopped, mine: str, stop: Stop, compare: Compare
):
    folder = stopped(bowl(), RULES)
    assert provenance(folder)["resume"] == (
        "this study cannot be gone on with from the command line, as its tasks were given as Python objects; "
        "fl.resume(…, tasks=[…]) goes on with it from Python"
    )
    with pytest.raises(
        BadTask, match="were given as Python objects, which no store can hold: go on with it from Python"
    ):
        fl.resume(folder)
    stop.after(3)
    with pytest.raises(KeyboardInterrupt) as again:
        fl.resume(folder, bowl())
    assert str(again.value) == (
        f"stopped by Ctrl-C; what was done is kept: go on with fl.resume({str(folder)!r}, tasks=[…])"
    )
    folder = stopped(mine, RULES)
    assert provenance(folder)["resume"] == "fallline resume goes on with this study where it stopped"
    for error, told in ((Terminated, "stopped by SIGTERM"), (WorkerLost, "^; what was done")):
        stop.after(1, error)
        with pytest.raises(error, match=told) as once_more:
            fl.resume(folder)
        assert str(once_more.value).endswith(f"what was done is kept: go on with fallline resume {folder}")
    assert Terminated("why").code == 143


def test_another_torch_processor_or_fallline_is_told(compare: Compare, stopped: Stopped, mine: str):
    whole = compare(mine, RULES, replicates=3, executor="traced")
    folder = stopped(mine, RULES)
    then = provenance(folder)
    note(folder, versions={**then["versions"], "torch": "1.0"}, code="abc", hardware={"processor": "abacus"})
    found = fl.resume(folder)
    told = found.document["notes"][-3:]
    assert [line.split(" when this study began")[0] for line in told] == [
        "torch was 1.0", "the processor was abacus", f"fallline was {fl.__version__} (abc)",
    ]  # fmt: skip
    assert told[0].endswith("runs of both are in it, which agree within rounding and not to the last bit")
    found.document["notes"] = found.document["notes"][:-3]
    check_same(found, whole)
    assert provenance(folder)["plan"]["events"] == [
        "fallline is another than at the beginning, so blocks in training began anew"
    ]
    (resumed,) = provenance(folder)["resumed"]
    assert resumed["changed"] == told


def test_a_finished_study_is_given_back(compare: Compare, tmp_path: Path):
    whole = compare(bowl(), RULES, replicates=3, out=tmp_path / "it")
    whole.report.unlink()
    assert fl.resume(tmp_path / "it").document == fl.resume(whole.store).document == whole.document
    assert whole.report.exists()
    (tmp_path / "it" / "checkpoints").mkdir()  # as one leaves it that is killed just then
    (tmp_path / "it" / "checkpoints" / "0123.safetensors").touch()
    (tmp_path / "it" / "study.db.lock").touch()
    assert fl.resume(tmp_path / "it").document == whole.document
    assert sorted(path.name for path in (tmp_path / "it").iterdir()) == ["report.html", "study.db"]


# --- what is refused --------------------------------------------------------------------------------------


def test_other_data_are_refused(stopped: Stopped, mine: str):
    folder = stopped(mine, RULES)
    other = bowl(name="line")
    with pytest.raises(
        BadStore, match=r"^line is not as it was when .*study.db began: its data was \w+, and is other; bring"
    ):
        fl.resume(folder, replace(other, facts={**provenance(folder)["tasks"]["line"], "data": "other"}))
    with pytest.raises(
        BadTask, match="compares line, but bowl was given: give the same tasks in the same order"
    ):
        fl.resume(folder, [bowl()])


def test_code_that_has_changed_is_refused(stopped: Stopped, mine: str):
    folder = stopped(mine, RULES)
    Path(mine).write_text(FILE + "\n# better now\n")
    with pytest.raises(
        BadStore, match=r"mine.py has changed since .* began, so that its runs would be of two tasks"
    ):
        fl.resume(folder)
    Path(mine).write_text(FILE)
    assert fl.resume(folder).ranking


def test_another_kind_of_study_is_refused(tmp_path: Path):
    with Store.create(tmp_path / "study.db", Study("tune", ("digits",), (), {}), {}):
        pass
    with pytest.raises(
        BadStore,
        match="holds a study of the kind 'tune', and only comparisons and studies of the lecture can be gone on with",
    ):
        fl.resume(tmp_path)
    with pytest.raises(NotFound, match="there is no store at"):
        fl.resume(tmp_path / "nowhere")


def test_a_second_process_is_refused_before_anything_is_read(stopped: Stopped, mine: str):
    folder = stopped(mine, RULES)
    with Store.resume(folder / "study.db"), pytest.raises(BadStore, match="another process is writing"):
        fl.resume(folder)
    assert list((folder / "checkpoints").iterdir())


def test_a_study_of_a_gpu_goes_on_where_it_is_told_to(stopped: Stopped, mine: str):
    folder = stopped(mine, RULES)
    note(folder, plan={**provenance(folder)["plan"], "device": "cuda:99"})
    with pytest.raises(
        BadValue, match=r"'cuda:99' (needs a GPU, and torch finds none here|is not there: the GPUs of this)"
    ):
        fl.resume(folder)
    fl.resume(folder, device="cpu")
    assert provenance(folder)["plan"]["device"] == "cpu"
    assert provenance(folder)["plan"]["events"] == [
        "the plan was made for cuda:99 and is made anew for cpu: from here on runs may differ in their last digits"
    ]


@pytest.mark.parametrize("gpu", ["Some GPU", None])
def test_another_gpu_is_told(gpu: str | None):
    then = {
        "versions": {"torch": "2"}, "hardware": {"processor": "x"}, "fallline": "1", "code": "a", "plan": {"gpu": "Some GPU"},
    }  # fmt: skip
    assert verb._changed(then, {**then, "plan": {"gpu": gpu}}) == []
    (sentence,) = verb._changed(then, {**then, "plan": {"gpu": "Another"}})
    assert sentence.startswith("the GPU was Some GPU when this study began and is Another now: ")


@pytest.mark.parametrize("every", [-1, "often", True, float("nan")])
def test_a_time_between_checkpoints_is_a_number(compare: Compare, every: Any, tmp_path: Path):
    with pytest.raises(
        BadValue, match="every is the number of seconds between two checkpoints, at least 0; got"
    ):
        compare(bowl(), RULES, every=every, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_store_of_a_study_that_ended_meanwhile_is_given_back(
    compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = compare(bowl(), RULES, replicates=3, out=tmp_path / "it")
    monkeypatch.setattr(verb, "finished", lambda path: False)
    assert fl.resume(tmp_path / "it").document == whole.document
