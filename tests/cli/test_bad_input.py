"""Bad input: one sentence that teaches, exit status 2, nothing on standard output, nothing written."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from command_line import CommandLine

SMALL = [
    "--steps",
    "5",
    "--replicates",
    "2",
    "--rates",
    "2",
    "--seeds",
    "1",
    "--rules",
    "sgd",
    "--workers",
    "0",
]

TASKS = """
import numpy as np
from torch import nn

import fallline as fl

X = np.random.default_rng(0).normal(size=(60, 4))
y = (X[:, 0] > 0).astype(int)


def made(X=X, y=y, outputs=2, name="made"):
    return fl.Task.supervised(lambda: nn.Linear(4, outputs), (X, y), loss=fl.losses.cross_entropy, name=name)


def task():
    return made()


def with_nan():
    return made(np.where(np.arange(60)[:, None] == 7, np.nan, X))


def labels_too_high():
    return made(y=y + 5)


def labels_below_zero():
    return made(y=y - 1)


def empty():
    return made(X[:0], y[:0])


def one_output():
    return made(outputs=1)


def other_inputs():
    return made(X[:, :3])


def fails():
    return made(name=1 / 0)


def returns_nothing():
    made()


def needs_more(size):
    return made()


def leaves():
    raise SystemExit("bye")


def regression():
    return fl.Task.supervised(lambda: nn.Linear(4, 1), (X, X[:, :1]), loss=fl.losses.mse, name="regression")


not_a_function = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with tasks, and with files that are not what they should be."""
    where = tmp_path / "work"
    where.mkdir()
    (where / "my_task.py").write_text(TASKS)
    (where / "syntax.py").write_text("import fallline\n\ndef task(:\n    pass\n")
    (where / "imports.py").write_text("import fallline\nimport no_such_module\n")
    (where / "helper.py").write_text("x = (1,\n")
    (where / "uses_helper.py").write_text("import helper\n")
    (where / "ends.py").write_text("import sys\nsys.exit()\n")
    (where / "bare.py").write_text("x = 1\n")
    (where / "a_file").write_text("not a folder, and not a store")
    (where / "empty.db").write_bytes(b"")
    (where / "cut.db").write_bytes(b"SQLite format 3\0" + b"\0" * 2000)
    with sqlite3.connect(where / "other.db") as other:
        other.execute("CREATE TABLE something (x)")
    other.close()
    return where


BAD_TASKS = [
    ("digit", "no task is called 'digit'; did you mean 'digits'? (a task of your own is path/file.py:function, or data as in data.csv:target)"),
    ("my_tusk.py:task", "there is no file my_tusk.py; did you mean 'my_task.py'?"),
    ("nowhere/x.py:task", "there is no file nowhere/x.py; there is no .py file in nowhere"),
    ("my_task.py:tusk", "my_task.py has no function 'tusk'; did you mean 'task'?"),
    ("my_task.py:not_a_function", "my_task.py has no function 'not_a_function'; known: empty, fails, labels_below_zero"),
    ("bare.py", "bare.py has no function 'task'; it defines none"),
    ("syntax.py:task", "syntax.py cannot be imported: line 3: invalid syntax"),
    ("uses_helper.py:task", "uses_helper.py cannot be imported: helper.py, line 1: '(' was never closed"),
    ("imports.py:task", "imports.py cannot be imported: line 2: ModuleNotFoundError: No module named 'no_such_module'"),
    ("ends.py:task", "ends.py cannot be imported: line 2: SystemExit: no message"),
    ("my_task.py:fails", "my_task.py:fails failed: line 44: ZeroDivisionError: division by zero"),
    ("my_task.py:leaves", "my_task.py:leaves failed: line 56: SystemExit: bye"),
    ("my_task.py:needs_more", "my_task.py:needs_more failed: TypeError: needs_more() missing 1 required positional"),
    ("my_task.py:returns_nothing", "my_task.py:returns_nothing must return a task, as in fl.Task.supervised(…), got a None"),
    ("my_task.py:with_nan", "X of the train part has 1 of 60 examples with NaN or infinite values (the first is number 7)"),
    ("my_task.py:labels_too_high", "the labels go from 5 to 6, but the model has 2 outputs, for the labels 0 to 1: "),
    ("my_task.py:labels_below_zero", "the labels go from -1 to 0, but the model has 2 outputs, for the labels 0 to 1: "),
    ("my_task.py:one_output", "the labels go from 0 to 1, but the model has 1 output"),
    ("my_task.py:empty", "the train part is empty: a task needs at least one example in each part"),
    ("my_task.py:other_inputs", "the model Linear of made does not take inputs "),
]  # fmt: skip

BAD_RULES = [
    ("adm", "no rule is called 'adm'; did you mean 'adam'?"),
    ("adam(lr=-1)", "adam(lr=-1): lr is the learning rate: the step for a direction of size 1 and must be at least 0; got -1"),
    ("adam(lr=1e999)", "adam(lr=inf): lr is the learning rate: the step for a direction of size 1 and must be a finite number"),
    ("adam(lr='fast')", "adam(lr='fast'): lr is the learning rate: the step for a direction of size 1, a number at least 0"),
    ("momentum(beta=1)", "momentum(beta=1): beta is a decay rate per step, the share of the past that is kept and must be in [0, 1)"),
    ("adam(lrr=0.1)", "adam takes lr, beta1, beta2, eps, got 'lrr'; did you mean 'lr'?"),
    ("adam(0.1, lr=0.1)", "adam takes lr, beta1, beta2, eps: multiple values for argument 'lr'"),
    ("adam(lr=", "'adam(lr=' is not a rule: write a name such as adam, or adam(lr=0.01)"),
    ("adam + sgd", "'adam + sgd' is not a rule: write a name such as adam, or adam(lr=0.01)"),
    ("adam(lr=small)", "'small' in 'adam(lr=small)' is not a number: write adam(lr=0.01)"),
    ("adam,,sgd", "--rules needs names separated by commas, as in sgd,adam; got 'adam,,sgd'"),
    ("", "--rules needs names separated by commas, as in sgd,adam; got ''"),
    ("sgd,sgd", "the rule sgd is given twice: give each arm once"),
    ("adam(lr=0.01),adam(lr=0.01, beta1=0.9)", "the rule adam(lr=0.01) is given twice: give each arm once"),
    ("clip_norm(1.0)", "clip_norm(max_norm=1) gives a direction uphill, not a step: end it with descend"),
    ("sgd(lr=(0.1, -1))", "a logarithmic axis needs values above 0, got -1: pass log=False"),
    ("adam(lr=(0.1, 1), beta1=(0.5, 0.9))", "adam has 2 axes (lr, beta1): a comparison tunes one number of each arm"),
]  # fmt: skip

BAD_OPTIONS = [
    (("--steps", "0"), "steps must be a whole number of at least 1, got 0"),
    (("--steps", "many"), "Invalid value for '--steps'"),
    (("--step", "5"), "No such option: --step (Possible options:"),
    (("--batch", "0"), "batch must be a whole number of at least 1, got 0"),
    (("--replicates", "1"), "replicates must be a whole number of at least 2, got 1"),
    (("--rates", "1"), "rates must be a whole number of at least 2, got 1"),
    (("--seeds", "501"), "seeds must be at most 500, got 501"),
    (("--seed", "-1"), "seed must be a whole number of at least 0, got -1"),
    (("--level", "95"), "level is a confidence level, from 0.5 up to 1, as in 0.95; got 95.0"),
    (("--target", "nan"), "target is a validation score, a finite number; got nan"),
    (("--minutes", "0"), "minutes must be a number above 0, got 0.0"),
    (("--minutes", "inf"), "minutes must be a number above 0, got inf"),
    (("--minutes", "1e-5"), "1e-05 minutes are too few: the smallest comparison that can be believed takes about 0.0"),
    (("--workers", "-1"), "workers must be a whole number, 0 to train in this process, got -1"),
    (("--executor", "fast"), "executor must be auto, traced, compiled or alone, or graphed on a GPU, got 'fast'"),
    (("--device", "tpu"), "device must be auto, cpu, cuda or cuda:1 (a GPU by its number), got 'tpu'"),
    (("--executor", "graphed", "--device", "cpu"), "executor='graphed' replays CUDA graphs and needs a GPU: ask for"),
    (("--out", "a_file"), "a_file is a file: --out needs a folder, for the store and the report"),
    (("--out", "a_file/below"), "the folder a_file/below cannot be made (Not a directory): choose another with --out"),
    (("--out", "new/" + "x" * 300), f"the folder new/{'x' * 300} cannot be made (File name too long): choose"),
    (("--baseline", "nothing.db"), "there is no store at nothing.db: give the file that a study wrote, such as study.db"),
    (("--baseline", "a_file"), "a_file is not a store: it begins with b'not a folder, an'"),
    (("--baseline", "cut.db"), "cut.db "),
]  # fmt: skip

BAD_LINES = [
    (("compere", "digits"), "No such command 'compere'. Did you mean 'compare'?; see fallline --help"),
    (("compare",), "Missing argument 'TASK'; see fallline compare --help"),
    (("compare", "digits", "digits", *SMALL), "tasks need names that tell them apart, got ['digits', 'digits']"),
    (("compare", "my_task.py:task", "my_task.py:regression", *SMALL), "all arms are scored by one metric, but these"),
    (("list", "rule"), "there is no list of 'rule'; did you mean 'rules'?"),
    (("init", "task.txt"), "task.txt must end in .py, as in my_task.py"),
    (("init", "my_task.py"), "my_task.py exists already: choose another name, or remove it first"),
    (("init", "a_file/my_task.py"), "a_file/my_task.py cannot be written (File exists): choose another place"),
    (("report", "nothing.db"), "there is no store at nothing.db: give the file that a study wrote, such as study.db"),
    (("report", "."), "there is no store at study.db: give the file that a study wrote, such as study.db"),
    (("report", "a_file"), "a_file is not a store: it begins with b'not a folder, an', expected b'SQLite format 3"),
    (("report", "empty.db"), "empty.db is empty (0 bytes), expected a store: run the study again"),
    (("report", "cut.db"), "cut.db "),
    (("report", "other.db"), "other.db is a database, but not a fallline store (application id 0x0"),
]  # fmt: skip

LINES = [
    *((("compare", task, *SMALL), told) for task, told in BAD_TASKS),
    *((("compare", "digits", *SMALL, "--rules", rules), told) for rules, told in BAD_RULES),
    *((("compare", "my_task.py", *SMALL, *options), told) for options, told in BAD_OPTIONS),
    *BAD_LINES,
]


@pytest.mark.parametrize(
    ("line", "told"), LINES, ids=[" ".join(w[:60] for w in line if w not in SMALL) for line, _ in LINES]
)
def test_bad_input_teaches(fallline: CommandLine, folder: Path, line: tuple[str, ...], told: str):
    before = written(folder)
    as_json = () if line[0] == "compere" else ("--json",)
    ended = fallline(*line, *as_json, cwd=folder)
    assert ended.err.startswith(f"fallline: {told}"), ended.err
    assert ended.err.count("\n") == 1, ended.err
    assert (ended.status, ended.out) == (2, "")
    assert written(folder) == before


def written(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


def test_without_a_verb_the_help_is_shown(fallline: CommandLine):
    ended = fallline()
    assert (ended.status, ended.out) == (2, "")
    assert re.search(r"Usage: fallline .*compare +Which rule.*report.*list.*init", ended.err, re.DOTALL)


def test_the_stack_is_shown_to_those_who_ask(fallline: CommandLine, monkeypatch: pytest.MonkeyPatch):
    assert "Traceback" in fallline("compare", "digit", FALLLINE_TRACEBACK="1").err


BREAKS = """
import numpy as np
from torch import nn

import fallline as fl

X = np.zeros((60, 4), dtype="float32")


class Net(nn.Linear):
    def forward(self, x):
        if self.training:
            raise ValueError("not in\\ntraining")
        return super().forward(x)


def task():
    return fl.Task.supervised(lambda: Net(4, 2), (X, np.arange(60) % 2), loss=fl.losses.cross_entropy)
"""


def test_code_that_breaks_in_training_is_told_in_a_sentence(fallline: CommandLine, folder: Path):
    (folder / "breaks.py").write_text(BREAKS)
    before = written(folder)
    ended = fallline("compare", "breaks.py", *SMALL, "--json", cwd=folder)
    assert "ValueError: not in training" in ended.err
    assert ended.err.startswith("fallline: ")
    assert ended.err.count("\n") == 1, ended.err
    assert (ended.status, ended.out) == (2, "")
    assert written(folder) == before
