"""The colors of arms: far apart for every kind of sight, and clear before the page."""

from __future__ import annotations

import numpy as np
import pytest

from fallline.reports import palette

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
SIGHT = {
    "normal": np.eye(3),
    "deuteranopic": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "protanopic": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]]
)


def linear(colors: tuple[str, ...]) -> np.ndarray:
    share = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colors])
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    ratio = rgb @ XYZ.T / (0.95047, 1, 1.08883)
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("colors", [palette.LIGHT, palette.DARK])
@pytest.mark.parametrize("sight", SIGHT)
def test_colors_keep_their_distance(colors: tuple[str, ...], sight: str):
    seen = lab(np.clip(linear(colors) @ np.array(SIGHT[sight]).T, 0, 1))
    distance = np.linalg.norm(seen[:, None] - seen[None], axis=2)
    assert distance[np.triu_indices(len(colors), 1)].min() >= 15


@pytest.mark.parametrize("which", [0, 1])
def test_colors_stand_out_from_the_page(which: int):
    colors = tuple(pair[which] for name, pair in palette.names().items() if name not in ("paper", "line"))
    light = linear(colors) @ XYZ[1]
    ground = (linear((palette.NEUTRAL["paper"][which],)) @ XYZ[1])[0]
    contrast = (np.maximum(light, ground) + 0.05) / (np.minimum(light, ground) + 0.05)
    assert contrast.min() >= 3


def test_no_two_of_twelve_arms_look_alike_without_color():
    looks = {(palette.marker(i), palette.dash(i)) for i in range(12)}
    assert len(looks) == len({palette.marker(i) for i in range(12)}) == 12


def test_more_arms_than_colors_get_one_again():
    assert palette.color(8) == palette.color(0)
    assert palette.color(None) == "ink"
