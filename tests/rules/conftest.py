import pytest

from fallline import registry


@pytest.fixture(autouse=True)
def _forget_new_kinds():
    """Take kinds that a test made out of the registry again."""
    before = dict(registry._behaviors)
    yield
    registry._behaviors.clear()
    registry._behaviors.update(before)
