"""Pictures that are made: the losses are the slides', bad pictures are refused, and a run is one of a fleet."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fallline import fleet, rules
from fallline.errors import BadTask
from fallline.layers import vgg19
from fallline.specs import Run
from fallline.tasks import images, pictures
from fallline.tasks.images import random_features, style_transfer, targets, vgg_features

RANDOM = np.random.default_rng(0)
WAVES = np.stack(
    np.broadcast_arrays(
        *(0.5 + 0.5 * np.sin(k * np.linspace(0, 9, 48)[None, :] + np.zeros((32, 1))) for k in (1, 2, 3))
    ),
    2,
)
NOISE = RANDOM.random((40, 40, 3))


def saved(folder: Path, name: str, array: np.ndarray, mode: str = "RGB") -> Path:
    path = folder / name
    Image.fromarray((array * 255).astype(np.uint8), mode=None if mode == "RGB" else mode).save(path)
    return path


# --- the slides' equations ----------------------------------------------------------------------------------


def test_the_total_is_the_slides_sum_over_layers():
    like, styled = pictures.read(WAVES, 32), pictures.read(NOISE, 32)
    features = random_features(like, width=4)
    wanted = targets(like, styled, features)
    made = torch.rand(like.shape, generator=torch.Generator().manual_seed(0))
    f, p, a = (features(one) for one in (made, like, styled))
    layer, _ = wanted.content
    content = 0.5 * float(((f[layer] - p[layer]) ** 2).sum())
    style = 0.0
    for name, w in wanted.weights.items():
        flat, theirs = f[name][0].flatten(1), a[name][0].flatten(1)
        n, m = flat.shape
        g = torch.einsum("ik,jk->ij", flat, flat)
        of_style = torch.einsum("ik,jk->ij", theirs, theirs) * (m / theirs.shape[1])
        style += w * float(((g - of_style) ** 2).sum()) / (4 * n**2 * m**2)
    assert math.isclose(float(wanted.total(made, 2.0, 3.0)), 2 * content + 3 * style, rel_tol=1e-4)
    assert math.isclose(sum(wanted.weights.values()), 1.0)
    assert float(wanted.total(like, 1.0, 0.0)) == 0.0


def test_a_style_of_another_size_has_the_same_gram_matrix_for_each_position():
    features = random_features(pictures.read(WAVES, 32), width=4)
    one = pictures.read(NOISE, 32)
    twice = torch.cat([one, one.flip(3)], 3)
    small, large = (targets(one, style, features).styles["1_1"] for style in (one, twice))
    mirrored = targets(one, one.flip(3), features).styles["1_1"]
    torch.testing.assert_close(large, (small + mirrored) / 2, rtol=0.1, atol=1.0)  # but for the seam


def test_random_channels_are_standardized_before_their_activation():
    made = random_features(pictures.read(NOISE, 40), width=4)
    found = made(pictures.read(NOISE, 40))
    assert list(found) == made.names == ["1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "4_1", "4_2"]
    means = torch.stack([x.mean((0, 2, 3)).mean() for x in found.values()])
    assert ((means > 0.2) & (means < 0.6)).all()  # of the positive half of a standard normal: 0.4
    assert not any(p.requires_grad for p in made.parameters())


def test_features_of_vgg_are_its_activations():
    net = vgg19(outputs=10, width=1 / 16, pool="average").eval()
    features = vgg_features(net.features)
    picture = torch.rand(1, 3, 64, 64)
    found = features(picture)
    x = (picture - torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).reshape(3, 1, 1)
    at = {1: "1_1", 3: "1_2", 6: "2_1", 20: "4_1", 29: "5_1", 35: "5_4"}
    for i, layer in enumerate(net.features):
        x = layer(x)
        if i in at:
            torch.testing.assert_close(found[at[i]], x)
    own = targets(picture, picture, features)
    assert own.content[0] == "4_2"
    assert own.weights == {f"{b}_1": 0.2 for b in range(1, 6)}


def test_a_pyramid_is_its_picture():
    picture = torch.rand(1, 3, 37, 52)
    assert torch.equal(images.composed(images.pyramid(picture)), picture)


# --- as a task ------------------------------------------------------------------------------------------------


def test_a_family_over_style_weights_trains_in_a_fleet_and_each_run_as_alone():
    task = style_transfer(WAVES, NOISE, size=32)
    runs = [Run(rules.adam(lr=0.001), seed=1, loss={"beta": beta}) for beta in (10.0, 300.0)]
    together = fleet.run(task, runs, steps=8, weights=True, workers=0, executor="traced")
    for run, record in zip(runs, together, strict=True):
        (alone,) = fleet.run(task, [run], steps=8, weights=True, workers=0, executor="traced")
        assert all(np.array_equal(alone.weights[name], record.weights[name]) for name in alone.weights)
    losses = together[1].series["train_loss"].values
    assert losses[-1] < losses[0]
    assert task.init(1).params["level0"].equal(task.init(1).params["level0"])
    assert not task.init(1).params["level0"].equal(task.init(2).params["level0"])


# --- pictures of every kind -----------------------------------------------------------------------------------


def test_gray_and_transparent_pictures_are_read_and_paths_as_arrays(tmp_path: Path):
    gray = pictures.read(saved(tmp_path, "gray.png", NOISE[..., 0], "L"), 40)
    assert gray.shape == (1, 3, 40, 40)
    assert torch.equal(gray[:, 0], gray[:, 2])
    clear = np.concatenate([NOISE, np.zeros((40, 40, 1))], 2)
    assert (pictures.read(saved(tmp_path, "clear.png", clear, "RGBA"), 40) == 1).all()
    whole = saved(tmp_path, "whole.png", NOISE)
    assert torch.equal(pictures.read(whole, 40), pictures.read((NOISE * 255).astype(np.uint8), 40))
    assert pictures.read(np.zeros((30, 60), dtype=np.uint8), 48).shape == (1, 3, 24, 48)
    with Image.open(io.BytesIO(pictures.png(gray))) as again:
        assert again.size == (40, 40)


def test_bad_pictures_are_refused(tmp_path: Path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(saved(tmp_path, "whole.jpg", NOISE).read_bytes()[:200])
    text = tmp_path / "text.png"
    text.write_text("no picture")
    thin = saved(tmp_path, "thin.png", NOISE[:, :1])
    for given, told in (
        (tmp_path / "none.jpg", r"^there is no picture .*none\.jpg$"),
        (broken, r"broken\.jpg cannot be read as a picture: "),
        (text, r"text\.png cannot be read as a picture: "),
        (
            thin,
            r"thin\.png is 1 × 40 pixels, which at a size of 40 leaves 1 × 40: a picture needs 16 on each side",
        ),
        (np.zeros((4, 4, 7)), r"^a picture is a path or an array .* got \[4, 4, 7\]$"),
        (
            np.full((20, 20, 3), 2.0),
            r"^a picture that is an array holds bytes, or numbers from 0 to 1; this one holds others$",
        ),
        (np.full((20, 20, 3), np.nan), r"^a picture that is an array holds bytes, or numbers from 0 to 1"),
    ):
        with pytest.raises(BadTask, match=told):
            pictures.read(given, 40)
    with pytest.raises(
        BadTask,
        match=r"^size is the number of pixels of the longer side, a whole number of at least 16; got 8$",
    ):
        pictures.read(NOISE, 8)
    like = pictures.read(NOISE, 40)
    features = random_features(like, width=2)
    with pytest.raises(BadTask, match=r"^there is no layer '9_9' in these features; they have 1_1, 1_2"):
        targets(like, like, features, content_layer="9_9")
