"""A task by what people write."""

import os
import re
import sys

import pytest

from fallline.errors import BadTask, BadValue, NotFound
from fallline.tasks import BUILT_IN, find

GOOD = """
import numpy as np
from fallline import Task, layers, losses

X = np.random.default_rng(0).normal(size=(40, 3))


def task():
    return Task.supervised(lambda: layers.mlp(3, 2), (X, (X[:, 0] > 0).astype(int)), loss=losses.cross_entropy, name="NAME")
"""


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    """Leave no module and no folder behind."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("fallline_task_") or name.startswith("helper_of_"):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def refused(text, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        find(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_names(name):
    assert find(name).name == name


def test_a_file_and_a_function_in_it(write):
    path = write(GOOD + "\n\ndef other():\n    return task()\n")
    assert find(f"{path}:task").name == "NAME"
    assert find(str(path)).name == "NAME"
    assert find(f"{path}:other").size("train") == 24


def test_a_file_is_read_again_once_it_has_changed(write):
    path = write(GOOD)
    assert find(str(path)).name == "NAME"
    write(GOOD.replace("NAME", "changed"))
    assert find(str(path)).name == "changed"
    stamp = path.stat()
    write(GOOD.replace("NAME", "altered"))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert find(str(path)).name == "altered"


def test_a_file_imports_what_lies_beside_it(write):
    write("NAME = 'from beside'\n", "helper_of_mine.py")
    path = write("from helper_of_mine import NAME\n" + GOOD.replace('"NAME"', "NAME"))
    assert find(str(path)).name == "from beside"


def test_two_tasks_each_import_their_own_file_of_one_name(tmp_path):
    for folder, package in (("old", False), ("new", False), ("newest", True)):
        (tmp_path / folder).mkdir()
        inner = tmp_path / folder / "helper_of_two"
        if package:
            inner.mkdir()
        helper = inner / "__init__.py" if package else inner.with_suffix(".py")
        helper.write_text(f"NAME = {folder!r}\n", encoding="utf-8")
        text = "from helper_of_two import NAME\n" + GOOD.replace('"NAME"', "NAME")
        (tmp_path / folder / "mine.py").write_text(text, encoding="utf-8")
    for folder in ("old", "new", "newest", "old", "newest"):
        assert find(str(tmp_path / folder / "mine.py")).name == folder
    later = "def task():\n    from helper_of_two import NAME\n    raise ValueError(NAME)\n"
    for folder in ("old", "newest", "new"):
        (tmp_path / folder / "later.py").write_text(later, encoding="utf-8")
        refused(str(tmp_path / folder / "later.py"), BadTask, f"line 3: ValueError: {folder}$")


def test_a_relative_path(write, monkeypatch):
    path = write(GOOD)
    monkeypatch.chdir(path.parent)
    assert find("mine.py").name == find("./mine.py:task").name == "NAME"


def test_names_that_do_not_exist(write, tmp_path):
    name = next(iter(BUILT_IN))
    refused(
        name[:-1],
        NotFound,
        rf"^no task is called '{name[:-1]}'; did you mean '{name}'\? \(a task of your own is path/",
    )
    refused("zzz", NotFound, rf"^no task is called 'zzz'; known: .*{name}")
    refused("", NotFound, "^no task is called ''; known: ")
    write(GOOD)
    refused(
        f"{tmp_path}/mein.py:task",
        NotFound,
        rf"^there is no file {re.escape(str(tmp_path))}/mein.py; did you mean 'mine.py",
    )
    refused(f"{tmp_path}/mine.py:tsk", NotFound, r"mine.py has no function 'tsk'; did you mean 'task'\?$")
    refused(f"{tmp_path}/mine.py:X", NotFound, r"mine.py has no function 'X'; known: task$")
    refused(
        "/nowhere/mine.py", NotFound, r"^there is no file /nowhere/mine.py; there is no .py file in /nowhere$"
    )
    (tmp_path / "empty").mkdir()
    refused(f"{tmp_path}/empty/mine.py", NotFound, r"; there is no .py file in .*empty$")
    refused(str(write("", "blank.py")), NotFound, r"blank.py has no function 'task'; it defines none$")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import numpy\n\ndef task(:\n", r"mine.py cannot be imported: line 3: "),
        ("x = 1\ny = x / 0\n", r"mine.py cannot be imported: line 2: ZeroDivisionError: division by zero$"),
        (
            "import nothing_of_this_name\n",
            r"cannot be imported: line 1: ModuleNotFoundError: No module named 'nothing_of_",
        ),
        ("raise SystemExit(3)\n", r"mine.py cannot be imported: line 1: SystemExit: 3$"),
        ("def task():\n    a = {}\n    return a['b']\n", r"mine.py:task failed: line 3: KeyError: 'b'$"),
        ("def task():\n    raise ValueError\n", r"mine.py:task failed: line 2: ValueError: no message$"),
        ("def task():\n    raise ValueError('two\\n  lines')\n", r"failed: line 2: ValueError: two lines$"),
        ("def task():\n    exit(1)\n", r"mine.py:task failed: line 2: SystemExit: 1$"),
        ("def task(size):\n    pass\n", r"mine.py:task failed: TypeError: task\(\) missing 1 required"),
        ("def task():\n    return 3\n", r"must return a task, as in fl.Task.supervised\(…\), got a int$"),
        ("class task:\n    pass\n", r"must return a task, .*, got a task$"),
    ],
)
def test_files_that_fail(write, text, sentence):
    refused(f"{write(text)}:task", BadTask, sentence)
    refused(f"{write(text)}:task", BadTask, sentence)  # and the second time too


def test_a_sentence_of_our_own_is_passed_on(write):
    path = write("from fallline import layers\n\ndef task():\n    return layers.mlp(3)\n")
    refused(str(path), BadValue, "^mlp needs at least two widths")
    refused(
        str(write("from fallline import layers\nlayers.mlp(3)\n", "other.py")),
        BadValue,
        "^mlp needs at least two",
    )


def test_an_interrupt_is_not_an_error(write):
    for text in ("raise KeyboardInterrupt\n", "def task():\n    raise KeyboardInterrupt\n"):
        with pytest.raises(KeyboardInterrupt):
            find(str(write(text)))


def test_a_failure_in_a_file_beside_it(write):
    write("def make():\n    return 1 / 0\n", "helper_of_failing.py")
    path = write("from helper_of_failing import make\n\n\ndef task():\n    return make()\n")
    refused(str(path), BadTask, r"mine.py failed: line 5: ZeroDivisionError: division by zero$")
    write("def make(:\n", "helper_of_broken.py")
    refused(
        str(write("import helper_of_broken\n", "third.py")),
        BadTask,
        "cannot be imported: helper_of_broken.py, line 1: ",
    )
