"""One picture from two: it is written whole, it can be stopped, and wrong input writes nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fallline.errors import BadStore, BadValue
from fallline.layers import vgg19
from fallline.verbs import stylize as verb
from fallline.verbs.stylize import stylize

TWO = np.random.default_rng(0).random((2, 40, 64, 3))


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_a_picture_of_its_size_with_lower_losses_after_more_steps(tmp_path: Path):
    few, many = (
        stylize(*TWO, tmp_path / f"{steps}.png", size=64, steps=steps, beta=3000.0) for steps in (1, 25)
    )
    assert size_of(many.picture) == (64, 40)
    assert many.document["loss"] < few.document["loss"]
    assert "style losses by layer" in str(many)
    assert list(tmp_path.glob("*.new")) == []


def test_any_rule_and_vgg_features(tmp_path: Path):
    torch.save(vgg19(outputs=10, width=1 / 32).state_dict(), tmp_path / "vgg.pth")
    found = stylize(
        *TWO, tmp_path / "a.png", size=64, steps=2, rule="adam(lr=0.02)", weights=tmp_path / "vgg.pth"
    )
    assert sorted(found.document["style"]) == ["1_1", "2_1", "3_1", "4_1", "5_1"]


def test_it_shows_its_progress_and_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(verb, "SECONDS", 0.0)
    out, written = tmp_path / "a.png", verb._write
    seen: list[Path] = []

    def writing(path: Path, picture: torch.Tensor) -> None:
        written(path, picture)
        if not seen:
            os.kill(os.getpid(), signal.SIGINT)
        seen.append(path)

    monkeypatch.setattr(verb, "_write", writing)
    with pytest.raises(
        KeyboardInterrupt, match=r"^stopped by Ctrl-C; .*a\.png holds the picture as far as it came$"
    ):
        stylize(*TWO, out, size=64, steps=50)
    assert size_of(out)[0] > 0


def test_what_cannot_be_made_is_refused_and_nothing_is_written(tmp_path: Path):
    for given, error, told in (
        (
            {"out": tmp_path / "a.jpg"},
            BadValue,
            r"^the picture is written as PNG: name a file such as picture\.png, got ",
        ),
        (
            {"out": tmp_path / "no" / "a.png"},
            BadStore,
            r"a\.png cannot be written: its folder does not exist, or it is a folder",
        ),
        ({"steps": 0}, BadValue, r"^steps must be a whole number of at least 1, got 0$"),
        ({"beta": -1.0}, BadValue, r"^beta is a weight of a loss, a finite number of at least 0; got -1\.0$"),
    ):
        with pytest.raises(error, match=told):
            stylize(*TWO, **{"out": tmp_path / "a.png", "size": 64, **given})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        BadStore, match=r"a\.png cannot be written \(No space left on device\): choose another place"
    ):
        stylize(*TWO, tmp_path / "a.png", size=64, steps=1)
