"""Residual networks: the equation by hand, the usual names and shapes, and what cannot be built."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fallline.errors import BadValue, NotFound
from fallline.layers import init, resnet


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in model.state_dict().items()}


def published(stages: tuple[int, ...], outputs: int) -> dict[str, tuple[int, ...]]:
    """The names and shapes of the weights in files of ResNet-18 and ResNet-34, which are those of the paper's table 1."""

    def norm(name: str, n: int) -> dict[str, tuple[int, ...]]:
        ends = ("weight", "bias", "running_mean", "running_var")
        return {**{f"{name}.{end}": (n,) for end in ends}, f"{name}.num_batches_tracked": ()}

    found = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    before = 64
    for stage, (blocks, after) in enumerate(zip(stages, (64, 128, 256, 512), strict=True), 1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            found |= {f"{at}.conv1.weight": (after, before, 3, 3), **norm(f"{at}.bn1", after)}
            found |= {f"{at}.conv2.weight": (after, after, 3, 3), **norm(f"{at}.bn2", after)}
            if before != after:
                found |= {f"{at}.downsample.0.weight": (after, before, 1, 1)}
                found |= norm(f"{at}.downsample.1", after)
            before = after
    return {**found, "fc.weight": (outputs, 512), "fc.bias": (outputs,)}


@pytest.mark.parametrize(
    ("depth", "stages", "numbers"), [(18, (2, 2, 2, 2), 11_689_512), (34, (3, 4, 6, 3), 21_797_672)]
)
def test_published_weights_have_a_place(depth: int, stages: tuple[int, ...], numbers: int):
    with torch.device("meta"):
        model = resnet(depth, outputs=1000, init="default")
    assert shapes(model) == published(stages, 1000)
    assert sum(p.numel() for p in model.parameters()) == numbers  # as the field's tables have it


@pytest.mark.parametrize("n", [1, 3, 5])
def test_the_form_for_small_pictures_has_6n_plus_2_layers(n: int):
    with torch.device("meta"):
        model = resnet(6 * n + 2, init="default")
    kernels = [name for name, p in model.named_parameters() if p.ndim > 1 and "downsample" not in name]
    assert len(kernels) == 6 * n + 2
    assert [getattr(model, f"layer{i}")[-1].conv2.out_channels for i in (1, 2, 3)] == [16, 32, 64]


def by_hand(model: Any, x: torch.Tensor) -> torch.Tensor:
    """The paper's equation over the weights, without norms."""
    w = dict(model.named_parameters())

    def conv(name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        kernel = w[f"{name}.weight"]
        return F.conv2d(x, kernel, w[f"{name}.bias"], stride, padding=kernel.shape[-1] // 2)

    x = conv("conv1", x).relu()
    for stage in (1, 2, 3):
        at, stride = f"layer{stage}.0", 1 if stage == 1 else 2
        change = conv(f"{at}.conv2", conv(f"{at}.conv1", x, stride).relu())
        shortcut = x if stage == 1 else conv(f"{at}.downsample.0", x, stride)
        x = (change + shortcut).relu()
    return F.linear(x.mean((2, 3)), w["fc.weight"], w["fc.bias"])


@pytest.mark.parametrize("size", [(32, 32), (9, 14)])
def test_it_computes_what_the_paper_writes(size: tuple[int, int]):
    torch.manual_seed(0)
    model = resnet(8, width=3, outputs=4, channels=2, norm="none").double()
    for p in model.parameters():
        nn.init.normal_(p, std=0.3)
    x = torch.randn(3, 2, *size, dtype=torch.float64)
    torch.testing.assert_close(model(x), by_hand(model, x), rtol=1e-12, atol=1e-12)


def test_the_large_form_begins_with_a_quarter_of_the_size():
    model: Any = resnet(18, width=4, outputs=3)
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 3)
    assert model.maxpool(model.conv1(torch.zeros(1, 3, 64, 64))).shape == (1, 4, 16, 16)


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm2d), ("layer", nn.GroupNorm)])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_norms_and_activations_are_those_asked_for(norm: str, kind: type, activation: str):
    model = resnet(8, width=2, norm=norm, activation=activation)
    kinds = [type(m) for m in model.modules()]
    assert kinds.count(kind) == 9
    assert (nn.Tanh in kinds) == (activation == "tanh")
    assert model(torch.randn(4, 3, 8, 8)).isfinite().all()


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_branches_that_begin_at_zero_leave_what_comes_in(norm: str):
    """Each block gives σ(x), or σ of the projection."""
    model: Any = init.zero_residual(resnet(8, width=4, norm=norm))
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(model.layer1[0](x), x.relu())
    assert torch.equal(model.layer2[0](x), model.layer2[0].downsample(x).relu())


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "depth": ({"depth": 21}, BadValue, r"^the depth of a resnet is 18, 34, or 6n \+ 2 as in 8, 14, .*; got 21$"),
    "two": ({"depth": 2}, BadValue, r"^the depth of a resnet is 18, 34, or 6n \+ 2 as in 8, 14, .*; got 2$"),
    "outputs": ({"outputs": 0}, BadValue, r"^outputs of resnet is a whole number above 0, got 0$"),
    "channels": ({"channels": True}, BadValue, r"^channels of resnet is a whole number above 0, got True$"),
    "width": ({"width": -1}, BadValue, r"^width of resnet is a whole number above 0, or 0 for the paper's, got -1$"),
    "norm": ({"norm": "batsh"}, NotFound, r"^no normalization is called 'batsh'; did you mean 'batch'\?$"),
    "activation": ({"activation": "rely"}, NotFound, r"^no activation is called 'rely'; did you mean 'relu'\?$"),
    "init": ({"init": "glorott"}, NotFound, r"^no initialization is called 'glorott'; did you mean 'glorot'\?$"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_built_is_refused(name: str):
    options, error, told = REFUSED[name]
    with pytest.raises(error, match=told):
        resnet(**{"depth": 8, "width": 2, **options})
