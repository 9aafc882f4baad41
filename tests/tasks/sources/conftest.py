"""A cache of the test's own, and OpenML on this machine."""

import pytest
from sklearn.datasets import _openml

from fallline.tasks.sources import openml

from .server import OpenML

ASKED = ("_SEARCH_NAME", "_DATA_INFO", "_DATA_FEATURES", "_DATA_QUALITIES")


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """The folder in which data are kept."""
    monkeypatch.setenv("FALLLINE_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def server(monkeypatch):
    server = OpenML()
    for name in ASKED:
        address = getattr(_openml, name).replace("https://www.openml.org", server.base)
        assert address.startswith(server.base)
        monkeypatch.setattr(_openml, name, address)
    for name, value in {"RETRIES": 1, "DELAY": 1e-3}.items():
        monkeypatch.setattr(openml, name, value)
    yield server
    server.close()
