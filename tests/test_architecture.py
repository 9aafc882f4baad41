"""The import law: imports point to a lower level, and what reads reports never loads torch.

The law is a table; the checker reads the source, so an import counts wherever it stands: at the top, in a function,
or for type checking only. It names the offender: file, line, what it imports, and both levels.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "fallline"

LEVELS: tuple[tuple[str, ...], ...] = (
    (
        "errors",
        "domains",
        "registry",
        "specs",
        "records",
        "store",
        "store_file",
        "figure",
        "types",
        "tree",
        "rng",
        "native",
    ),
    ("rules", "schedules", "losses", "layers"),
    ("optim", "tasks"),
    ("probes", "landscapes"),
    ("fleet",),
    ("studies",),
    ("doctor", "reports"),
    ("verbs",),
    ("cli", "studio", "__main__"),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}

PLAIN = {"errors", "domains", "registry", "specs", "records", "store", "store_file", "figure"}
"""What has no torch in it, and all that stands below ``reports`` and ``doctor``."""
ABOVE_THE_LINE = {"doctor", "reports"}
BESIDE = {0, 8}
"""Levels on which modules may import each other; on all others they are blind to each other."""
TORCH = {"torch", "torchvision", "safetensors"}
BY_TEXT = {"registry.py", "rules/reference/__init__.py", "studies/lecture/__init__.py"}
"""Where a module may be imported by a name that is computed: custom kinds, slow twins, and studies."""

GUIDE = 300
LONGER: dict[str, int] = {
    "store.py": 321,
    "studies/judge.py": 311,
    "studies/protocol.py": 318,
}
"""Files above the guide size, with their lines: an entry may shrink or go, and never grow."""


@dataclass(frozen=True)
class Import:
    """One import statement: where it stands, and what it names, as ``fallline.rules.base`` or ``torch.nn``."""

    file: str
    line: int
    target: str
    lazy: bool


def files(source: Path) -> list[Path]:
    return sorted(p for p in source.rglob("*.py") if p.relative_to(source).parts != ("__init__.py",))


def imports(source: Path, path: Path) -> Iterator[Import]:
    """Every import of a file; a name imported from a package is followed to its module where it is one."""
    here = ("fallline", *path.relative_to(source).with_suffix("").parts)
    package = here[:-1]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *((node.module,) if node.module else ())))
            targets = [
                f"{module}.{name.name}"
                if is_module(source, f"{module}.{name.name}") or module == "fallline"
                else module
                for name in node.names
            ]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
            "import_module",
            "__import__",
        ):
            targets = [named_by(node, package)]
        for target in targets:
            yield Import(str(path.relative_to(source)), node.lineno, target, id(node) not in top)


def is_module(source: Path, name: str) -> bool:
    if name.split(".")[0] != "fallline":
        return False
    path = source.joinpath(*name.split(".")[1:])
    return path.is_dir() or path.with_suffix(".py").is_file()


def named_by(call: ast.Call, package: Sequence[str]) -> str:
    """What ``import_module("…")`` names; ``?`` where the text is computed."""
    first = call.args[0] if call.args else None
    if not (isinstance(first, ast.Constant) and isinstance(first.value, str)):
        return "?"
    dots = len(first.value) - len(first.value.lstrip("."))
    base = ".".join(package[: len(package) - dots + 1]) + "." if dots else ""
    return base + first.value.lstrip(".")


def offenses(source: Path) -> list[str]:
    """What breaks the law, one sentence each."""
    return [offense for path in files(source) for offense in _of_file(source, path)]


def _of_file(source: Path, path: Path) -> Iterator[str]:
    file = str(path.relative_to(source))
    own = Path(file).with_suffix("").parts[0]
    if own not in LEVEL:
        yield f"{file} is not in the table of levels: say where {own} belongs"
        return
    for found in imports(source, path):
        what = _refused(own, file, found)
        if what:
            yield f"{found.file}:{found.line} imports {found.target} {what}"


def _refused(own: str, file: str, found: Import) -> str | None:
    head, *rest = found.target.split(".")
    if head == "?":
        return None if file in BY_TEXT else "by a computed name, which hides it from this law"
    if head != "fallline":
        return "(torch) into what loads no torch" if head in TORCH and own in PLAIN | ABOVE_THE_LINE else None
    if not rest or rest[0] == "__version__":
        return None if rest else "as a whole, which hides what is used"
    other = rest[0]
    if "reference" in rest and "reference" not in Path(file).with_suffix("").parts:
        return "(slow twins), which are for tests and pages only"
    if other == own:
        return None
    if other not in LEVEL:
        return "through the public names: import it from its own module"
    levels = f"(level {LEVEL[other]}) from level {LEVEL[own]}"
    if own in PLAIN | ABOVE_THE_LINE and other not in PLAIN:
        return f"{levels}, across the plain-data line"
    if LEVEL[other] > LEVEL[own]:
        return f"{levels}: imports point to a lower level"
    if LEVEL[other] == LEVEL[own] and LEVEL[own] not in BESIDE:
        return f"{levels}: modules of one level do not know each other"
    return None


def too_long(source: Path, listed: dict[str, int]) -> list[str]:
    """Files that grew above the guide size, and entries of the list that can go down."""
    sizes = {
        str(p.relative_to(source)): len(p.read_text(encoding="utf-8").splitlines()) for p in files(source)
    }
    found = [
        f"{file} has {lines} lines, above {max(GUIDE, listed.get(file, 0))}: split it where it says two things"
        for file, lines in sizes.items()
        if lines > max(GUIDE, listed.get(file, 0))
    ]
    return found + [
        f"{file} has {sizes.get(file, 0)} lines now: lower or remove its entry ({lines})"
        for file, lines in listed.items()
        if sizes.get(file, 0) < lines
    ]


# --- the law ------------------------------------------------------------------------------------------------


def test_imports_point_down():
    found = offenses(SOURCE)
    assert not found, "\n".join(["the import law is broken:", *found])


def test_no_module_imports_itself_in_a_circle():
    graph: dict[str, set[str]] = {}
    for path in files(SOURCE):
        name = ".".join(("fallline", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        graph[name] = {found.target for found in imports(SOURCE, path) if not found.lazy}
    graphlib.TopologicalSorter(graph).prepare()


def test_files_stay_short():
    found = too_long(SOURCE, LONGER)
    assert not found, "\n".join(found)


# --- the checker is right ---------------------------------------------------------------------------------


def planted(folder: Path, **sources: str) -> Path:
    """A small tree, with ``__`` for a slash in the names of its files."""
    for name, text in {"__init__": "", **sources}.items():
        path = folder / (name.replace("__", "/") if name != "__init__" else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".py").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("sources", "offense"),
    [
        (
            {"specs": "from . import rules"},
            "specs.py:1 imports fallline.rules (level 1) from level 0, across the plain",
        ),
        (
            {"tree": "\nfrom .fleet.run import x"},
            "tree.py:2 imports fallline.fleet.run (level 4) from level 0: imports",
        ),
        (
            {"rules__base": "from ..losses import mse"},
            "rules/base.py:1 imports fallline.losses (level 1) from level 1:",
        ),
        (
            {"rules__base": "from .. import schedules"},
            "rules/base.py:1 imports fallline.schedules (level 1) from level 1",
        ),
        (
            {"tasks__a": "def f():\n    from ..fleet import x"},
            "tasks/a.py:2 imports fallline.fleet (level 4) from level 2",
        ),
        (
            {"losses__a": "if TYPE_CHECKING:\n    from ..tasks.base import Task"},
            "losses/a.py:2 imports fallline.tasks.base (level 2) from level 1",
        ),
        (
            {"optim__a": "import fallline.tasks.base"},
            "optim/a.py:1 imports fallline.tasks.base (level 2) from level 2",
        ),
        (
            {"fleet__a": "from importlib import import_module\nimport_module('fallline.studies')"},
            "fleet/a.py:2 imports",
        ),
        (
            {"fleet__a": "import importlib\nimportlib.import_module('..studies')"},
            "fleet/a.py:2 imports fallline.studies",
        ),
        (
            {"fleet__a": "import importlib\nimportlib.import_module(name)"},
            "fleet/a.py:2 imports ? by a computed name",
        ),
        (
            {"fleet__a": "from .. import compare"},
            "fleet/a.py:1 imports fallline.compare through the public names",
        ),
        ({"fleet__a": "import fallline"}, "fleet/a.py:1 imports fallline as a whole"),
        (
            {"records": "import torch.nn as nn"},
            "records.py:1 imports torch.nn (torch) into what loads no torch",
        ),
        (
            {"store_file": "def f():\n    from torch import Tensor"},
            "store_file.py:2 imports torch (torch) into what",
        ),
        (
            {"store": "from .rng import order"},
            "store.py:1 imports fallline.rng (level 0) from level 0, across the plain",
        ),
        (
            {"reports__a": "from ..studies import judge"},
            "reports/a.py:1 imports fallline.studies.judge (level 5) from level 6",
        ),
        (
            {"reports__a": "from ..types import Tree"},
            "reports/a.py:1 imports fallline.types (level 0) from level 6, across",
        ),
        (
            {"doctor__a": "from ..reports import page"},
            "doctor/a.py:1 imports fallline.reports (level 6) from level 6",
        ),
        ({"doctor__a": "import torch"}, "doctor/a.py:1 imports torch (torch) into what loads no torch"),
        (
            {"verbs__a": "from ..cli import main"},
            "verbs/a.py:1 imports fallline.cli.main (level 8) from level 7",
        ),
        (
            {"verbs__a": "from ..rules.reference import adam"},
            "verbs/a.py:1 imports fallline.rules.reference.adam (slow twins)",
        ),
        ({"helpers": ""}, "helpers.py is not in the table of levels: say where helpers belongs"),
        ({"utils__a": ""}, "utils/a.py is not in the table of levels: say where utils belongs"),
    ],
)
def test_a_planted_offender_is_named(tmp_path: Path, sources: dict[str, str], offense: str):
    tree = planted(
        tmp_path, **{"rules__reference__adam": "", "studies__judge": "", "cli__main": "", **sources}
    )
    (found,) = offenses(tree)
    assert found.startswith(offense)


def test_what_the_law_allows_is_allowed(tmp_path: Path):
    allowed = {
        "records": "from .errors import BadValue\nimport numpy",
        "rng": "import torch\nfrom .types import Tree\nfrom .errors import BadTask",
        "rules__base": "from .. import specs\nfrom ..specs import Rule\nfrom .making import recipe\nimport torch",
        "rules__reference__adam": "from .numbers import at\nfrom ..base import x",
        "reports__page": "from ..store import Store\nfrom .html import Markup",
        "verbs__a": "from .. import __version__\nfrom ..reports import page\nfrom ..studies.judge import judge",
        "cli__main": "from ..verbs import a\nfrom . import compare",
    }
    assert offenses(planted(tmp_path, **allowed)) == []


def test_sizes_ratchet(tmp_path: Path):
    tree = planted(tmp_path, specs="\n" * 310, records="\n" * 305, errors="\n" * 300)
    assert too_long(tree, {"specs.py": 310, "records.py": 305}) == []
    assert sorted(too_long(tree, {"specs.py": 309})) == [
        "records.py has 305 lines, above 300: split it where it says two things",
        "specs.py has 310 lines, above 309: split it where it says two things",
    ]
    assert too_long(tree, {"specs.py": 320, "records.py": 305}) == [
        "specs.py has 310 lines now: lower or remove its entry (320)"
    ]
    assert "gone.py has 0 lines now: lower or remove its entry (301)" in too_long(tree, {"gone.py": 301})
