"""Two processes that torchrun starts give what one gives on the same batches."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from command_line import environment
from fallline.errors import BadValue
from fallline.fleet.single import Trained
from fallline.fleet.single.backward import check_parts
from fallline.fleet.single.ranks import Ranks

from . import single_ranks
from .cases import classification

HERE = Path(__file__).resolve().parent


def started(*line: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Two processes that train together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-addr",
        "127.0.0.1",
    ]
    return subprocess.run(
        [*command, "--master-port", str(port), *map(str, line)], cwd=cwd, env=environment(), capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    done = started(HERE / "single_ranks.py", folder, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def check(folder: Path, name: str, alone: Trained, without: tuple[str, ...] = ()) -> None:
    with np.load(folder / f"{name}.npz") as held:
        found: dict[str, Any] = dict(held)
    assert str(found.pop("stopped")) == alone.stopped
    record = alone.record
    wanted = {**record.weights, **{f"series {name}": s.values for name, s in record.series.items()}}
    assert set(found) == set(wanted)
    for key in set(wanted) - set(without):
        np.testing.assert_allclose(found[key], wanted[key], 1e-10, 1e-12, err_msg=key)


def test_two_processes_are_one(two: Path):
    check(two, "plain", single_ranks.plain())


def test_two_processes_with_weights_clip_and_parts(two: Path):
    check(two, "weighted", single_ranks.weighted())


def test_noise_and_batch_norm_are_those_of_two_parts(two: Path):
    judged = (
        "series validation_loss",
        "series validation_score",
    )  # by the running averages of the first process
    check(two, "noisy", single_ranks.noisy(accumulate=2), without=judged)


def test_two_processes_diverge_together(two: Path):
    with np.load(two / "diverges.npz") as held:
        assert str(held["stopped"]) == "diverged"
    assert single_ranks.diverges().stopped == "diverged"


def test_the_first_process_saves(two: Path):
    assert (two / "saved").is_file()


def test_the_first_process_prints_and_writes(tmp_path: Path):
    line = [
        "-m",
        "fallline",
        "train",
        "digits",
        "--steps",
        "20",
        "--device",
        "cpu",
        "--out",
        "here",
        "--json",
    ]
    done = started(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["steps"] == 20
    assert sorted(p.name for p in (tmp_path / "here").iterdir()) == [
        "checkpoint.safetensors",
        "weights.safetensors",
    ]


def test_a_batch_smaller_than_the_processes_is_refused():
    ranks = Ranks(0, 4, torch.device("cpu"))
    with pytest.raises(
        BadValue, match="4 processes × accumulate=2 takes a batch in 8 parts, but it has 7 examples"
    ):
        check_parts(classification(), 7, ranks, 2, torch.zeros(3))
