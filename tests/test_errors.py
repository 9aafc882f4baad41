"""Errors: every sentence that fallline can raise is asserted by a test, and every error survives a worker's pipe.

The checker reads the source. It finds each place where an error gets its sentence, takes the sentence apart into the
text that is always there and the holes that values fill, and looks for a text in the tests (a ``match=``, an asserted
sentence) that quotes it at length and quotes no other sentence better.
"""

from __future__ import annotations

import ast
import inspect
import pickle
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fallline import errors
from fallline.errors import FalllineError, nearest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "fallline"
TREE = sorted(
    name
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, FalllineError)
)

BUILT_IN = {
    ("__init__.py", "AttributeError"),  # what Python expects of a module without this name
    ("optim/clip_grad.py", "RuntimeError"),  # torch's own, in torch's own words
    ("rng/replaced.py", "ValueError"),  # the same
    ("losses/base.py", "NotImplementedError"),  # cannot be reached through any public function
}
"""Where an error of Python's own is raised on purpose; no sentence of ours to be asserted."""

HOLE = "\0"
GRAM = 8
ENOUGH, SHARE = 17, 0.8
"""Characters of a sentence's fixed text that a test must quote in one piece, or this share of shorter text."""


@dataclass(frozen=True)
class Sentence:
    """One place where an error gets its sentence: fixed text, with holes where values go."""

    file: str
    line: int
    error: str
    text: str

    @property
    def longest(self) -> int:
        return max(map(len, self.text.split(HOLE)))

    def grams(self) -> set[str]:
        return {g for piece in self.text.split(HOLE) for g in grams(piece)}

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.error}: {self.text.replace(HOLE, '…')}"


def grams(text: str) -> list[str]:
    return [text[i : i + GRAM] for i in range(len(text) - GRAM + 1)]


# --- the sentences of the source ----------------------------------------------------------------------------


def parsed(folder: Path) -> dict[str, ast.Module]:
    return {
        str(path.relative_to(folder)): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*.py"))
    }


def sentences(folder: Path) -> list[Sentence]:
    """Every sentence that an error of a source tree can be given."""
    modules = parsed(folder)
    raisers = dict(_raisers(modules.values()))
    makers = {
        node.name: node
        for tree in modules.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    found = []
    for file, tree in modules.items():
        for function, node in _calls(tree):
            error, place = _names_error(node, raisers)
            if error is None or len(node.args) <= place:
                continue
            for text in _texts(node.args[place], function, makers):
                if any(len(piece) >= GRAM for piece in text.split(HOLE)):
                    found.append(Sentence(file, node.lineno, error, text))
    return found


def _names_error(node: ast.Call, raisers: dict[str, int]) -> tuple[str | None, int]:
    """The name of the error that a call makes or raises, and which of its arguments is the sentence."""
    name = ast.unparse(node.func).split(".")[-1]
    if name in TREE or (name.endswith(("Error", "Exception")) and name[0].isupper()):
        return name, 0
    return (name, raisers[name]) if name in raisers else (None, 0)


def _raisers(modules: Iterable[ast.Module]) -> Iterator[tuple[str, int]]:
    """Functions that raise an error with a sentence that they are given, and the place of that argument."""
    for tree in modules:
        for function, node in _calls(tree):
            if (
                ast.unparse(node.func) in TREE
                and node.args
                and isinstance(node.args[0], ast.Name)
                and function
            ):
                names = [argument.arg for argument in function.args.args]
                if node.args[0].id in names:
                    yield function.name, names.index(node.args[0].id)


def _calls(
    tree: ast.AST, function: ast.FunctionDef | None = None
) -> Iterator[tuple[ast.FunctionDef | None, ast.Call]]:
    """Every call, with the function that it stands in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call):
            yield function, node
        yield from _calls(node, node if isinstance(node, ast.FunctionDef) else function)


def _texts(
    node: ast.expr, function: ast.FunctionDef | None, makers: dict[str, ast.FunctionDef], depth: int = 0
) -> list[str]:
    """The texts that an expression can be; what is not text in the source is a hole."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return ["".join(p.value if isinstance(p, ast.Constant) else HOLE for p in node.values)]  # type: ignore[misc]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [
            left + right
            for left in _texts(node.left, function, makers, depth)
            for right in _texts(node.right, function, makers, depth)
        ]
    if isinstance(node, ast.IfExp):
        return [t for side in (node.body, node.orelse) for t in _texts(side, function, makers, depth)]
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in makers
        and depth < 3
    ):
        made = makers[node.func.id]
        returned = [n.value for n in ast.walk(made) if isinstance(n, ast.Return) and n.value is not None]
        return [t for value in returned for t in _texts(value, made, makers, depth + 1)] or [HOLE]
    if isinstance(node, ast.Name) and function is not None and depth < 3:
        given = [
            n.value
            for n in ast.walk(function)
            if isinstance(n, ast.Assign)
            and any(isinstance(t, ast.Name) and t.id == node.id for t in n.targets)
        ]
        return [t for value in given for t in _texts(value, function, makers, depth + 1)] or [HOLE]
    return [HOLE]


# --- what the tests quote -----------------------------------------------------------------------------------


def quotes(folder: Path) -> set[str]:
    """Every text in the tests but docstrings, with the marks of regular expressions taken out."""
    found: set[str] = set()
    for file, tree in parsed(folder).items():
        if file == Path(__file__).name:
            continue
        spoken = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in spoken:
                found.add(plain(node.value))
    return found


def plain(pattern: str) -> str:
    """The text that a regular expression quotes: escapes undone, wildcards as holes."""
    pattern = re.sub(r"\\[dwsDWS][*+?]?|\.[*+]\??|\[[^\]]*\][*+?]", HOLE, pattern)
    return re.sub(r"\\(.)", r"\1", pattern).strip("^$")


def unasserted(source: Path, tests: Path) -> list[Sentence]:
    """The sentences that no test quotes."""
    known = sentences(source)
    holders: dict[str, set[int]] = defaultdict(set)
    for i, sentence in enumerate(known):
        for gram in sentence.grams():
            holders[gram].add(i)
    asserted: set[int] = set()
    for quote in quotes(tests):
        longest: dict[int, int] = {}
        running: dict[int, int] = {}
        for gram in grams(quote):
            running = {i: running.get(i, GRAM - 1) + 1 for i in holders.get(gram, ())}
            longest.update({i: max(n, longest.get(i, 0)) for i, n in running.items()})
        # text that fills a hole can look like a scrap of another sentence: only those quoted at length compete
        rivals = {i: n for i, n in longest.items() if n >= min(ENOUGH, SHARE * known[i].longest)}
        asserted.update(i for i, n in rivals.items() if n == max(rivals.values()))
    return [sentence for i, sentence in enumerate(known) if i not in asserted]


def test_every_sentence_is_asserted():
    lacking = [s for s in unasserted(SOURCE, ROOT / "tests") if (s.file, s.error) not in BUILT_IN]
    assert not lacking, "\n".join(["no test asserts these sentences:", *map(str, lacking)])


def test_errors_raised_on_purpose_are_of_the_tree():
    strange = {
        (s.file, s.error): s for s in sentences(SOURCE) if s.error.endswith("Error") and s.error not in TREE
    }
    assert set(strange) <= BUILT_IN, "\n".join(str(s) for key, s in strange.items() if key not in BUILT_IN)


# --- the checker is right -----------------------------------------------------------------------------------

PLANTED = '''
def check(name, value, known):
    if value is None:
        raise BadValue(f"{name} must be given a value, got {value!r}; {nearest(name, known)}")
    if value < 0:
        raise BadValue(f"{name} must be at least 0, " + f"got {value:g}")
    refuse(name not in known, f"no thing is called {name!r}")
    text = "the file is damaged: restore it" if value else "the file is empty: write it again"
    raise BadStore(text) from None


def refuse(wrong, sentence):
    if wrong:
        raise BadStore(sentence)


class Pool:
    def lost(self):
        return WorkerLost(why("memory"))


def why(what):
    """Raise BadValue("this is only said")."""
    return f"a worker ran out of {what}"
'''


def planted(folder: Path, test: str) -> list[int]:
    """The lines of planted sentences that a planted test does not assert."""
    (folder / "src").mkdir()
    (folder / "tests").mkdir()
    (folder / "src" / "planted.py").write_text(PLANTED)
    (folder / "tests" / "test_planted.py").write_text(test)
    return [sentence.line for sentence in unasserted(folder / "src", folder / "tests")]


def test_the_checker_finds_every_sentence(tmp_path: Path):
    assert planted(tmp_path, "") == [4, 6, 7, 9, 9, 19]


def test_the_checker_takes_what_quotes_a_sentence(tmp_path: Path):
    test = r'''
"""an expression alone, such as this docstring, asserts nothing: no thing is called 'x'"""
raises(BadValue, match=r"lr must be given a value, got None; did you mean 'l_r'\?")
raises(BadValue, match="must be at least 0")
assert str(error) == "the file is damaged: restore it"
raises(WorkerLost, match=r"a worker ran out of .*")
'''
    assert planted(tmp_path, test) == [7, 9]


def test_the_checker_takes_no_scraps_and_no_better_quote_of_another(tmp_path: Path):
    assert planted(tmp_path, 'match="must be"\nmatch="must be given a value, got 3"\n') == [6, 7, 9, 9, 19]


# --- the errors themselves ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TREE)
def test_an_error_survives_a_pipe_and_is_what_python_expects(name: str):
    error = getattr(errors, name)
    again = pickle.loads(pickle.dumps(error("what came, and what was expected")))
    assert type(again) is error
    assert str(again) == "what came, and what was expected"
    assert error.__doc__
    if error is not FalllineError:
        also = next(base for base in error.__bases__ if base is not FalllineError)
        assert re.search(rf"── {name} .*\(also an? {also.__name__}\)", errors.__doc__ or "")


def test_the_nearest_name_is_told():
    assert nearest("ADAM", ["adam", "sgd"]) == "did you mean 'adam'?"
    assert nearest("lrr", ["lr", "beta1"]) == "did you mean 'lr'?"
    assert nearest("banana", ["sgd", "adam"]) == "known: adam, sgd"
    assert nearest("banana", []) == "there are none"
