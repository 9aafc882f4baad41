"""What is kept on disk is there whole or not at all."""

import errno
import os
import sys
import time

import numpy as np
import pytest

from fallline.errors import BadStore
from fallline.tasks.sources import cache, cache_folder


def made(value=3, calls=None):
    def make(writer):
        if calls is not None:
            calls.append(value)
        writer.column("X", (4, 2), np.float32)[:] = value
        return {"value": value}

    return make


def test_an_entry_is_made_once_for_each_key():
    calls = []
    first = cache.kept("a set", ["key", 1], made(3, calls))
    again = cache.kept("a set", ["key", 1], made(3, calls))
    other = cache.kept("a set", ["key", 2], made(4, calls))
    assert calls == [3, 4]
    assert first.facts == again.facts == {"value": 3}
    assert np.array_equal(again.columns["X"], np.full((4, 2), 3.0))
    assert np.array_equal(other.columns["X"], np.full((4, 2), 4.0))
    assert isinstance(again.columns["X"], np.memmap)
    assert not again.columns["X"].flags.writeable
    assert again.columns["X"].dtype == np.float32


@pytest.mark.parametrize("error", [RuntimeError("in the middle"), KeyboardInterrupt()], ids=type)
def test_what_fails_in_the_middle_leaves_nothing(kept, error):
    def make(writer):
        writer.column("X", (4, 2), np.float32)
        raise error

    with pytest.raises(type(error)):
        cache.kept("set", 1, make)
    assert list(kept.iterdir()) == []


def test_a_full_disk_is_told(kept):
    def make(writer):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(
        BadStore,
        match=r"data could not be written to .*: No space left on device; nothing was kept: make room",
    ):
        cache.kept("set", 1, make)
    assert list(kept.iterdir()) == []


def test_an_error_about_another_file_is_passed_on(tmp_path):
    def make(writer):
        return {"text": (tmp_path / "not there").read_text()}

    with pytest.raises(FileNotFoundError, match="not there"):
        cache.kept("set", 1, make)


def test_another_process_that_is_first_wins():
    def make(writer):
        cache.kept("set", 1, made(5))
        return made(5)(writer)

    assert cache.kept("set", 1, make).facts == {"value": 5}


def test_a_disk_that_forgets_is_told(monkeypatch):
    monkeypatch.setattr(cache, "_read", lambda place: None)
    with pytest.raises(
        BadStore, match=r"what was just written to .* cannot be read back: look after the disk"
    ):
        cache.kept("set", 1, made())


def test_large_files_are_checked_by_their_length(kept, monkeypatch):
    monkeypatch.setattr(cache, "WHOLE", 10)
    calls = []
    cache.kept("set", 1, made(3, calls))
    (path,) = kept.glob("*/X.npy")
    path.write_bytes(path.read_bytes()[:-1])
    cache.kept("set", 1, made(3, calls))
    assert calls == [3, 3]


def test_leftovers_of_killed_processes_are_taken_away_after_a_day(kept):
    old, young = kept / f"{cache.MADE}old", kept / f"{cache.MADE}young"
    for folder in (old, young):
        folder.mkdir(parents=True)
        (folder / "X.npy").write_bytes(b"half")
    os.utime(old, (time.time() - 2 * cache.DAY,) * 2)
    cache.kept("set", 1, made())
    assert not old.exists()
    assert young.exists()


def test_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("FALLLINE_CACHE", "~/data")
    assert cache_folder() == tmp_path.home() / "data"
    monkeypatch.delenv("FALLLINE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == tmp_path / "fallline"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path.home() / ".cache" / "fallline"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path.home() / "Library" / "Caches" / "fallline"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache_folder() == tmp_path / "local" / "fallline"
