"""The progress bar: it counts, it may learn of more to do, and it stays off standard output."""

from __future__ import annotations

import pytest

import fallline as fl
from fallline.verbs.progress import Meter, meter

from .toys import bowl


def test_a_meter_counts():
    seen: list[tuple[int, int]] = []
    bar = Meter(lambda done, total: seen.append((done, total)))
    bar.expect(10)
    bar(4)
    bar.expect(5)
    bar(11)
    assert seen == [(0, 10), (4, 10), (4, 15), (15, 15)]


def test_the_bar_is_drawn_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then draws as in a terminal
    with meter("comparing", shown=True) as bar:
        bar.expect(2)
        bar(1)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "comparing" in printed.err
    assert "50 %" in printed.err
    with meter("comparing", shown=None) as bar:  # no one is watching
        bar.expect(2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("curvature", [1 / 200, 1e12])
def test_a_comparison_ends_with_all_done(monkeypatch: pytest.MonkeyPatch, tmp_path, curvature: float):
    """Ranges that grow and runs that diverge included."""
    seen: list[Meter] = []

    class Watched(Meter):
        def __init__(self, show: object) -> None:
            super().__init__(None)
            seen.append(self)

    monkeypatch.setattr("fallline.verbs.progress.Meter", Watched)
    fl.compare(
        bowl(curvature), ["sgd", "adam"], steps=20, replicates=2, rates=3, seeds=1, workers=0, out=tmp_path
    )
    (bar,) = seen
    assert bar.done == bar.total > 0
