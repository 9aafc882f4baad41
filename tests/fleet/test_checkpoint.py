"""Checkpoints: what is read is what was written, or the one before, whatever happened to the file or the process."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from safetensors import safe_open

from command_line import environment
from fallline.errors import BadStore, BadValue
from fallline.fleet import checkpoint
from fallline.fleet.checkpoint import BESIDE, PREVIOUS, read, remove, write

TYPES = [
    "?",
    "<f2",
    "<f4",
    "<f8",
    "<i1",
    "<i2",
    "<i4",
    "<i8",
    "<u1",
    "<u2",
    "<u4",
    "<u8",
    "<c8",
    ">f4",
    ">i8",
]
FIRST: dict[str, Any] = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "died": np.array([-1, 4])}
SECOND: dict[str, Any] = {**FIRST, "w": FIRST["w"] + 1}


def same(found: dict[str, Any], given: dict[str, Any]) -> bool:
    return set(found) == set(given) and all(
        found[k].shape == given[k].shape and found[k].dtype == given[k].dtype.newbyteorder("<")
        and found[k].tobytes() == given[k].astype(found[k].dtype).tobytes() for k in given
    )  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- what was written is read -----------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    held=st.dictionaries(
        st.text(min_size=1, max_size=5).filter(lambda name: name not in ("sha256", "__metadata__")),
        st.sampled_from(TYPES).flatmap(
            lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=0, min_side=0, max_side=4))
        ),
        max_size=4,
    ),
    facts=st.dictionaries(st.text(), st.integers() | st.text() | st.floats(allow_nan=False) | st.booleans()),
)
def test_any_arrays_and_facts_come_back(tmp_path_factory: pytest.TempPathFactory, held: Any, facts: Any):
    path = tmp_path_factory.mktemp("any") / "a.safetensors"
    write(path, held, facts)
    found, told, note = read(path)
    assert same(found, held)
    assert (told, note) == (facts, "")


def test_any_layout_in_memory_is_written_as_it_reads(tmp_path: Path):
    whole = np.arange(24.0).reshape(2, 3, 4)
    held = {
        "t": whole.T,
        "s": whole[:, ::2, ::-1],
        "f": np.asfortranarray(whole),
        "0": np.array(3.0),
        "e": whole[:0],
    }
    write(tmp_path / "a", held, {})
    assert same(read(tmp_path / "a")[0], held)


def test_it_is_a_file_that_others_can_read(tmp_path: Path):
    write(tmp_path / "a", FIRST, {"step": 3})
    with safe_open(tmp_path / "a", "np") as file:
        assert set(file.keys()) == {"w", "died", "sha256"}
        assert json.loads(file.metadata()["facts"]) == {"step": 3}
        assert np.array_equal(file.get_tensor("w"), FIRST["w"])


def test_what_is_no_array_of_numbers_is_refused(tmp_path: Path):
    with pytest.raises(BadValue, match="a checkpoint holds arrays of numbers, but x is of the type object"):
        write(tmp_path / "a", {"x": np.array([None])}, {})
    with pytest.raises(BadValue, match="no array of a checkpoint may be called 'sha256': that is its seal"):
        write(tmp_path / "a", {"sha256": np.zeros(1)}, {})
    assert names(tmp_path) == []


# --- damage -----------------------------------------------------------------------------------------------


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A checkpoint, and the one before it."""
    path = tmp_path / "a"
    write(path, FIRST, {"step": 1})
    write(path, SECOND, {"step": 2})
    return path


def test_the_last_one_is_read(both: Path):
    found, facts, note = read(both)
    assert same(found, SECOND)
    assert (facts, note) == ({"step": 2}, "")
    assert names(both.parent) == ["a", "a" + PREVIOUS]


def check_falls_back(path: Path, what: str) -> None:
    found, facts, note = read(path)
    assert same(found, FIRST), what
    assert facts == {"step": 1}, what
    assert note.startswith("the checkpoint a could not be read (its "), what
    assert note.endswith("so the one before it was taken"), what


def test_cut_off_anywhere_the_one_before_is_read(both: Path):
    whole = both.read_bytes()
    for length in range(len(whole)):
        both.write_bytes(whole[:length])
        check_falls_back(both, f"cut off after {length}")
    both.write_bytes(whole + b"\0")
    check_falls_back(both, "with a byte more")


def test_with_any_bit_of_any_byte_flipped_the_one_before_is_read(both: Path):
    whole = both.read_bytes()
    for place in range(len(whole)):
        for bit in (1 << place % 8, 1 << (place + 3) % 8):
            both.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            check_falls_back(both, f"bit {bit} of byte {place}")


def test_without_a_whole_one_a_sentence_says_so(both: Path):
    both.write_bytes(b"")
    both.with_name("a" + PREVIOUS).write_bytes(b"x" * 50)
    told = r"the checkpoint .*a could not be read \(its 0 bytes are not those that were written\), and there is none before it"
    with pytest.raises(BadStore, match=told):
        read(both)
    remove(both)
    assert names(both.parent) == []
    with pytest.raises(BadStore, match=r"could not be read \(it is missing\)"):
        read(both)


# --- the moment of writing --------------------------------------------------------------------------------

DIES = """
import os, pathlib, signal, sys
import numpy as np
from fallline.fleet import checkpoint

path, calls = pathlib.Path(sys.argv[1]), 0


def dies(name, module, last):
    before = getattr(module, name)

    def call(*args, **options):
        global calls
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return before(*args, **options)

    setattr(module, name, call)


class Dying:
    'A file that may die before each write.'

    def __init__(self, file):
        self.file = file

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.file.close()

    def write(self, data):
        os.getppid()
        self.file.write(bytes(data)[: len(data) // 2])
        self.file.flush()
        os.getppid()
        self.file.write(bytes(data)[len(data) // 2 :])


opened = pathlib.Path.open
pathlib.Path.open = lambda self, mode="r": Dying(opened(self, mode))
checkpoint.write(path, {"w": np.arange(6.0)}, {"step": 1})
for last in range(1, 1000):
    child = os.fork()
    if child == 0:
        for name in ("replace", "link", "fsync", "getppid", "open", "unlink"):
            dies(name, os, last)
        checkpoint.write(path, {"w": np.arange(6.0) + last}, {"step": last + 1})
        os._exit(0)
    _, status = os.waitpid(child, 0)
    arrays, facts, note = checkpoint.read(path)
    assert np.array_equal(arrays["w"], np.arange(6.0) + (facts["step"] - 1)), facts
    assert not note, note
    if status == 0:
        assert facts["step"] == last + 1
        print(last)
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
"""


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_killed_at_any_call_of_a_save_a_whole_checkpoint_is_there(tmp_path: Path):
    """Each child dies one call later than the one before: in the middle of data, before a sync, between two renames."""
    line = [sys.executable, "-c", DIES, str(tmp_path / "a")]
    ended = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 10
    assert set(names(tmp_path)) == {"a", "a" + PREVIOUS}


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_full_disk_leaves_the_earlier_checkpoint_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
):
    path = tmp_path / "a"
    write(path, FIRST, {"step": 1})

    def full(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match=os.strerror(number)):
            write(path, SECOND, {"step": 2})
    found, facts, note = read(path)
    assert same(found, FIRST)
    assert (facts, note) == ({"step": 1}, "")
    assert not (tmp_path / ("a" + BESIDE)).exists()


LIMITED = """
import pathlib, resource, signal, sys
import numpy as np
from fallline.fleet import checkpoint

path = pathlib.Path(sys.argv[1])
checkpoint.write(path, {"w": np.zeros(10)}, {"step": 1})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    checkpoint.write(path, {"w": np.zeros(10_000)}, {"step": 2})
except OSError as error:
    print(error.strerror)
print(checkpoint.read(path)[1:])
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of resources")
def test_where_the_system_writes_no_further_the_earlier_checkpoint_stays(tmp_path: Path):
    line = [sys.executable, "-c", LIMITED, str(tmp_path / "a")]
    ended = subprocess.run(line, env=environment(), capture_output=True, text=True, check=True)
    assert ended.stdout == f"{os.strerror(errno.EFBIG)}\n({{'step': 1}}, '')\n"
    assert names(tmp_path) == ["a"]


def test_without_links_the_earlier_checkpoint_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refused)
    for step in (1, 2, 3):
        write(tmp_path / "a", FIRST, {"step": step})
    assert names(tmp_path) == ["a", "a" + PREVIOUS]
    (tmp_path / "a").unlink()
    _, facts, note = read(tmp_path / "a")
    assert facts == {"step": 2}
    assert note == "the checkpoint a could not be read (it is missing), so the one before it was taken"
    assert checkpoint.found(tmp_path, "a") == [tmp_path / "a"]
    assert checkpoint.found(tmp_path / "none", "a") == []
