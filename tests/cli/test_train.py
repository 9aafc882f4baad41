"""``fallline train``: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import CommandLine, environment

SMALL = ["--steps", "20", "--device", "cpu"]
NUMBERS = ("validation_score", "validation_loss", "test_score", "test_loss", "seconds")

SLOW = """
import os, pathlib
import numpy as np
from torch import nn

import fallline as fl


class Waits(nn.Linear):
    count = 0

    def forward(self, x):
        if self.training:
            Waits.count += 1
            if Waits.count == 5:
                pathlib.Path("began").touch()
                while not pathlib.Path("go").exists():
                    pass
        return super().forward(x)


def task():
    print("loading …")
    X = np.random.default_rng(0).normal(size=(60, 4))
    return fl.Task.supervised(lambda: Waits(4, 2), (X, (X[:, 0] > 0).astype(int)), loss=fl.losses.cross_entropy)
"""


def test_one_document(fallline: CommandLine, tmp_path: Path):
    ended = fallline("train", "digits", "--rule", "adam(lr=0.01)", *SMALL, "--out", "here", "--json")
    assert (ended.status, ended.err) == (0, "")
    found = ended.json()
    assert all(isinstance(found[name], float) and math.isfinite(found[name]) for name in NUMBERS)
    assert (found["task"], found["metric"], found["better"]) == ("digits", "accuracy", "higher")
    assert (found["seed"], found["steps"], found["stopped"]) == (0, 20, "finished")
    assert found["rule"].startswith("adam(lr=0.01, ")
    assert 0 <= found["best_step"] <= 20
    assert found["weights"] == "here/weights.safetensors"
    assert (tmp_path / found["weights"]).is_file()


def test_what_is_printed(fallline: CommandLine, tmp_path: Path):
    ended = fallline("train", "digits", *SMALL, "--patience", "30", "--keep", "loss")
    assert (ended.status, ended.err) == (0, "")
    (folder,) = (tmp_path / "fallline-out").iterdir()
    assert folder.name.startswith("train-digits-2")
    first, *rest = ended.out.splitlines()
    assert first.startswith(
        "digits with adam(lr=0.001, beta1=0.9, beta2=0.999, eps=1e-08), seed 0: validation accuracy 0."
    )
    assert rest == [
        "adam ran at its default numbers, lr=0.001: fl.find_lr finds which ones work",
        f"weights: {folder.relative_to(tmp_path)}/weights.safetensors",
    ]


def test_resume_gives_the_finished_training_back(fallline: CommandLine):
    line = ("train", "digits", *SMALL, "--out", "here", "--json")
    first, again = fallline(*line).json(), fallline(*line, "--resume").json()
    assert {**first, "seconds": 0} == {**again, "seconds": 0}


BAD = [
    (("train",), "Missing argument 'TASK'; see fallline train --help"),
    (("train", "digit"), "no task is called 'digit'; did you mean 'digits'?"),
    (("train", "digits", "--rule", "adam(lr=-1)"), "adam(lr=-1): lr is the learning rate"),
    (("train", "digits", "--rule", ""), "'' is not a rule: write a name such as adam"),
    (("train", "digits", "--steps", "0"), "steps must be a whole number of at least 1, got 0"),
    (("train", "digits", "--steps", "2", "--epochs", "1"), "steps=2 and epochs=1.0 both say how long to train"),
    (("train", "digits", "--keep", "first"), "keep must be best, loss or last, got 'first'"),
    (("train", "digits", "--precision", "fp16", "--device", "cpu"), "precision='fp16' needs a GPU, and this training is on cpu"),
    (("train", "digits", "--device", "gpu"), "device='gpu' cannot be used here ("),
    (("train", "digits", "--accumulate", "99", "--device", "cpu"), "accumulate=99 takes a batch in 99 parts, but it has 32 examples"),
    (("train", "digits", "--resume"), "resume=True goes on with the training in a folder: say which by out=…"),
    (("train", "digits", "--out", "file/below"), "the folder file/below cannot be made (Not a directory): choose another by out"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "told"), BAD, ids=[" ".join(line) for line, _ in BAD])
def test_bad_input_teaches(fallline: CommandLine, tmp_path: Path, line: tuple[str, ...], told: str):
    where = tmp_path / "work"
    where.mkdir()
    (where / "file").write_text("x")
    ended = fallline(*line, "--json", cwd=where)
    assert ended.err.startswith(f"fallline: {told}"), ended.err
    assert ended.err.count("\n") == 1, ended.err
    assert (ended.status, ended.out) == (2, "")
    assert [p.name for p in where.rglob("*")] == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_keeps_the_best_so_far(tmp_path: Path):
    (tmp_path / "slow.py").write_text(SLOW)
    line = [
        sys.executable,
        "-m",
        "fallline",
        "train",
        "slow.py",
        "--rule",
        "sgd(lr=0.1)",
        *SMALL,
        "--out",
        "here",
    ]
    process = subprocess.Popen(
        [*line, "--json"],
        cwd=tmp_path,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        while not (tmp_path / "began").exists():
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=0.02)
        process.send_signal(signal.SIGINT)
        (tmp_path / "go").touch()
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    found = json.loads(out)
    assert process.returncode == 130
    assert found["stopped"] == "interrupted"
    assert (
        f"fallline: stopped at step {found['steps']} by Ctrl-C; the weights of step {found['best_step']} are kept; --out here --resume goes on"
        in err
    )
    assert err.startswith("loading …\n")
    went_on = subprocess.run(
        [*line, "--json", "--resume"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(went_on.stdout)["steps"] == 20
