import pytest

from fallline import specs


@pytest.fixture(autouse=True)
def _forget_new_kinds():
    """Take kinds that a test made out of the registry again."""
    before = dict(specs._behaviors)
    yield
    specs._behaviors.clear()
    specs._behaviors.update(before)
