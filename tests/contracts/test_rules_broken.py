"""A rule that breaks the contract fails the battery: each mistake below is found by the check that is named."""

import dataclasses
import re

import pytest
import torch

from fallline import registry, rules, specs
from fallline.rules import chain, descend, per_tensor, recipe, reference, whole_tree
from fallline.rules.base import EITHER, EPSILON, RATE, UNIT, behavior
from fallline.rules.making import count, zeros
from fallline.specs import Domain, Rule

from .rule_checks import CHECKS, check_reference

FAILURE = (AssertionError, RuntimeError)


@pytest.fixture(autouse=True)
def _forget():
    """Take the broken kinds out of the registry again."""
    before = dict(registry._behaviors)
    yield
    registry._behaviors.clear()
    registry._behaviors.update(before)


def fails(kind, check, match=None):
    with pytest.raises(FAILURE, match=match and re.escape(match)):
        CHECKS[check](kind)


def adam_with(scale):
    """A named rule that scales by a broken Adam."""

    @recipe(lr=RATE, beta1=UNIT, beta2=UNIT, eps=EPSILON)
    def broken(lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
        return chain(scale(beta1, beta2, eps), descend(lr))

    return "broken"


ADAM = {"beta1": UNIT, "beta2": UNIT, "eps": EPSILON}


def test_the_unbroken_form_follows_its_twin():
    check_reference(adam_with(rules.scale_by_adam), reference.twin("adam"))


def test_a_missing_bias_correction_leaves_the_twin():
    @per_tensor(state={"mu": zeros, "nu": zeros}, **ADAM)
    def uncorrected(g, s, p, h):
        mu, nu = h.beta1 * s.mu + (1 - h.beta1) * g, h.beta2 * s.nu + (1 - h.beta2) * g * g
        return mu / (nu.sqrt() + h.eps), {"mu": mu, "nu": nu}

    with pytest.raises(AssertionError):
        check_reference(adam_with(uncorrected), reference.twin("adam"))


def test_epsilon_inside_the_root_leaves_the_twin():
    @per_tensor(state={"nu": zeros}, gamma=UNIT, eps=EPSILON)
    def inside(g, s, p, h):
        nu = h.gamma * s.nu + (1 - h.gamma) * g * g
        return g / (nu + h.eps).sqrt(), {"nu": nu}

    @recipe(lr=RATE, gamma=UNIT, eps=EPSILON)
    def broken(lr=0.1, gamma=0.9, eps=1e-8):
        return chain(inside(gamma, eps), descend(lr))

    with pytest.raises(AssertionError):
        check_reference("broken", reference.twin("rmsprop"))


def test_a_wrong_sign_leaves_the_twin():
    @per_tensor(gives="step", lr=RATE)
    def climb(g, s, p, h):
        return g * h.lr, {}

    @recipe(lr=RATE)
    def broken(lr=0.1):
        return climb(lr)

    with pytest.raises(AssertionError):
        check_reference("broken", reference.twin("sgd"))


def test_a_named_rule_without_a_twin_fails():
    @recipe(lr=RATE)
    def broken(lr=0.1):
        return descend(lr)

    with pytest.raises(
        rules.reference.NotFound, match=r"broken has no slow twin: write rules/reference/broken.py"
    ):
        CHECKS["reference"]("broken")


def test_a_branch_on_a_number_breaks_fleets():
    @per_tensor(lr=RATE)
    def broken(g, s, p, h):
        return (g if h.lr > 0.1 else -g), {}

    fails("broken", "fleet_torch.float32", "data-dependent control flow")
    fails("broken", "traced")


def test_a_number_that_is_baked_in_breaks_the_trace():
    @per_tensor(lr=RATE)
    def broken(g, s, p, h):
        return g * torch.func.debug_unwrap(h.lr).flatten()[0].item(), {}

    fails("broken", "traced")


def test_runs_that_see_each_other_break_the_law():
    @per_tensor(lr=RATE)
    def broken(g, s, p, h):
        return g * h.lr + torch.func.debug_unwrap(g).mean(), {}

    fails("broken", "fleet_torch.float64", "differs in a fleet")
    fails("broken", "neighbors_torch.float64", "a neighbor of nan changes a run")


def test_state_changed_in_place_is_found():
    @per_tensor(takes=EITHER, state={"trace": zeros}, beta=UNIT)
    def broken(d, s, p, h):
        s.trace.mul_(h.beta).add_(d)
        return s.trace, {"trace": s.trace}

    fails("broken", "untouched", "changes what it is given")


def test_a_gradient_changed_in_place_is_found():
    @per_tensor(takes=EITHER, beta=UNIT)
    def broken(d, s, p, h):
        return d.mul_(h.beta), {}

    fails("broken", "untouched", "changes what it is given")


def test_state_that_is_not_in_init_is_found():
    @per_tensor(takes=EITHER, state={"old": zeros})
    def broken(d, s, p, h):
        return d, {"new": d}

    with pytest.raises(KeyError, match="new"):
        CHECKS["untouched"]("broken")


def test_state_that_is_lost_is_found():
    @per_tensor(takes=EITHER, state={"t": count})
    def broken(d, s, p, h):
        return d, {}

    fails("broken", "untouched")


def test_a_wider_dtype_is_found():
    known = behavior(rules.descend(0.1))

    def update(rule, direction, state, params, h, oracle):
        step, state, info = known.update(rule, direction, state, params, h, oracle)
        return {name: d.double() for name, d in step.items()}, state, info

    def sample(draw):
        return Rule("broken", {"lr": draw(RATE)})

    specs.register(Rule, "broken", dataclasses.replace(known, update=update, sample=sample))
    fails("broken", "dtypes_torch.float32")


def test_a_jump_that_is_not_declared_is_found():
    @per_tensor(lr=RATE)
    def broken(g, s, p, h):
        return g.sign() * h.lr, {}

    fails("broken", "continuous", "jumps, and does not say so")


def test_a_jump_that_is_declared_is_accepted():
    @per_tensor(lr=RATE, discontinuous=True)
    def broken(g, s, p, h):
        return g.sign() * h.lr, {}

    @recipe(lr=RATE)
    def made_of_it(lr=0.1):
        return chain(broken(1.0), descend(lr))

    CHECKS["continuous"]("broken")
    CHECKS["continuous"]("made_of_it")
    assert rules.discontinuous(made_of_it())


def test_entries_that_mix_are_found():
    @per_tensor(lr=RATE)
    def broken(g, s, p, h):
        return g.flatten().cumsum(0).reshape(g.shape) * h.lr, {}

    fails("broken", "elementwise", "says that it is elementwise, and is not")


def test_zero_over_zero_is_found():
    @per_tensor(state={"nu": zeros}, eps=EPSILON)
    def broken(g, s, p, h):
        nu = s.nu + g * g
        return g / (nu.sqrt() + h.eps), {"nu": nu}

    fails("broken", "finite_at_zero", "not finite at 0.0")


def test_a_hidden_nan_is_found():
    @per_tensor(lr=RATE)
    def broken(g, s, p, h):
        return g.nan_to_num() * h.lr, {}

    fails("broken", "nan_is_seen", "hides a NaN")


def test_a_nan_that_spreads_is_found():
    @per_tensor(lr=RATE)
    def broken(g, s, p, h):
        return g * h.lr + 0 * g.sum(), {}

    fails("broken", "nan_is_seen", "a NaN spreads")


def test_numbers_that_are_not_checked_are_found():
    @per_tensor(lr=RATE)
    def broken(g, s, p, h):
        return g * h.lr, {}

    def make(*args, **given):
        return Rule("broken", given)

    specs.register(Rule, "broken", dataclasses.replace(behavior(Rule("broken")), make=make))
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        CHECKS["domains"]("broken")


def test_a_docstring_without_a_source_is_found():
    @per_tensor(lr=RATE)
    def broken(g, s, p, h):
        """d = lr · g.

        Args:
            lr: the learning rate.

        >>> 1 + 1
        2
        """
        return g * h.lr, {}

    fails("broken", "words", "no 'Source:'")


def test_an_example_that_fails_is_found():
    @per_tensor(lr=RATE)
    def broken(g, s, p, h):
        """d = lr · g.

        Args:
            lr: the learning rate.

        >>> 1 + 1
        3

        Source: none.
        """
        return g * h.lr, {}

    fails("broken", "words", "the example of its docstring fails")


def test_an_argument_without_a_word_is_found():
    @per_tensor(lr=RATE)
    def broken(g, s, p, h):
        """d = lr · g.

        Args:
            rate: the learning rate.

        >>> 1 + 1
        2

        Source: none.
        """
        return g * h.lr, {}

    fails("broken", "words", "lr is not explained")


def test_options_that_cannot_be_written_down_are_found():
    @recipe(lr=RATE)
    def broken(lr=0.1, shape=frozenset({1})):
        return descend(lr)

    with pytest.raises(specs.BadValue, match="is not plain data"):
        CHECKS["plain"]("broken")


def test_a_clip_that_looks_at_one_tensor_at_a_time_leaves_the_twin():
    @per_tensor(takes=EITHER, elementwise=False, max_norm=Domain("a bound", low=0.0, open_low=True))
    def broken(d, s, p, h):
        return d * (h.max_norm / d.norm()).clamp(max=1), {}

    with pytest.raises(AssertionError):
        check_reference("broken", reference.twin("clip_norm"))


def test_a_whole_tree_that_forgets_its_state_is_found():
    @whole_tree(state={"t": lambda params, h: torch.zeros(())})
    def broken(tree, s, params, h):
        s.t.add_(1)
        return tree, {"t": s.t}, {}

    fails("broken", "untouched", "changes what it is given")


# --- what is declared, and is not so ----------------------------------------------------------------------


def declared(scale, **promises):
    """A named rule that scales as it says, and declares what it does not keep."""
    promises = {"huge": "diverges", "invariances": {"sign": {}}, "search": {"lr": (0.0003, 0.3)}, **promises}

    @recipe(**promises, lr=RATE, eps=EPSILON)
    def broken(lr=0.01, eps=1e-8):
        return chain(scale(0.9, 0.99, eps), descend(lr))

    return "broken"


@pytest.mark.parametrize(
    ("name", "under", "said"),
    [
        ("scale", {}, "declares scale under {}, and misses it"),
        ("proportion", {"eps": 0.0}, "declares proportion under {'eps': 0.0}, and misses it"),
        ("rotation", {}, "declares rotation under {}, and misses it"),
        ("sign", {"eps": 0.0}, "has sign without eps, too"),
    ],
)
def test_an_invariance_that_is_not_there_is_found(name, under, said):
    fails(declared(rules.scale_by_adam, invariances={name: under}), "invariances", said)


@pytest.mark.parametrize("name", ["sign", "permutation"])
def test_entries_that_lean_on_their_place_break_an_invariance(name):
    @per_tensor(elementwise=False, beta1=UNIT, beta2=UNIT, eps=EPSILON)
    def leaning(g, s, p, h):
        return (g + 1) * torch.arange(1, g.numel() + 1).reshape(g.shape), {}

    fails(declared(leaning, invariances={name: {}}), "invariances", f"declares {name}")


def test_an_invariance_must_be_declared():
    fails(declared(rules.scale_by_adam, invariances={}), "invariances", "declares no invariances=")


def test_a_limit_that_is_not_one_is_found():
    wrong = {"broken(lr=0.1, eps=0)": "chain(scale_by_sign(), descend(0.1))"}
    fails(declared(rules.scale_by_adam, limits=wrong), "limits", "is not chain")
    fails(
        declared(rules.scale_by_adam, limits={"sgd(lr=0.1)": "sgd(lr=0.1)"}),
        "limits",
        "declares a limit of sgd",
    )


def test_a_rule_that_moves_without_gradients_is_found():
    @per_tensor(beta1=UNIT, beta2=UNIT, eps=EPSILON)
    def drifting(g, s, p, h):
        return g + 1e-9, {}

    fails(declared(drifting), "rests", "moves though all gradients are zero")


@pytest.mark.parametrize("claim", ["proportion", "bounded", "stalls", None])
def test_a_wrong_word_about_huge_gradients_is_found(claim):
    fails(declared(rules.scale_by_adam, huge=claim), "huge", "it is 'diverges'")


def test_a_rule_that_does_not_converge_is_found():
    @per_tensor(state={"t": count}, beta1=UNIT, beta2=UNIT, eps=EPSILON)
    def tiring(g, s, p, h):
        return g / (1 + s.t) ** 2, {"t": s.t + 1}

    fails(declared(tiring), "converges", "has not converged in 1000 steps")
    fails(declared(rules.scale_by_adam, budget=5), "converges", "has not converged in 5 steps")


def test_a_true_declaration_passes():
    true = {"scale": {"eps": 0.0}, "sign": {}, "permutation": {}}
    kind = declared(rules.scale_by_adam, invariances=true)
    for check in ("invariances", "rests", "huge", "converges"):
        CHECKS[check](kind)
