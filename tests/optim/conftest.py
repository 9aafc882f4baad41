"""Everything about optimizers holds whether the step is taken in one pass or with torch's operations."""

import pytest

from fallline.native.compiling import compiler
from fallline.optim.fused import runner


@pytest.fixture(autouse=True, params=["fused", "plain"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How steps are taken."""
    if request.param == "plain":
        monkeypatch.setattr(runner, "available", lambda: False)
    elif compiler() is None:
        pytest.skip("this machine has no C compiler")
    return str(request.param)
