"""Pictures that are made: one with the content of a picture and the style of another.

The equations are those of the lecture's slides, with F, P and A the features of the picture that is made, of the content
and of the style; N_l channels and M_l positions in layer l; G the Gram matrix, whose sum runs over positions:

    L_content = ½ Σ_ij (F_ij − P_ij)²       G_ij = Σ_k F_ik F_jk       E_l = Σ_ij (G_ij − A_ij)² / (4 N_l² M_l²)

    L_total = α · L_content + β · Σ_l w_l E_l
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import rng
from ..errors import BadTask
from .base import Metric, Task, Variables
from .pictures import Picture, read

LEVELS = 5
"""Of the pyramid in whose place a picture is trained."""


# --- features ---------------------------------------------------------------------------------------------


class Features(nn.Module):
    """Features of pictures, by the names of their layers: 1_1 is the first convolution of the first block.

    Args:
        blocks: of convolutions; pictures are averaged to half their size between them.
        shift, scale: the picture x is given to the first one as (x − shift) · scale.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, blocks: Sequence[Sequence[nn.Conv2d]], shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleList(block) for block in blocks)
        self.register_buffer("shift", shift.reshape(-1, 1, 1))
        self.register_buffer("scale", scale.reshape(-1, 1, 1))
        self.requires_grad_(requires_grad=False)

    @property
    def names(self) -> list[str]:
        """The names of all layers."""
        return [f"{b}_{c}" for b, block in enumerate(self.blocks, 1) for c, _ in enumerate(block, 1)]  # type: ignore[arg-type]

    def forward(self, picture: Picture) -> dict[str, Tensor]:
        """By layer, [pictures, channels, height, width], after the activation."""
        x, found = (picture - self.shift) * self.scale, {}
        for b, block in enumerate(self.blocks, 1):
            assert isinstance(block, nn.ModuleList)
            x = functional.avg_pool2d(x, 2) if b > 1 else x
            for c, convolution in enumerate(block, 1):
                x = found[f"{b}_{c}"] = convolution(x).relu()
        return found


def random_features(pictures: Picture, *, width: int = 32, seed: int = 0) -> Features:
    """Features of four blocks of two convolutions with random weights, made for some pictures.

    Each channel is shifted and scaled so that before its ReLU it has mean 0 and variance 1 over these pictures, without
    which deep random channels hardly differ. They carry color and texture well; of what a picture shows they know
    nothing, so that shapes are kept by where they are and not by what they are.

    Args:
        pictures: [pictures, 3, height, width], for the scale.
        width: channels of the first block; the others have 2, 4 and 4 times as many.
        seed: of the weights.

    Source: He, Wang and Hopcroft, A powerful generative model using random weights for the deep image representation,
    2016; Ustyuzhaninov et al., Texture synthesis using shallow convolutional networks with random filters, 2016.
    """
    sizes, channels = (width, 2 * width, 4 * width, 4 * width), 3
    blocks: list[list[nn.Conv2d]] = []
    with rng.untouched("the random features"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for size in sizes:
            block = [
                nn.Conv2d(before, size, 3, padding=1, padding_mode="reflect") for before in (channels, size)
            ]
            for layer in block:
                nn.init.orthogonal_(layer.weight)
            blocks.append(block)
            channels = size
    made = Features(blocks, torch.full((3,), 0.5), torch.full((3,), 4.0))
    with torch.no_grad():
        x = (pictures - made.shift) * made.scale
        for b, convolutions in enumerate(blocks):
            x = functional.avg_pool2d(x, 2) if b else x
            for layer in convolutions:
                assert layer.bias is not None
                layer.bias.zero_()
                before = layer(x)
                spread = before.std((0, 2, 3)) + 1e-5
                layer.weight.div_(spread.reshape(-1, 1, 1, 1))
                layer.bias.copy_(-before.mean((0, 2, 3)) / spread)
                x = layer(x).relu()
    return made


def vgg_features(convolutions: nn.Sequential) -> Features:
    """The features of a VGG-19's convolutions, for pictures as its published weights expect them."""
    blocks: list[list[nn.Conv2d]] = [[]]
    for layer in convolutions:
        if isinstance(layer, nn.Conv2d):
            blocks[-1].append(layer)
        elif not isinstance(layer, nn.ReLU):
            blocks.append([])
    mean, spread = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return Features([block for block in blocks if block], mean, 1 / spread)


# --- the losses of the slides -----------------------------------------------------------------------------


def gram(features: Tensor) -> Tensor:
    """G_ij = Σ_k F_ik F_jk, over positions k: [N, N] from [1, N, height, width]."""
    flat = features.flatten(2)[0]
    return flat @ flat.T


def content_loss(features: Tensor, of_content: Tensor) -> Tensor:
    """½ Σ_ij (F_ij − P_ij)², 0-d."""
    return 0.5 * ((features - of_content) ** 2).sum()


def style_loss(features: Tensor, of_style: Tensor) -> Tensor:
    """E_l = Σ_ij (G_ij − A_ij)² / (4 N² M²), 0-d, A being the Gram matrix of the style at as many positions."""
    _, n, *size = features.shape
    m = size[0] * size[1]
    return ((gram(features) - of_style) ** 2).sum() / (4 * n**2 * m**2)


@dataclass(frozen=True)
class Targets:
    """What a picture is to be like.

    Args:
        features: of pictures.
        content: the layer of the content, and its features.
        styles: by layer the Gram matrix of the style, for as many positions as the picture has.
        weights: by layer its w_l.
    """

    features: Features
    content: tuple[str, Tensor]
    styles: Mapping[str, Tensor]
    weights: Mapping[str, float]

    def parts(self, picture: Picture) -> tuple[Tensor, dict[str, Tensor]]:
        """L_content, and E_l by layer."""
        found = self.features(picture)
        layer, own = self.content
        return content_loss(found[layer], own), {
            name: style_loss(found[name], a) for name, a in self.styles.items()
        }

    def total(self, picture: Picture, alpha: Any, beta: Any) -> Tensor:
        """α · L_content + β · Σ_l w_l E_l."""
        content, styles = self.parts(picture)
        style = torch.stack([self.weights[name] * e for name, e in styles.items()]).sum()
        return alpha * content + beta * style


def targets(
    content: Picture,
    style: Picture,
    features: Features,
    *,
    content_layer: str = "",
    weights: Mapping[str, float] | None = None,
) -> Targets:
    """Targets from two pictures, which may differ in size: the style's Gram matrix is scaled to the content's positions.

    Args:
        content, style: the pictures.
        features: what they are compared by.
        content_layer: where content is compared; left out, 2_2 of random features, and 4_2 where there is one.
        weights: w_l by layer; left out, falling by 0.8 from layer to layer, and equal for the first convolutions of the
            five blocks of a VGG, as in the paper.
    """
    names = features.names
    deep = "4_2" in names and "5_1" in names
    layer = content_layer or ("4_2" if deep else "2_2")
    usual = {f"{b}_1": 1.0 for b in range(1, 6)} if deep else {name: 0.8**i for i, name in enumerate(names)}
    chosen = dict(weights or {name: w / sum(usual.values()) for name, w in usual.items()})
    for name in (layer, *chosen):
        if name not in names:
            raise BadTask(f"there is no layer {name!r} in these features; they have {', '.join(names)}")
    with torch.no_grad():
        own, theirs = features(content), features(style)
        grams = {
            name: gram(theirs[name]) * (own[name][0, 0].numel() / theirs[name][0, 0].numel())
            for name in chosen
        }
    return Targets(features, (layer, own[layer]), grams, chosen)


# --- what is trained --------------------------------------------------------------------------------------


def pyramid(picture: Picture) -> dict[str, Tensor]:
    """A picture as a sum of enlarged ones, each half as large as the one before: what is trained in its place.

    The minimum is the same, and the way to it another: coarse colors move in one step where single pixels would need
    many, and pixels do not become noise on the way.
    """
    high, wide = picture.shape[2:]
    levels = {"level0": picture.clone()}
    for k in range(1, LEVELS):
        levels[f"level{k}"] = torch.zeros(1, 3, max(2, high >> k), max(2, wide >> k), dtype=picture.dtype)
    return levels


def composed(levels: Mapping[str, Tensor]) -> Picture:
    """The picture of a pyramid; a level counts twice as much as the one below it."""
    finest = levels["level0"]
    high, wide = finest.shape[-2:]
    for k in range(1, LEVELS):
        coarse = functional.interpolate(
            levels[f"level{k}"], size=(high, wide), mode="bilinear", align_corners=False
        )
        finest = finest + 2.0**k * coarse
    return finest


def style_transfer(
    content: Any, style: Any, *, size: int = 96, features: Features | None = None, alpha: float = 1e-5, beta: float = 300.0,
    noise: float = 0.1,
) -> Task:  # fmt: skip
    """The task to make a picture with the content of one and the style of another, as on the lecture's slides.

    A run's loss is α · L_content + β · Σ_l w_l E_l, whose numbers ``alpha`` and ``beta`` a run may set; its parameters are
    the picture, as :func:`pyramid` has it, and its start is the content with noise by its seed.

    Args:
        content, style: paths, or arrays [height, width, 3].
        size: pixels of the longer side.
        features: what pictures are compared by; left out, :func:`random_features` of the two.
        alpha, beta: how much content and style count.
        noise: the standard deviation of the noise at the start.

    >>> import numpy as np
    >>> pictures = np.random.default_rng(0).random((2, 32, 48, 3))
    >>> style_transfer(*pictures, size=32)
    Task('style transfer', 0 + 0 + 0 examples, by loss)

    Source: Gatys, Ecker and Bethge, Image style transfer using convolutional neural networks, 2016.
    """
    like, styled = read(content, size), read(style, size)
    known = features or random_features(torch.cat([like, as_large(styled, like)]), width=16)
    wanted = targets(like, styled, known)

    def init(seed: int) -> Variables:
        random = torch.Generator().manual_seed(rng.seed_for(seed, "init") % 2**63)
        start = (like + noise * torch.randn(like.shape, generator=random)).clamp(0, 1)
        return Variables(pyramid(start), {})

    def loss(params: Any, buffers: Any, batch: Any, h: Any) -> tuple[Tensor, Any]:
        return wanted.total(composed(params), h["alpha"], h["beta"]).to(like.dtype), buffers

    def score(params: Any, buffers: Any, batch: Any, h: Any) -> dict[str, Tensor]:
        total = wanted.total(composed(params), h["alpha"], h["beta"]).to(like.dtype)
        return {"loss": total, "score": total}

    numbers = {"alpha": alpha, "beta": beta}
    facts = {
        "size": list(like.shape[2:]),
        "layers": sorted(wanted.weights),
        "content_layer": wanted.content[0],
    }
    return Task("style transfer", init, loss, score, {}, Metric("loss", "lower"), numbers, facts=facts)


def as_large(picture: Picture, like: Picture) -> Picture:
    """A picture stretched to the size of another."""
    return functional.interpolate(picture, size=like.shape[2:], mode="bilinear", align_corners=False)
