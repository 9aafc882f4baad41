"""Curiosity: closed forms on small worlds, and what each idea of what is new does with noise."""

import math

import numpy as np
import pytest
import torch
from torch.func import vmap

from fallline.errors import BadValue, NotFound
from fallline.losses.curiosity import Curiosity, Transition, counts, icm, learning_progress, rnd

N, WIDTH, ACTIONS = 6, 3, 4


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def seen(seed=0):
    return Transition(
        random(N, WIDTH, seed=seed), torch.arange(N) % ACTIONS, random(N, WIDTH, seed=seed + 100)
    )


def quadrant(observations):
    return (observations[:, 0] > 0).long() + 2 * (observations[:, 1] > 0).long()


MEMBERS = {
    "counts": counts(4, cell=quadrant),
    "rnd": rnd(WIDTH),
    "icm": icm(WIDTH, ACTIONS),
    "progress": learning_progress(icm(WIDTH, ACTIONS), 4, region=quadrant),
}


# --- what all of them keep --------------------------------------------------------------------------------


@pytest.mark.parametrize("world", MEMBERS.values(), ids=MEMBERS)
def test_pure_functions_of_tensors(world):
    state, what = world.init(seed=3), seen()
    before = {name: t.clone() for name, t in state.items()}
    after = world.learn(state, what)
    bonus = world.bonus(after, what)
    assert bonus.shape == (N,)
    assert {k: (t.shape, t.dtype) for k, t in after.items()} == {
        k: (t.shape, t.dtype) for k, t in state.items()
    }
    assert all(torch.equal(t, before[name]) for name, t in state.items())
    assert any(not torch.equal(t, before[name]) for name, t in after.items())
    assert all(torch.equal(t, world.init(seed=3)[name]) for name, t in state.items())


@pytest.mark.parametrize("world", MEMBERS.values(), ids=MEMBERS)
def test_many_runs_by_vmap_are_as_each_alone_with_numbers_of_their_own(world):
    runs, steps = 3, 4
    numbers = {k: [n * (1 + i / 10) for i in range(runs)] for k, n in world.numbers.items()}
    states = [world.init(seed) for seed in range(runs)]
    stacked = {name: torch.stack([s[name] for s in states]) for name in states[0]}
    h = {k: torch.tensor(v, dtype=torch.float64) for k, v in numbers.items()}
    for step in range(steps):
        whats = [seen(10 * step + i) for i in range(runs)]
        together = Transition(*(torch.stack(column) for column in zip(*whats, strict=True)))
        stacked = vmap(world.learn)(stacked, together, h)
        for i in range(runs):
            states[i] = world.learn(states[i], whats[i], {k: v[i] for k, v in numbers.items()})
    bonuses = vmap(world.bonus)(stacked, together, h)
    for i in range(runs):
        alone = world.bonus(states[i], whats[i], {k: v[i] for k, v in numbers.items()})
        torch.testing.assert_close(bonuses[i], alone, rtol=1e-4, atol=1e-5)


# --- counts -----------------------------------------------------------------------------------------------


def test_counts_are_exact():
    world, cells = counts(5), np.random.default_rng(0).integers(5, size=(30, 8))
    state, so_far = world.init(), np.zeros(5)
    for batch in cells:
        what = Transition(torch.zeros(8), torch.zeros(8), torch.from_numpy(batch))
        np.testing.assert_allclose(world.bonus(state, what), 1 / np.sqrt(so_far[batch] + 1), rtol=1e-6)
        state = world.learn(state, what)
        so_far += np.bincount(batch, minlength=5)
    np.testing.assert_array_equal(state["visits"], so_far)


def test_noise_with_many_values_stays_new_to_counts():
    """A channel that never repeats is worth 1 forever; one of two channels, 1/√n."""
    few, many = counts(2), counts(1000)
    a, b = few.init(), many.init()
    for i in range(400):
        one = Transition(*torch.tensor([[0], [0], [i % 2]]))
        other = Transition(*torch.tensor([[0], [0], [i]]))
        assert many.bonus(b, other) == 1.0
        a, b = few.learn(a, one), many.learn(b, other)
    torch.testing.assert_close(few.bonus(a, one), torch.tensor([1 / math.sqrt(201)]))


# --- networks ---------------------------------------------------------------------------------------------


def test_rnd_of_a_repeated_state_falls_as_its_closed_form():
    """Linear networks: the gap shrinks by 1 − 2 lr (‖s‖² + 1)/d at each step, and the bonus by the square of that."""
    width, features, lr = 3, 4, 0.05
    world = rnd(width, features=features, hidden=(), lr=lr)
    state = {name: t.double() for name, t in world.init(seed=1).items()}
    s = random(1, width).double()
    what = Transition(s, torch.zeros(1), s)
    first, factor = world.bonus(state, what), 1 - 2 * lr * ((s**2).sum() + 1) / features
    assert 0 < factor < 1
    for step in range(1, 20):
        state = world.learn(state, what)
        torch.testing.assert_close(world.bonus(state, what), first * factor ** (2 * step), rtol=1e-9, atol=0)


def test_rnd_is_zero_for_a_learner_that_is_the_random_network_and_leaves_that_as_it_is():
    world, what = rnd(WIDTH), seen()
    state = world.init()
    same = state | {
        k.replace("fixed.random", "learner"): t for k, t in state.items() if k.startswith("fixed.")
    }
    assert (world.bonus(same, what) == 0).all()
    after = world.learn(state, what)
    assert all(torch.equal(after[k], t) for k, t in state.items() if k.startswith("fixed."))


def test_rnd_prefers_what_it_has_not_seen():
    """A gradient step on one state lowers its bonus; of an input that is orthogonal to it, without biases, nothing moves."""
    world = rnd(2, hidden=(), lr=0.5)
    state = world.init(seed=2)
    old, new = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    known, unknown = (Transition(s, torch.zeros(1), s) for s in (old, new))
    before = world.bonus(state, known), world.bonus(state, unknown)
    for _ in range(500):
        state = {k: (torch.zeros_like(t) if "bias" in k else t) for k, t in world.learn(state, known).items()}
    assert world.bonus(state, known) < 1e-3 * before[0]
    torch.testing.assert_close(world.bonus(state, unknown), before[1])


def test_icm_is_its_equations():
    """The bonus, and a step of learning, by autograd over what the paper writes, one transition at a time."""
    world, what = icm(WIDTH, ACTIONS, features=2, hidden=(5,), size=3.0, beta=0.3, lr=0.1), seen()
    state = {name: t.double() for name, t in world.init(seed=4).items()}
    leaves = {name: t.clone().requires_grad_() for name, t in state.items()}

    def two(name, x):
        inner = torch.relu(leaves[f"{name}.0.weight"] @ x + leaves[f"{name}.0.bias"])
        return leaves[f"{name}.1.weight"] @ inner + leaves[f"{name}.1.bias"]

    bonuses, total = [], 0.0
    for before, action, after in zip(*what, strict=True):
        phi, phi_after = two("features", before.double()), two("features", after.double())
        one_hot = torch.nn.functional.one_hot(action, ACTIONS).double()
        forward = 0.5 * ((two("forward", torch.cat([phi, one_hot])) - phi_after) ** 2).sum()
        z = leaves["inverse.0.weight"] @ torch.cat([phi, phi_after]) + leaves["inverse.0.bias"]
        total = total + (0.7 * -z.log_softmax(0)[action] + 0.3 * forward) / N
        bonuses.append(3.0 * forward.detach())
    torch.testing.assert_close(world.bonus(state, what), torch.stack(bonuses))
    slopes = torch.autograd.grad(total, list(leaves.values()))
    after = world.learn(state, what)
    for (name, t), slope in zip(state.items(), slopes, strict=True):
        torch.testing.assert_close(after[name], t - 0.1 * slope)


# --- learning progress ------------------------------------------------------------------------------------


def given_errors(regions=1, **options):
    """Progress on errors that are handed in as what was seen after."""
    told = Curiosity("told", lambda seed: {}, lambda s, t, h: t.after[:, 0], lambda s, t, h: s, {}, {})
    region = (lambda x: x[:, 1].long()) if regions > 1 else None
    return learning_progress(told, regions, region=region, **options)


def told(errors, regions=None):
    where = torch.zeros(len(errors)) if regions is None else torch.as_tensor(regions).float()
    after = torch.stack([torch.as_tensor(errors).float(), where], 1)
    return Transition(after, torch.zeros(len(errors)), after)


def test_progress_is_the_difference_of_two_weighted_means():
    errors, fast, slow = np.random.default_rng(0).uniform(size=15), 0.3, 0.05
    world = given_errors(fast=fast, slow=slow)
    state = world.init()
    assert world.bonus(state, told([1.0])) == 0.0
    for t, error in enumerate(errors, 1):
        state = world.learn(state, told([error]))
        means = [np.average(errors[:t], weights=(1 - a) ** np.arange(t - 1, -1, -1.0)) for a in (slow, fast)]
        np.testing.assert_allclose(world.bonus(state, told([0.0])), means[0] - means[1], atol=1e-5)


def test_regions_have_means_of_their_own():
    world = given_errors(3, fast=0.5, slow=0.1)
    state = world.init()
    state = world.learn(state, told([4.0, 2.0, 1.0], [0, 0, 1]))
    np.testing.assert_allclose(state["fast"], [0.5 * 3, 0.5 * 1, 0])
    state = world.learn(state, told([0.0], [0]))
    np.testing.assert_array_equal(state["times"], [2, 1, 0])
    bonus = world.bonus(state, told([0.0, 0.0, 0.0], [0, 1, 2]))
    np.testing.assert_allclose(bonus, [3 * 0.9 / 1.9 - 3 * 0.5 / 1.5, 0, 0], atol=1e-6)


def test_progress_on_pure_noise_is_zero_on_average_and_not_where_errors_fall():
    """Each run's progress lies in [−1, 1]: by Hoeffding their mean leaves the bound once in a billion."""
    runs, steps = 20_000, 60
    noise = torch.rand(runs, steps, generator=torch.Generator().manual_seed(1))
    world = given_errors()
    bound = 2 * math.sqrt(math.log(2 / 1e-9) / (2 * runs))

    def progress(errors):
        state = {name: t.expand(len(errors), *t.shape) for name, t in world.init().items()}
        for step in range(steps):
            after = torch.stack([errors[:, step], torch.zeros(len(errors))], 1).unsqueeze(1)
            what = Transition(after, torch.zeros(len(errors), 1), after)
            state = vmap(world.learn)(state, what)
        return vmap(world.bonus)(state, what).mean()

    assert progress(noise).abs() < bound
    falling = torch.linspace(1, 0, steps)
    assert progress(noise * falling) > bound
    assert progress(noise * falling.flip(0)) < -bound


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: counts(0), r"^counts\(cells=0\) must be a whole number of at least 1"),
        (lambda: rnd(2.5), r"^rnd\(width=2.5\) must be a whole number"),
        (lambda: icm(2, 2, features=False), r"^icm\(features=False\) must be a whole number"),
        (lambda: rnd(2, lr=0.0), r"^rnd\(lr=0\): lr is the step size of gradient descent and must be above 0"),
        (lambda: icm(2, 2, beta=1.5), r"^icm\(beta=1.5\): beta is the share of the forward model"),
        (lambda: learning_progress(rnd(2), fast=0.1, slow=0.1), r"^learning_progress\(fast=0.1, slow=0.1\): the slow mean must "
         "remember longer"),
        (lambda: MEMBERS["rnd"].bonus(MEMBERS["rnd"].init(), Transition(torch.ones(2, 3), torch.ones(3), torch.ones(2, 3))),
         r"^a transition has before and after of one shape \[n, …\] and actions \[n\]; got \[2, 3\], \[2, 3\] and \[3\]"),
        (lambda: rnd(2).learn(rnd(2).init(), seen()), r"^rnd was made for observations \[n, 2\], got \[6, 3\]: flatten them"),
        (lambda: counts(3).learn(counts(3).init(), seen()), r"^cells are whole numbers \[n\], one for each observation; got "
         r"\[6, 3\] of torch.float32: pass cell=…"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(make, sentence):
    with pytest.raises(BadValue, match=sentence):
        make()


def test_a_misspelt_number():
    with pytest.raises(NotFound, match="rnd has no number 'rate'"):
        rnd(3).bonus(rnd(3).init(), seen(), {"rate": 0.1})
