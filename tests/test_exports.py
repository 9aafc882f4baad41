"""The public names: each is listed, each is there, and asking for little loads little."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fallline
from command_line import environment

SOURCE = Path(fallline.__file__).resolve().parent
PACKAGES = sorted(
    ".".join(("fallline", *p.parent.relative_to(SOURCE).parts))
    for p in SOURCE.rglob("__init__.py")
    if p.parent != SOURCE and "__all__" in p.read_text(encoding="utf-8")
)


def parsed(module: str) -> ast.Module:
    path = importlib.import_module(module).__file__
    assert path is not None
    return ast.parse(Path(path).read_text(encoding="utf-8"))


def test_all_is_every_public_name_sorted():
    named = {*fallline._MODULES, *fallline._NAMES}
    assert fallline.__all__ == sorted(named)
    assert len(fallline._MODULES) + len(fallline._NAMES) == len(named)


@pytest.mark.parametrize("name", fallline.__all__)
def test_every_public_name_is_there(name: str):
    value = getattr(fallline, name)
    home = fallline._NAMES.get(name, name)
    module = importlib.import_module(f"fallline.{home}")
    assert value is (module if name in fallline._MODULES else getattr(module, name))
    assert name in dir(fallline)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'fallline' has no attribute 'optimizer'"):
        _ = fallline.optimizer


def test_type_checkers_see_the_same_names():
    found: dict[str, str] = {}
    for node in ast.walk(parsed("fallline")):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for line in node.body:
                assert isinstance(line, ast.ImportFrom)
                found.update({(name.asname or name.name): line.module or name.name for name in line.names})
    assert found == {**{name: name for name in fallline._MODULES}, **fallline._NAMES}


def brought_in(module: str) -> Iterator[str]:
    """The public names that a package's own file imports or defines."""
    for node in parsed(module).body:
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            yield from importlib.import_module(f"{module}.{node.module}").__all__
        elif isinstance(node, ast.ImportFrom) and node.level == 1:
            yield from (name.asname or name.name for name in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_lists_what_it_brings_in(package: str):
    module = importlib.import_module(package)
    listed = list(module.__all__)
    assert len(set(listed)) == len(listed)
    assert set(listed) == {name for name in brought_in(package) if not name.startswith("_")}
    assert all(hasattr(module, name) for name in listed)


# --- each module stands on its own ------------------------------------------------------------------------

ALONE = """
import importlib, os, sys
import matplotlib.backends.backend_svg, numpy, rich.progress, scipy.stats, sklearn.model_selection, torch, typer
import torch.fx.experimental.proxy_tensor, torch.func
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(name, repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process for each module")
def test_each_module_can_be_imported_first():
    """Where a module works only after another was imported, that is luck."""
    names = [
        ".".join(("fallline", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
        for path in sorted(SOURCE.rglob("*.py"))
        if path.name != "__main__.py"
    ]
    command = [sys.executable, "-W", "ignore", "-c", ALONE, *names]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- asking for little loads little -------------------------------------------------------------------------

LIGHT = """
import sys
import fallline
assert "torch" not in sys.modules and "numpy" not in sys.modules, "import fallline"
from fallline.cli.main import main
for words in (["--help"], ["--version"], ["compare", "--help"], ["init", "made.py"]):
    sys.argv = ["fallline", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, (words, end.code)
    assert "torch" not in sys.modules, f"fallline {' '.join(words)}"
import importlib, pkgutil
import fallline.reports
plain = ["errors", "specs", "records", "store", "store_file"]
plain += [m.name.removeprefix("fallline.") for m in pkgutil.walk_packages(fallline.reports.__path__, "fallline.reports.")]
for name in plain:
    importlib.import_module(f"fallline.{name}")
    assert "torch" not in sys.modules, name
fallline.Axis, fallline.Run, fallline.Store, fallline.FalllineError
assert "torch" not in sys.modules, "names of plain data"
"""


def test_help_and_plain_data_load_no_torch(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", LIGHT],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: fallline" in done.stdout
    assert (tmp_path / "made.py").is_file()
