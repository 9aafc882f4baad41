"""Habits that keep tests honest and text in one voice; each check names the file and the line."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fallline import losses, schedules, specs
from fallline.rules import base
from fallline.specs import Loss, Rule, Schedule

ROOT = Path(__file__).resolve().parent.parent
THIS = Path(__file__).resolve()
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if path != THIS)
SOURCE = sorted((ROOT / "src").rglob("*.py"))
TEXT = [*TESTS, *SOURCE, *sorted((ROOT / "examples").glob("*.py")), *sorted(ROOT.glob("*.md"))]
TEXT += [*sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "benchmarks").glob("*.py"))]

BRITISH = re.compile(
    r"\b(?:\w*(?:behavi|col|neighb|fav|hon|lab)our\w*|grey|centre[ds]?|metres?|analyse[drs]?|catalogue|modell\w+"
    r"|labell(?!edby)\w+|travell\w+|programme|\w*(?:normal|initial|regular|general|visual|vector|parallel|serial|factor|organ"
    r"|recogn|summar|minim|maxim|optim|random|final|penal|special|emphas)is(?:e[drs]?|ing|ation\w*))\b",
    re.IGNORECASE,
)


def calls(path: Path) -> Iterator[tuple[int, str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func), node


def restless(path: Path) -> Iterator[str]:
    """Sleeps, and random numbers that are not the same each time."""
    for line, name, call in calls(path):
        if name.split(".")[-1] == "sleep":
            yield f"{path.name}:{line} sleeps: wait for a sign instead"
        if name.endswith("default_rng") and not call.args:
            yield f"{path.name}:{line} draws from an unseeded generator: use the fixture rng, or a fixed seed"
        if "seed" in name and any("time" in ast.unparse(argument) for argument in call.args):
            yield f"{path.name}:{line} takes a seed from the clock"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import) and any(name.name == "random" for name in node.names):
            yield f"{path.name}:{node.lineno} imports random: use numpy's generators with a fixed seed"


def counted(path: Path) -> Iterator[str]:
    """A number of members that is written down: it breaks with the next member."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare) and re.match(
            r"len\(.*(kinds\(|__all__|named\(|BUILT_IN|KINDS)", ast.unparse(node)
        ):
            right = node.comparators[0]
            if isinstance(right, ast.Constant) and right.value not in (0, 1):
                yield f"{path.name}:{node.lineno} counts members: {ast.unparse(node)}"


def named(path: Path, members: set[str]) -> Iterator[str]:
    """Members that a contract battery knows by name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and node.value in members:
            yield f"{path.name}:{node.lineno} knows the member {node.value!r}"


def test_tests_neither_sleep_nor_gamble():
    assert not [found for path in TESTS for found in restless(path)]


def test_tests_count_no_members():
    assert not [found for path in TESTS for found in counted(path)]


def test_batteries_know_no_member():
    members = {kind for kind in specs.kinds(Rule) if base.behavior(Rule(kind)).named} | set(
        specs.kinds(Schedule)
    )
    members |= {kind for kind in specs.kinds(Loss) if hasattr(losses, kind)}
    assert {"adam"} <= members <= {*specs.kinds(Rule), *specs.kinds(Schedule), *specs.kinds(Loss)}
    assert schedules.cosine.__name__ in members
    batteries = [path for path in TESTS if path.name.endswith("_checks.py")]
    assert batteries
    assert not [found for path in batteries for found in named(path, members)]


def test_the_spelling_is_american():
    found = [
        f"{path.relative_to(ROOT)}:{number} {word}"
        for path in TEXT
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for word in BRITISH.findall(line)
    ]
    assert not found, "\n".join(found)


def test_nothing_is_left_undone_in_the_source():
    marks = re.compile(r"\b(TODO|FIXME|XXX)\b|\bbreakpoint\(|\bpdb\b")
    found = [
        f"{path.relative_to(ROOT)}:{number} {line.strip()}"
        for path in SOURCE
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if marks.search(line)
    ]
    assert not found, "\n".join(found)


def test_only_the_command_line_prints():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCE
        if path.parent.name != "cli"
        for line, name, _ in calls(path)
        if name == "print"
    ]
    assert not found, "\n".join(found)


def test_no_built_file_is_tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    bad = re.compile(r"(^|/)(__pycache__|fallline-out|\.venv|\.hypothesis)/|\.(pyc|db|egg-info)$")
    assert not [name for name in listed.stdout.splitlines() if bad.search(name)]


# --- the checks are right ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "import time\ntime.sleep(1)",
        "from time import sleep\nsleep(0.1)",
        "import random",
        "rng = np.random.default_rng()",
        "generator.manual_seed(int(time.time()))",
    ],
)
def test_what_gambles_is_found(tmp_path: Path, text: str):
    (tmp_path / "test_planted.py").write_text(text)
    assert list(restless(tmp_path / "test_planted.py"))


def test_what_counts_or_knows_members_is_found(tmp_path: Path):
    path = tmp_path / "test_planted.py"
    path.write_text(
        "assert len(specs.kinds(Rule)) == 7\nassert len(rules.__all__) > 3\nif kind == 'adam':\n    pass"
    )
    assert len(list(counted(path))) == 2
    assert list(named(path, {"adam"})) == ["test_planted.py:3 knows the member 'adam'"]


def test_british_spelling_is_found():
    assert BRITISH.findall("the behaviour of a Normalised colour, labelled grey; optimisation")
    assert not BRITISH.findall(
        "otherwise noise, promise, precise, a raised exercise, hours, four, wise, minimizes"
    )
