"""Find a task by what people write: a built-in name, ``path/file.py:function``, or data as in ``data.csv:target``."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import BadTask, FalllineError, NotFound, nearest
from .base import Task
from .sources import local
from .tabular import adult, breast_cancer, diabetes, iris, wine
from .text import stdlib_text
from .vision import cifar10, digits, fashion_mnist, mnist

BUILT_IN: dict[str, Callable[[], Task]] = {
    "digits": digits, "iris": iris, "wine": wine, "breast_cancer": breast_cancer, "diabetes": diabetes,
    "stdlib_text": stdlib_text,
}  # fmt: skip
"""Tasks whose data every machine has."""
FETCHED: dict[str, Callable[[], Task]] = {
    "mnist": mnist, "fashion_mnist": fashion_mnist, "cifar10": cifar10, "adult": adult,
}  # fmt: skip
"""Tasks whose data are fetched from OpenML when they are first asked for."""


def find(text: str) -> Task:
    """The task for a built-in name, a function in a file (``my_task.py:task``) or data (``data.csv:target``)."""
    path, _, function = text.rpartition(":") if ".py:" in text else (text, "", "task")
    if path.endswith(".py"):
        return _called(text, Path(path), _function(Path(path), function))
    known = {**BUILT_IN, **FETCHED}
    if text in known:
        return known[text]()
    data = local.named(text)
    if data is not None:
        path, target = data
        return local.from_file(path, target=target) if target else local.from_file(path)
    raise NotFound(
        f"no task is called {text!r}; {nearest(text, known)} (a task of your own is path/file.py:function, or data as in "
        "data.csv:target)"
    )


def _function(path: Path, function: str) -> Callable[[], Any]:
    if not path.is_file():
        beside = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        hint = nearest(path.name, beside) if beside else f"there is no .py file in {path.parent}"
        raise NotFound(f"there is no file {path}; {hint}")
    module = _imported(path)
    found = getattr(module, function, None)
    if not callable(found):
        known = [k for k, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
        hint = nearest(function, known) if known else "it defines none"
        raise NotFound(f"{path} has no function {function!r}; {hint}")
    return found


def _imported(path: Path) -> ModuleType:
    """The module in a file; imported once, and again when the file has changed."""
    stamp = path.stat()
    name = f"fallline_task_{path.stem}_{abs(hash((path.resolve(), stamp.st_mtime_ns, stamp.st_size))):x}"
    _beside(path.resolve().parent)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name)
        if isinstance(error, (FalllineError, KeyboardInterrupt)):
            raise
        raise BadTask(f"{path} cannot be imported: {_where(path, error)}") from error
    return module


_FOLDERS: set[Path] = set()
"""Where tasks were found."""


def _beside(folder: Path) -> None:
    """Let a file import what lies beside it, as when it is run, and no namesake that lies beside another task."""
    sys.path[:] = [str(folder), *(place for place in sys.path if place != str(folder))]
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "?")
        home = file.parent.parent if file.name == "__init__.py" else file.parent
        if "." in name or home == folder or home not in _FOLDERS:
            continue
        if (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file():
            for inner in [n for n in sys.modules if n == name or n.startswith(f"{name}.")]:
                sys.modules.pop(inner)
    _FOLDERS.add(folder)


def _called(text: str, path: Path, function: Callable[[], Any]) -> Task:
    try:
        task = function()
    except (FalllineError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a SystemExit too: it would end the comparison without a word
        raise BadTask(f"{text} failed: {_where(path, error)}") from error
    if not isinstance(task, Task):
        raise BadTask(f"{text} must return a task, as in fl.Task.supervised(…), got a {type(task).__name__}")
    return task


def _where(path: Path, error: BaseException) -> str:
    """What went wrong, and in which line of the user's file, in one line of text."""
    if isinstance(error, SyntaxError):
        file = Path(error.filename or path).name
        return f"{'' if file == path.name else file + ', '}line {error.lineno}: {error.msg}"
    lines = [
        f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).name == path.name
    ]
    place = f"line {lines[-1]}: " if lines else ""
    return f"{place}{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
