"""What is written is true: every example runs, every argument is described, every command works as printed."""

from __future__ import annotations

import ast
import doctest
import functools
import importlib
import inspect
import re
import runpy
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fallline as fl
from command_line import CommandLine
from fallline import layers, losses, registry, rules, schedules, specs
from fallline.specs import Loss, Rule, Schedule
from fallline.tasks.find import BUILT_IN, FETCHED

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "fallline"
PAGES = sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SMALL = {"steps": 10, "replicates": 2, "rates": 2, "seeds": 1, "workers": 0}
"""Comparisons in pages and examples are made small through arguments that everyone has."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the examples in it, small comparisons, and no trace of rules and losses that pages define."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    rows = "\n".join(f"{i % 7},{i % 5},{'even' if i % 2 else 'odd'}" for i in range(60))
    (tmp_path / "data.csv").write_text(f"first,second,target\n{rows}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_behaviors", dict(registry._behaviors))
    original = fl.compare

    @functools.wraps(original)
    def small(*given: Any, **options: Any) -> Any:
        return original(*given, **{**SMALL, **options})

    monkeypatch.setattr(fl, "compare", small)
    return tmp_path


# --- examples in docstrings -------------------------------------------------------------------------------


def examples() -> Iterator[Any]:
    """Every text in the source that shows a prompt: docstrings, and what becomes one."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and ">>> " in node.value:
                place = f"{path.relative_to(SOURCE)}:{node.lineno}"
                yield pytest.param(path, node.lineno, inspect.cleandoc(node.value), id=place)


@pytest.mark.parametrize(("path", "line", "text"), list(examples()))
def test_an_example_in_a_docstring_runs(place: Path, path: Path, line: int, text: str):
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    test = doctest.DocTestParser().get_doctest(text, dict(vars(module)), parts[-1], str(path), line)
    told: list[str] = []
    doctest.DocTestRunner().run(test, out=told.append)
    assert not told, "".join(told)


# --- pages and files --------------------------------------------------------------------------------------


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def test_there_is_a_page_to_begin_with():
    assert {"README.md", "CONTRIBUTING.md"} <= {page.name for page in PAGES}
    assert blocks(ROOT / "README.md", "python")
    assert any("fallline compare" in block for block in blocks(ROOT / "README.md", "sh"))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name
)
def test_the_python_of_a_page_runs(place: Path, page: Path):
    """From top to bottom, as one program."""
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page, "python"):
        exec(compile(block, f"{page.name}: {block.splitlines()[0]}", "exec"), names)


def commands(text: str) -> list[str]:
    """The command lines in a text, without their comments."""
    return [line.split("#")[0].strip() for line in text.splitlines() if line.split("#")[0].strip()]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=lambda page: page.name)
def test_the_commands_of_a_page_work(fallline: CommandLine, place: Path, page: Path):
    for line in commands("".join(blocks(page, "sh"))):
        if line.startswith("scripts/"):
            script = ROOT / line.split()[0]
            assert script.is_file(), line
            assert script.stat().st_mode & 0o100, line
        else:
            works(fallline, line)


def works(fallline: CommandLine, line: str) -> None:
    """Run ``fallline …`` as printed, made small; OLD stands for the folder of an earlier comparison."""
    program, *words = shlex.split(line)
    if program != "fallline":
        return
    if words[0] == "compare":
        words += [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
        words += [] if "--rules" in words else ["--rules", "sgd"]
        words += [] if Path("OLD").exists() else ["--out", "OLD"]
    ended = fallline(*words, cwd=Path.cwd())
    assert ended.status == 0 or (ended.status == 1 and "--baseline" in words), f"{line}\n{ended.err}"
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs_and_does_what_it_says(
    fallline: CommandLine, place: Path, path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fl.fleet, "run", functools.partial(few_steps, fl.fleet.run))
    runpy.run_path(str(place / "examples" / path.name), run_name="__main__")
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert said, "an example begins by saying what it shows"
    for line in (line.strip() for line in said.splitlines()):
        if line.startswith("fallline "):
            works(fallline, commands(line)[0])


def few_steps(train: Callable[..., Any], task: fl.Task, runs: Any, *, steps: int, **options: Any) -> Any:
    """Fleets of examples train no longer than it takes to see that they do."""
    return train(task, runs, steps=min(steps, 3), **options)


# --- arguments --------------------------------------------------------------------------------------------


def described(text: str) -> list[str]:
    """The names under ``Args:``, in order; several may share a line, as in ``low, high: the ends``."""
    found = re.search(r"^Args:\n((?:[ ]{4}.*\n|\n)*)", inspect.cleandoc(text) + "\n", re.MULTILINE)
    entries = re.findall(r"^    ([*\w]+(?:, [*\w]+)*):", found[1], re.MULTILINE) if found else []
    return [name for entry in entries for name in entry.split(", ")]


def parameters(signature: inspect.Signature) -> list[str]:
    marks = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return [marks.get(p.kind, "") + name for name, p in signature.parameters.items()]


def members() -> Iterator[Any]:
    """Everything that a user picks by name, with the arguments that it has."""
    for kind in specs.kinds(Rule):
        make = rules.base.behavior(Rule(kind)).make
        yield pytest.param(make.__doc__, parameters(inspect.signature(make)), id=f"rules.{kind}")
    for kind in specs.kinds(Schedule):
        make = getattr(schedules, kind)
        yield pytest.param(make.__doc__, parameters(inspect.signature(make)), id=f"schedules.{kind}")
    for kind in (kind for kind in specs.kinds(Loss) if hasattr(losses, kind)):
        behavior = specs.behavior(Loss(kind))
        yield pytest.param(
            behavior.function.__doc__, [*behavior.domains, *behavior.options], id=f"losses.{kind}"
        )
    for name, make in {**functions_of(layers), **BUILT_IN, **FETCHED}.items():
        yield pytest.param(
            make.__doc__, parameters(inspect.signature(make)), id=f"{make.__module__.split('.')[1]}.{name}"
        )


def functions_of(module: Any) -> dict[str, Callable[..., Any]]:
    return {
        name: value
        for name, value in vars(module).items()
        if callable(value)
        and f"{getattr(value, '__module__', '')}.".startswith(f"{module.__name__}.")
        and not name.startswith("_")
    }


def public() -> Iterator[Any]:
    """What ``fl`` itself gives, but for the families, and the ways to make a task and to run a fleet."""
    given = {name: getattr(fl, name) for name in fl.__all__ if not inspect.ismodule(getattr(fl, name))}
    given |= {"Task.supervised": fl.Task.supervised, "fleet.run": fl.fleet.run, "fleet.Fleet": fl.fleet.Fleet}
    pruning = ("halving", "hyperband", "median_rule", "patience", "population", "pruned")
    given |= {f"fleet.{name}": getattr(fl.fleet, name) for name in pruning}
    given |= {f"optim.{name}": getattr(fl.optim, name) for name in fl.optim.__all__}
    for name, thing in given.items():
        if not (inspect.isclass(thing) and issubclass(thing, (Exception, fl.Store))):
            yield pytest.param(thing.__doc__, parameters(inspect.signature(thing)), id=name)


@pytest.mark.parametrize(("text", "arguments"), list(public()))
def test_a_public_name_describes_its_arguments(text: str | None, arguments: list[str]):
    assert text
    assert sorted(described(text)) == sorted(arguments)


@pytest.mark.parametrize(("text", "arguments"), list(members()))
def test_a_member_says_what_it_is(text: str | None, arguments: list[str]):
    """What it computes, each argument, an example that runs, and where it comes from."""
    assert text
    first = text.split("\n\n")[0]
    assert first.strip().endswith((".", ":")), first
    assert sorted(described(text)) == sorted(arguments)
    assert ">>> " in text
    assert re.search(r"^ *Source: \S", text, re.MULTILINE)


def documented() -> Iterator[Any]:
    """Functions and classes whose docstring lists arguments, with those that they have."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or "Args:" not in (
                ast.get_docstring(node) or ""
            ):
                continue
            made = {
                ast.unparse(d.func).split(".")[-1] for d in node.decorator_list if isinstance(d, ast.Call)
            }
            if made & {"per_tensor", "whole_tree", "around", "asking", "schedule", "define"}:
                continue  # the arguments are those of what the decorator makes; see members
            place = f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}"
            yield pytest.param(ast.get_docstring(node), own(node), id=place)


def own(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    """The arguments of a function, the fields of a dataclass, or the arguments of a class's ``__init__``."""
    if isinstance(node, ast.ClassDef):
        begin = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        return own(begin[0]) if begin else [n.target.id for n in node.body if isinstance(n, ast.AnnAssign)]  # type: ignore[union-attr]
    a = node.args
    names = [arg.arg for arg in (*a.posonlyargs, *a.args)]
    names += [f"*{a.vararg.arg}"] if a.vararg else []
    names += [arg.arg for arg in a.kwonlyargs] + ([f"**{a.kwarg.arg}"] if a.kwarg else [])
    return [name for name in names if name not in ("self", "cls")]


@pytest.mark.parametrize(("text", "arguments"), list(documented()))
def test_the_arguments_described_are_those_that_exist(text: str, arguments: list[str]):
    assert sorted(described(text)) == sorted(arguments)


# --- the checks are right ---------------------------------------------------------------------------------


def test_described_reads_what_is_written():
    text = """Do it.

    Args:
        low, high: the ends,
            of two lines.
        *rest: more.

            with: a colon further in.
        **options: others.

    Returns:
        nothing: at all.
    """
    assert described(text) == ["low", "high", "*rest", "**options"]
    assert described("Do it.") == []


def test_an_example_that_is_wrong_is_told(place: Path):
    path = SOURCE / "errors.py"
    with pytest.raises(AssertionError, match=r"Expected:\s+3\s+Got:\s+2"):
        test_an_example_in_a_docstring_runs(place, path, 1, ">>> 1 + 1\n3\n")
