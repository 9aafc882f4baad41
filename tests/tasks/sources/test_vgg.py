"""The published weights of VGG-19: from a file, or from a server, whole or not at all."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fallline.errors import BadTask, NotFound
from fallline.layers import vgg19
from fallline.tasks.sources import vgg


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "served" / vgg.NAME
    path.parent.mkdir()
    torch.save(vgg19(outputs=10, width=1 / 64).state_dict(), path)
    return path


@pytest.fixture
def server(weights: Path) -> Iterator[str]:
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *given: None})
    handler = functools.partial(quiet, directory=str(weights.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_address[1]}/{vgg.NAME}"
        served.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FALLLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_file_gives_the_convolutions(weights: Path):
    found = vgg.published(weights)
    state = torch.load(weights, weights_only=True)
    assert all(torch.equal(value, state[f"features.{name}"]) for name, value in found.state_dict().items())
    assert isinstance(found[4], torch.nn.AvgPool2d)


def test_a_download_is_kept_and_checked(
    weights: Path, server: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(vgg, "URL", server)
    with pytest.raises(NotFound, match=r"cannot be fetched from http.*invalid hash value"):
        vgg.published()
    assert list(own_cache.iterdir()) == []
    monkeypatch.setattr(vgg, "CHECKSUM", hashlib.sha256(weights.read_bytes()).hexdigest()[:8])
    vgg.published()
    monkeypatch.setattr(vgg, "URL", "http://127.0.0.1:1/none")
    vgg.published()  # from the cache


def test_without_a_network_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vgg, "URL", "http://127.0.0.1:1/none")
    with pytest.raises(
        NotFound, match=r"^the weights of VGG-19 cannot be fetched from .* put the file there as .* or leave"
    ):
        vgg.published()


def test_other_files_are_refused(tmp_path: Path, weights: Path):
    with pytest.raises(
        NotFound, match=r"^there is no file .*none\.pth with weights of VGG-19; \"download\" fetches"
    ):
        vgg.published(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(BadTask, match=r"text\.pth cannot be read as weights of VGG-19: "):
        vgg.published(tmp_path / "text.pth")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(
        BadTask,
        match=r"other\.pth holds no weights of VGG-19: it lacks features\.0\.weight; a file of torchvision's",
    ):
        vgg.published(tmp_path / "other.pth")
    state = torch.load(weights, weights_only=True)
    state["features.2.weight"] = torch.zeros(3)
    torch.save(state, tmp_path / "shapes.pth")
    with pytest.raises(BadTask, match=r"shapes\.pth holds other weights than VGG-19's: "):
        vgg.published(tmp_path / "shapes.pth")
