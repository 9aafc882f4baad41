"""Every loss keeps the contract, and one that breaks it fails."""

import pytest
import torch

from fallline import losses, registry, specs
from fallline.errors import NotFound
from fallline.losses import held
from fallline.specs import Domain, Loss

from .loss_checks import CHECKS, check_twin, check_twin_exists

BOTH = ("prediction", "target")


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("kind", specs.kinds(Loss))
def test_contract(kind, check):
    CHECKS[check](kind)


# --- broken ones ------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _forget():
    before = dict(registry._behaviors)
    yield
    registry._behaviors.clear()
    registry._behaviors.update(before)


def fails(check, match=None):
    with pytest.raises((AssertionError, RuntimeError), match=match):
        CHECKS[check]("broken")


def same(given):
    if given.prediction.shape != given.target.shape or not given.target.is_floating_point():
        raise losses.base.BadTask("one shape")


def summed(each):
    return each.flatten(1).sum(1) if each.ndim > 1 else each


def regression(**numbers):
    return losses.define(needs=BOTH, check=same, **numbers)


def test_a_whole_one_keeps_the_contract(monkeypatch):
    @regression(power=(Domain("a factor", low=0.0), 1.0))
    def broken(given, h):
        """ℓ = power · Σ (y − f(x))². prediction and target: [examples, …].

        Args:
            power: a factor.

        >>> import torch
        >>> broken(torch.ones(1), torch.zeros(1))
        tensor(1.)

        Source: none.
        """
        return h.power * summed((given.prediction - given.target) ** 2)

    monkeypatch.setitem(globals(), "broken", broken)  # its example calls it by its name
    for check in CHECKS.values():
        check("broken")


def test_a_wrong_factor_leaves_the_twin():
    @regression()
    def broken(given, h):
        return 0.5 * summed((given.prediction - given.target) ** 2)

    with pytest.raises(AssertionError):
        check_twin("broken", losses.reference.mse)


def test_a_mean_over_outputs_leaves_the_twin():
    @regression()
    def broken(given, h):
        each = (given.prediction - given.target) ** 2
        return each.flatten(1).mean(1) if each.ndim > 1 else each

    with pytest.raises(AssertionError):
        check_twin("broken", losses.reference.mse)


def test_a_public_loss_without_a_twin_fails(monkeypatch):
    monkeypatch.setattr(losses, "broken", None, raising=False)
    with pytest.raises(
        NotFound, match="broken has no literal twin: write a function of its name in losses/ref"
    ):
        check_twin_exists("broken")


def test_what_is_no_twin_is_not_taken_for_one():
    for name in ("np", "twin", "follow", "Loss"):
        with pytest.raises(NotFound, match="has no literal twin"):
            losses.reference.twin(name)


def test_a_sum_over_examples_is_found():
    @regression()
    def broken(given, h):
        return ((given.prediction - given.target) ** 2).sum()

    fails("shape", "one number for each example")


def test_a_narrower_type_is_found():
    @regression()
    def broken(given, h):
        return summed((given.prediction - given.target) ** 2).float()

    fails("shape", "becomes torch.float32")


def test_a_detached_term_is_found():
    @regression()
    def broken(given, h):
        return summed((given.prediction - given.target) * given.prediction.detach())

    fails("gradient", "a wrong gradient")


def test_a_softmax_before_the_logarithm_is_found():
    @regression()
    def broken(given, h):
        return -summed((given.target.clamp(0, 1)) * given.prediction.sigmoid().log())

    fails("extremes", "not finite at ±1e4")


def test_a_root_without_a_slope_at_zero_is_found():
    @regression()
    def broken(given, h):
        return summed((given.prediction**2).sqrt())

    fails("extremes", "not finite at equal outputs")


def test_places_that_matter_are_found():
    @regression()
    def broken(given, h):
        each = summed((given.prediction - given.target) ** 2)
        return each * torch.arange(len(each))

    fails("order", "the order matters")


def test_examples_that_see_each_other_are_found():
    @regression()
    def broken(given, h):
        each = summed((given.prediction - given.target) ** 2)
        return each - each.mean()

    fails("order", "examples see each other")
    fails("weight")


def test_weights_that_are_not_honored_are_found():
    @losses.define(needs=BOTH, scope="batch", check=same)
    def broken(given, h):
        return summed((given.prediction - given.target) ** 2).mean()

    fails("weight", "does not honor weights")


def test_weights_that_are_not_normalized_are_found():
    @losses.define(needs=BOTH, scope="batch", check=same)
    def broken(given, h):
        each = summed((given.prediction - given.target) ** 2)
        return (each * getattr(given, "weight", torch.ones(len(each)))).mean()

    fails("weight")


def test_a_branch_on_a_number_is_found():
    @regression(power=(Domain("a factor", low=0.0), 1.0))
    def broken(given, h):
        return summed(given.prediction if h.power > 0.1 else given.target)

    fails("fleet", "data-dependent control flow")
    fails("traced")


def test_a_number_that_is_baked_in_is_found():
    @regression(power=(Domain("a factor", low=0.0), 1.0))
    def broken(given, h):
        return summed(given.prediction) * float(h.power)

    fails("fleet", "item")
    fails("traced")


def test_runs_that_see_each_other_are_found():
    @regression()
    def broken(given, h):
        return summed(given.prediction) + torch.func.debug_unwrap(given.target).mean()

    fails("fleet", "a run differs in a fleet of 1")
    fails("loop", "by vmap and by a loop differ")


def test_inputs_changed_in_place_are_found():
    @regression()
    def broken(given, h):
        return summed(given.prediction.sub_(given.target) ** 2)

    fails("untouched", "changes what it is given")


def test_a_need_that_is_not_declared_is_found():
    @losses.define(needs=("prediction",))
    def broken(given, h):
        return summed(given.prediction * given.target)

    with pytest.raises(AttributeError, match="target"):
        CHECKS["needs"]("broken")


def test_a_loss_that_takes_nothing_is_found():
    def never(given):
        raise losses.base.BadTask("no")

    @losses.define(needs=BOTH, check=never)
    def broken(given, h):
        return summed(given.prediction)

    fails("shape", "accepts none of the batches")


def test_a_check_that_lets_through_what_cannot_be_computed_is_found():
    @losses.define(needs=BOTH)
    def broken(given, h):
        return given.prediction.gather(1, given.target.unsqueeze(1)).squeeze(1)

    with pytest.raises((AssertionError, RuntimeError, IndexError)):
        CHECKS["shape"]("broken")


def test_numbers_that_are_not_checked_are_found():
    class Lenient(losses.base.Behavior):
        def call(self, loss, *given, **options):
            return loss._replaced(options) if not given else super().call(loss, *given, **options)

    known = Lenient(lambda given, h: summed(given.prediction), frozenset(BOTH), "example", same)
    object.__setattr__(known, "domains", {"power": Domain("a factor", low=0.0)})
    specs.register(Loss, "broken", known)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        CHECKS["call"]("broken")


def test_an_option_that_refuses_nothing_is_found():
    option = held.Option(lambda kind, name, given: 1)

    @losses.define(needs=BOTH, check=same, options={"count": (option, 1)})
    def broken(given, h):
        return summed(given.prediction)

    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        CHECKS["call"]("broken")


@pytest.mark.parametrize(
    ("text", "lack"),
    [
        ("Squared error.", "no equation"),
        ("ℓ = y.\n\n>>> 1\n1\n", "no 'Source:'"),
        ("ℓ = y.\n\nSource: none.", "no example"),
        ("ℓ = y.\n\n>>> 1\n2\n\nSource: none.", "the example of its docstring fails"),
        ("ℓ = y.\n\n>>> 1\n1\n\nSource: none.", "no shapes"),
    ],
)
def test_a_docstring_that_lacks_something_is_found(text, lack):
    def broken(given, h):
        return summed(given.prediction)

    broken.__doc__ = text
    regression()(broken)
    fails("words", lack)
