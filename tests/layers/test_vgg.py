"""VGG-19: the usual names and shapes, any size of picture, and what cannot be built."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fallline.errors import BadValue, NotFound
from fallline.layers import vgg19

CHANNELS = (64, 64, 128, 128, 256, 256, 256, 256, *(512,) * 8)
"""Configuration E of the paper's table 1; each convolution is followed by a ReLU, and pooling counts as a part, too."""
PLACES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
"""Where the convolutions stand in the files of published weights: features.0 … features.34."""


def published() -> dict[str, tuple[int, ...]]:
    before = (3, *CHANNELS[:-1])
    found: dict[str, tuple[int, ...]] = {}
    for place, into, out in zip(PLACES, before, CHANNELS, strict=True):
        found |= {f"features.{place}.weight": (out, into, 3, 3), f"features.{place}.bias": (out,)}
    for place, into, out in ((0, 512 * 7 * 7, 4096), (3, 4096, 4096), (6, 4096, 1000)):
        found |= {f"classifier.{place}.weight": (out, into), f"classifier.{place}.bias": (out,)}
    return found


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in model.state_dict().items()}


def test_published_weights_have_a_place():
    with torch.device("meta"):
        model = vgg19(init="default")
    assert shapes(model) == published()
    assert sum(p.numel() for p in model.parameters()) == 143_667_240  # as the field's tables have it


def test_with_batch_norm_each_convolution_is_followed_by_one():
    """As in the files of VGG-19 with batch norm, where features.49 is the last convolution."""
    with torch.device("meta"):
        model = vgg19(norm="batch", init="default")
    kinds = [type(m) for m in model.features]  # type: ignore[union-attr,arg-type]
    places = [i for i, kind in enumerate(kinds) if kind is nn.Conv2d]
    assert [kinds[i + 1] for i in places] == [nn.BatchNorm2d] * 16
    assert places == [0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49]
    assert sum(p.numel() for p in model.parameters()) == 143_678_248


def test_features_load_published_weights_without_the_classifier():
    whole, features = vgg19(width=1 / 32), vgg19(width=1 / 32, features_only=True)
    told = features.load_state_dict(whole.state_dict(), strict=False)
    assert told.missing_keys == []
    assert {name.split(".")[0] for name in told.unexpected_keys} == {"classifier"}
    x = torch.randn(2, 3, 40, 64)
    assert torch.equal(features(x), whole.features(x))  # type: ignore[operator]


@pytest.mark.parametrize(("pool", "pooled"), [("max", F.max_pool2d), ("average", F.avg_pool2d)])
def test_it_computes_convolutions_and_pooling(pool: str, pooled: Any):
    torch.manual_seed(0)
    model = vgg19(width=1 / 32, outputs=5, pool=pool).double().eval()
    w = dict(model.named_parameters())
    x = hidden = torch.randn(2, 3, 64, 50, dtype=torch.float64)
    for i, place in enumerate(PLACES):
        hidden = F.conv2d(
            hidden, w[f"features.{place}.weight"], w[f"features.{place}.bias"], padding=1
        ).relu()
        hidden = pooled(hidden, 2) if i in (1, 3, 7, 11, 15) else hidden
    hidden = _to_places(hidden).flatten(1)
    for place in (0, 3, 6):
        hidden = F.linear(hidden.relu(), w[f"classifier.{place}.weight"], w[f"classifier.{place}.bias"])
    torch.testing.assert_close(model(x), hidden, rtol=1e-12, atol=1e-12)


def _to_places(x: Tensor) -> Tensor:
    """The mean over each of 7 × 7 windows, from floor(i n / 7) to ceil((i + 1) n / 7)."""
    for axis in (-1, -2):
        n = x.shape[axis]
        parts = [x.narrow(axis, i * n // 7, -(-(i + 1) * n // 7) - i * n // 7).mean(axis) for i in range(7)]
        x = torch.stack(parts, axis)
    return x


@pytest.mark.parametrize("size", [(32, 32), (96, 33), (224, 224)])
def test_pictures_may_be_of_any_size(size: tuple[int, int]):
    assert vgg19(width=1 / 64, outputs=7).eval()(torch.zeros(1, 3, *size)).shape == (1, 7)
    features = vgg19(width=1 / 64, features_only=True)(torch.zeros(1, 3, *size))
    assert features.shape == (1, 8, size[0] // 32, size[1] // 32)


def test_signals_keep_their_size_with_its_own_initial_weights():
    """Sixteen layers of ReLU, each of which would leave a sixth of the square of a signal at torch's default weights."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64)
    heard = {}
    for start in ("own", "default"):
        y = vgg19(width=1 / 4, pool="average", features_only=True, init=start)(x)
        heard[start] = float((y[0] - y[1]).detach().std())
    assert heard["own"] > 1e-3 * 6**8 * heard["default"]


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "outputs": ({"outputs": 1.5}, BadValue, r"^outputs of vgg19 is a whole number above 0, got 1.5$"),
    "width": ({"width": 0}, BadValue, r"^width of vgg19 is a factor above 0, as in width=1 / 8, got 0$"),
    "pool": ({"pool": "mean"}, NotFound, r"^no pooling is called 'mean'; known: average, max$"),
    "norm": ({"norm": "lyer"}, NotFound, r"^no normalization is called 'lyer'; did you mean 'layer'\?$"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_built_is_refused(name: str):
    options, error, told = REFUSED[name]
    with pytest.raises(error, match=told):
        vgg19(**{"width": 1 / 64, **options})
