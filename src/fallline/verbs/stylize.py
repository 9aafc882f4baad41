"""One picture with the content of another and the style of a third: coarse to fine, by any rule."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import BadStore, BadValue
from ..fleet.stopping import listening
from ..optim import LBFGS, Optimizer
from ..tasks import images, pictures
from ..tasks.images import Features, Targets
from ..tasks.pictures import Picture
from ..tasks.sources.vgg import published
from .progress import Meter, meter
from .stopping import Terminated
from .train import rule_of

STEPS = (150, 120, 120)
"""Evaluations at a quarter of the size, at half of it, and at all of it."""
SECONDS = 5.0
"""Between two pictures of the progress."""


@dataclass(frozen=True)
class Stylized:
    """The answer of :func:`stylize`.

    Args:
        document: the losses and where the picture is, as plain data.
    """

    document: dict[str, Any]

    @property
    def picture(self) -> Path:
        """The PNG file."""
        return Path(self.document["picture"])

    def __str__(self) -> str:
        found = self.document
        layers = ", ".join(f"{name} {value:.3g}" for name, value in found["style"].items())
        return (
            f"content loss {found['content']:.4g}; style losses by layer: {layers}; {found['seconds']:.0f} s\n"
            f"  picture: {found['picture']}"
        )


def stylize(
    content: Any,
    style: Any,
    out: str | Path = "picture.png",
    *,
    size: int = 256,
    alpha: float = 1e-5,
    beta: float = 300.0,
    rule: Any = "lbfgs",
    weights: str | Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> Stylized:
    """Make a picture with the content of one and the style of another: α · L_content + β · Σ_l w_l E_l, as on the slides.

    It is made at a quarter of its size, then at half, then whole, each from the one before. While it is made, the file
    shows how far it is; Ctrl-C ends it with what there is.

    Args:
        content, style: paths, or arrays [height, width, 3].
        out: the PNG file to write.
        size: pixels of the longer side.
        alpha, beta: how much content and style count.
        rule: lbfgs, which is ``fl.optim.LBFGS`` as torch has it, or any other rule, such as ``adam(lr=0.02)``.
        weights: a file of torchvision's VGG-19, or "download" for the published one; left out, random features, which carry
            color and texture and know no objects.
        steps: evaluations at the full size, and half as many more at each of the smaller ones; left out, 100.
        seed: of the random features.
        progress: whether to show a progress bar; left out, where someone is watching.

    >>> import tempfile, numpy as np
    >>> two = np.random.default_rng(0).random((2, 64, 64, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = stylize(*two, f"{folder}/made.png", size=64, steps=3)
    >>> sorted(made.document["style"]) == ["1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "4_1", "4_2"]
    True

    Source: Gatys, Ecker and Bethge, Image style transfer using convolutional neural networks, 2016.
    """
    path, began = _writable(Path(out)), time.perf_counter()
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 1):
        raise BadValue(f"steps must be a whole number of at least 1, got {steps!r}")
    for name, value in (("alpha", alpha), ("beta", beta)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            raise BadValue(f"{name} is a weight of a loss, a finite number of at least 0; got {value!r}")
    made_by = None if rule == "lbfgs" else rule_of(rule)[0]
    sizes = [max(pictures.LEAST * 2, size >> k) for k in (2, 1, 0)]
    pairs = [(pictures.read(content, one), pictures.read(style, one)) for one in sizes]
    features = _features(pairs[0], weights, seed)
    counts = STEPS if steps is None else (steps * 3 // 2, steps * 5 // 4, steps)
    with meter(f"a picture of {size} pixels", shown=progress) as bar, listening(to_term=True) as asked:
        bar.expect(sum(counts))
        picture, wanted = pairs[0][0], None
        for (like, styled), count in zip(pairs, counts, strict=True):
            picture = functional.interpolate(
                picture, size=like.shape[2:], mode="bicubic", align_corners=False
            ).clamp(0, 1)
            wanted = images.targets(like, styled, features)
            show = _shower(path, size, like)
            picture = _improved(
                picture, wanted, (alpha, beta), made_by, count, lambda: bool(asked.by), bar, show
            )
            if asked.by:
                break
        assert wanted is not None
        _write(path, picture)
    if asked.by:
        told = f"stopped by {'Ctrl-C' if asked.by == 'SIGINT' else 'SIGTERM'}; {path} holds the picture as far as it came"
        raise KeyboardInterrupt(told) if asked.by == "SIGINT" else Terminated(told)
    with torch.no_grad():
        content_loss, styles = wanted.parts(picture)
        total = float(wanted.total(picture, alpha, beta))
    return Stylized({
        "picture": str(path), "size": list(picture.shape[2:]), "alpha": alpha, "beta": beta, "loss": total,
        "content": float(content_loss), "style": {name: float(e) for name, e in styles.items()},
        "weights": "random" if weights is None else str(weights), "seconds": time.perf_counter() - began,
    })  # fmt: skip


def _features(pair: tuple[Picture, Picture], weights: str | Path | None, seed: int) -> Features:
    if weights is not None:
        return images.vgg_features(published(weights))
    like, styled = pair
    return images.random_features(torch.cat([like, images.as_large(styled, like)]), seed=seed)


def _improved(
    picture: Picture, wanted: Targets, counted: tuple[float, float], rule: Any, count: int, stop: Callable[[], bool],
    bar: Meter, show: Callable[[Picture], None],
) -> Picture:  # fmt: skip
    """The picture after so many evaluations, or fewer where it is asked to stop."""
    levels = {name: nn.Parameter(level) for name, level in images.pyramid(picture).items()}
    left = iter(range(count))
    optimizer: Any = LBFGS(levels.values(), max_iter=1) if rule is None else Optimizer(levels.values(), rule)

    def closure() -> Tensor:
        next(left, None)
        bar(1)
        optimizer.zero_grad()
        made = images.composed(levels)
        loss = wanted.total(made, *counted)
        loss.backward()
        show(made.detach())
        return loss

    for _ in _until(left, stop):
        optimizer.step(closure)
    return images.composed({name: p.detach() for name, p in levels.items()}).clamp(0, 1)


def _until(left: Iterator[int], stop: Callable[[], bool]) -> Iterator[None]:
    """As long as evaluations are left, which the closure counts, and nobody asks to stop."""
    while left.__length_hint__() and not stop():  # type: ignore[attr-defined]
        yield


def _shower(path: Path, size: int, like: Picture) -> Callable[[Picture], None]:
    """What writes the picture now and then, enlarged to the size that it will have."""
    last = [time.monotonic()]
    scale = size / max(like.shape[2:])

    def show(picture: Picture) -> None:
        if time.monotonic() - last[0] >= SECONDS:
            last[0] = time.monotonic()
            _write(
                path,
                functional.interpolate(picture, scale_factor=scale, mode="bilinear", align_corners=False),
            )

    return show


def _writable(path: Path) -> Path:
    if path.suffix.lower() != ".png":
        raise BadValue(f"the picture is written as PNG: name a file such as picture.png, got {str(path)!r}")
    if path.is_dir() or not path.parent.is_dir():
        raise BadStore(f"{path} cannot be written: its folder does not exist, or it is a folder itself")
    return path


def _write(path: Path, picture: Picture) -> None:
    beside = path.with_name(f"{path.name}.new")
    try:
        beside.write_bytes(pictures.png(picture))
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise BadStore(
            f"{path} cannot be written ({error.strerror}): choose another place for the picture"
        ) from error
