"""Augmentations: what they do, that each run draws its own, and that they act in training alone."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from fallline import layers, losses, rng
from fallline.errors import BadTask, BadValue
from fallline.tasks import augment
from fallline.tasks.supervised import supervised

from .solo import both, runs

ALPHA = 1e-4
PICTURES = torch.arange(200 * 2 * 4 * 5, dtype=torch.float64).reshape(200, 2, 4, 5) + 1
N = 48
IMAGES = np.random.default_rng(0).normal(size=(N, 1, 4, 4))
Y = np.arange(N) % 3


def drawn(function, *args, seed=0):
    with rng.Noise(torch.tensor(seed), torch.tensor(0)):
        return function(*args)


def of(change, train=(IMAGES, Y), model=lambda: layers.mlp(16, 3), **options):
    return supervised(
        model, train, **{"loss": losses.cross_entropy, "dtype": torch.float64, "augment": change, **options}
    )


# --- what each does ---------------------------------------------------------------------------------------


def test_flip_mirrors_its_share_of_the_examples():
    assert torch.equal(drawn(augment.flip(0), PICTURES), PICTURES)
    assert torch.equal(drawn(augment.flip(1), PICTURES), PICTURES.flip(-1))
    found = drawn(augment.flip(0.3), PICTURES)
    mirrored = (found == PICTURES.flip(-1)).flatten(1).all(1)
    assert torch.equal(mirrored, ~(found == PICTURES).flatten(1).all(1))
    assert stats.binomtest(int(mirrored.sum()), len(mirrored), 0.3).pvalue > ALPHA


def shifted(x, down, right):
    """The slow twin, for one picture."""
    out = torch.zeros_like(x)
    height, width = x.shape[-2:]
    for i in range(height):
        for j in range(width):
            if 0 <= i - down < height and 0 <= j - right < width:
                out[..., i, j] = x[..., i - down, j - right]
    return out


def test_shift_moves_each_example_by_whole_pixels_equally_likely():
    k = 2
    found, counts = drawn(augment.shift(k), PICTURES), {}
    ways = [(i, j) for i in range(-k, k + 1) for j in range(-k, k + 1)]
    for x, moved in zip(PICTURES, found, strict=True):
        (way,) = [way for way in ways if torch.equal(shifted(x, *way), moved)]
        counts[way] = counts.get(way, 0) + 1
    assert stats.chisquare([counts.get(way, 0) for way in ways]).pvalue > ALPHA
    assert torch.equal(drawn(augment.shift(0), PICTURES), PICTURES)
    assert drawn(augment.shift(9), PICTURES[:, 0]).shape == PICTURES[:, 0].shape


def test_noise_is_normal_of_its_size():
    x = torch.ones(500, 6, dtype=torch.float64)
    added = (drawn(augment.noise(0.3), x) - x) / 0.3
    assert stats.kstest(added.numpy().ravel(), "norm").pvalue > ALPHA
    assert torch.equal(drawn(augment.noise(0), x), x)


def test_a_chain_is_one_after_another_and_prints_as_such():
    both_of = augment.chain(augment.flip(0.3), augment.shift(1))
    with rng.Noise(torch.tensor(0), torch.tensor(0)):
        expected = augment.shift(1)(augment.flip(0.3)(PICTURES))
    assert torch.equal(drawn(both_of, PICTURES), expected)
    assert repr(augment.chain(both_of, augment.noise(1e-3), abs)) == (
        "chain(chain(flip(0.3), shift(1)), noise(0.001), abs)"
    )


@pytest.mark.parametrize("change", [augment.flip(0.4), augment.shift(2), augment.noise(0.5)], ids=repr)
def test_each_run_draws_its_own_by_vmap_as_alone(change):
    def one(seed):
        with rng.Noise(seed, torch.tensor(3)):
            return change(PICTURES)

    together = torch.func.vmap(one)(torch.arange(3))
    for i in range(3):
        assert torch.equal(together[i], one(torch.tensor(i)))
    assert not torch.equal(together[0], together[1])
    assert together.dtype == PICTURES.dtype


# --- in a task --------------------------------------------------------------------------------------------


def test_it_acts_in_training_alone():
    task, plain = of(augment.noise(0.5)), of(None)
    variables, batch = task.init(0), task.parts["train"]

    def losses_of(which, seed):
        return drawn(lambda: which.loss(*variables, batch, {})[0], seed=seed)

    assert not torch.equal(losses_of(task, 0), losses_of(plain, 0))
    assert not torch.equal(losses_of(task, 0), losses_of(task, 1))
    assert torch.equal(losses_of(task, 1), losses_of(task, 1))
    for name, value in drawn(lambda: task.score(*variables, batch, {})).items():
        assert torch.equal(value, plain.score(*variables, batch, {})[name])
    assert task.facts["augment"] == "noise(0.5)"
    assert "augment" not in plain.facts
    assert of(lambda x: x).facts["augment"] == "<lambda>"


def test_it_acts_as_written_before_the_model():
    task, plain = of(lambda x: 2 * x), of(None, (2 * IMAGES, Y))
    assert torch.equal(
        task.loss(*task.init(0), task.parts["train"], {})[0],
        plain.loss(*plain.init(0), plain.parts["train"], {})[0],
    )


@pytest.mark.parametrize(
    "change", [augment.chain(augment.flip(), augment.shift(1)), augment.noise(0.2)], ids=repr
)
def test_a_fleet_with_augmentation_is_its_runs(change):
    records = both(of(change), runs())
    assert not np.array_equal(*(r.weights["1.weight"] for r in records))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = layers.mlp(16, 3), layers.mlp(16, 3)

    def forward(self, a, b):
        return self.a(a) + self.b(b)


def test_several_inputs_are_given_as_the_model_has_them():
    def of_pair(inputs):
        a, b = inputs
        return augment.flip()(a), b

    def of_dict(inputs):
        return {**inputs, "a": augment.flip()(inputs["a"])}

    placed = both(of(of_pair, ((IMAGES, IMAGES), Y), Two), runs())
    named = both(of(of_dict, ({"b": IMAGES, "a": IMAGES}, Y), Two), runs())
    for name, w in placed[0].weights.items():
        np.testing.assert_allclose(w, named[0].weights[name], rtol=1e-12)


def test_pictures_of_bytes_are_changed_as_numbers():
    pixels = np.random.default_rng(0).integers(0, 256, (N, 1, 4, 4), dtype=np.uint8)
    task = of(augment.chain(lambda x: x / 255, augment.noise(0.1)), (pixels, Y))
    assert task.parts["train"]["inputs"].dtype == torch.uint8
    both(task, runs())


BAD = {
    "no function": (lambda: of("flip"), BadTask, r"^augment must be a function from inputs to inputs, such as tasks.augment.flip\(\), "
                    r"got 'flip'$"),
    "a function that fails": (lambda: of(lambda x: x[0, 0, 0, 0, 0, 0]), BadTask, r"^augment failed: too many indices"),
    "fewer examples": (lambda: of(lambda x: x[:2]), BadTask, r"^augment must give as many examples, in the form in which it got them: "
                       r"it was given 4 examples and gave 2 examples$"),
    "nothing": (lambda: of(lambda x: None), BadTask, r"^augment must give .* and gave a NoneType$"),
    "one of two": (lambda: of(lambda x: x[0], ((IMAGES, IMAGES), Y), Two), BadTask, r"given a tuple of 4 examples, 4 examples and gave 4 ex"),
    "noise of NumPy": (lambda: of(lambda x: x + float(np.random.random())), BadTask,  # noqa: NPY002
                       r"^augment draws noise from the global generator of NumPy"),
    "a flip of a table": (lambda: of(augment.flip(), (IMAGES[:, 0, 0], Y), lambda: layers.mlp(4, 3)), BadTask, r"^flip changes pictures "
                          r"\[examples, …, height, width\] of a floating-point type, the inputs are \[4, 4\] of torch.float64: for"),
    "a shift of two": (lambda: of(augment.shift(), ((IMAGES, IMAGES), Y), Two), BadTask, r"^shift changes .*, the inputs are a tuple: for "
                       r"several inputs, write a function that changes one of them$"),
    "a share": (lambda: augment.flip(1.5), BadValue, r"^flip\(p=1.5\): p is the share of examples that are mirrored and must be in \[0, 1\]"),
    "half a pixel": (lambda: augment.shift(1.5), BadValue, r"^shift\(pixels=1.5\): pictures move by whole pixels, as in shift\(2\)$"),
    "negative pixels": (lambda: augment.shift(-1), BadValue, r"^shift\(pixels=-1\): pixels is the largest shift"),
    "negative noise": (lambda: augment.noise(-0.1), BadValue, r"^noise\(std=-0.1\): std is the standard deviation"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_refused(what):
    make, error, sentence = BAD[what]
    state = np.random.get_state()  # noqa: NPY002
    with pytest.raises(error, match=sentence):
        make()
    np.random.set_state(state)  # noqa: NPY002
