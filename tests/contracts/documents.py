"""What a public docstring must have, for every family."""

from __future__ import annotations

import doctest
import sys
from collections.abc import Callable, Iterable
from typing import Any


def check_document(function: Callable[..., Any], names: Iterable[str]) -> None:
    """An equation, each argument, an example that runs, and the source."""
    text = function.__doc__ or ""
    before = text.split("Args:")[0].split(">>>")[0]
    assert any(sign in before for sign in "=←·√±"), f"{function.__name__}: no equation in its docstring"
    for name in names:
        assert "Args:" in text, f"{function.__name__}: no 'Args:' in its docstring"
        assert any(line.strip().startswith(f"{name}:") for line in text.splitlines()), (
            f"{function.__name__}: {name} is not explained in its docstring"
        )
    assert "Source:" in text, f"{function.__name__}: no 'Source:' in its docstring"
    assert ">>>" in text, f"{function.__name__}: no example in its docstring"
    context = {**vars(sys.modules[function.__module__]), "__name__": "__main__"}
    test = doctest.DocTestParser().get_doctest(text, context, function.__name__, None, None)
    report: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert not report, f"{function.__name__}: the example of its docstring fails\n{''.join(report)}"
