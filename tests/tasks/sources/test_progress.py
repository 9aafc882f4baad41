"""How far a download is, for someone who watches."""

import io
import sys

import pytest

from fallline.tasks.sources.progress import megabytes, shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("fails", [False, True])
def test_someone_who_watches_sees_it_grow(monkeypatch, capsys, fails):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    sizes = iter(range(0, 10**9, 1_500_000))
    try:
        with shown("fetching a set", lambda: megabytes(next(sizes)), "the cache"):
            if fails:
                raise ValueError
    except ValueError:
        assert fails
    assert "fetching a set" in terminal.getvalue()
    assert "1.5 MB" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_nobody_watches(capsys):
    with shown("fetching a set", lambda: megabytes(3_140_000), "the cache"):
        assert capsys.readouterr().err == "fetching a set, once; it is kept in the cache …\n"
    assert capsys.readouterr() == ("", "fetching a set: 3.1 MB\n")
