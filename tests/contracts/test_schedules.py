"""Every schedule keeps the contract, and one that breaks it fails."""

import pytest
import torch

from fallline import registry, specs
from fallline.schedules import STEPS, VALUE, schedule
from fallline.specs import Schedule

from .schedule_checks import CHECKS, check_twin


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("kind", specs.kinds(Schedule))
def test_contract(kind, check):
    CHECKS[check](kind)


# --- broken ones ------------------------------------------------------------------------------------------


@pytest.fixture
def _forget():
    before = dict(registry._behaviors)
    yield
    registry._behaviors.clear()
    registry._behaviors.update(before)


def fails(check, match=None):
    with pytest.raises((AssertionError, RuntimeError), match=match):
        CHECKS[check]("broken")


pytestmark = pytest.mark.usefixtures("_forget")


def test_steps_counted_from_one_leave_the_twin():
    @schedule(start=VALUE, steps=STEPS)
    def broken(step, start, steps):
        return start * (step + 1) / steps

    check_twin("broken", lambda s, k: s.numbers["start"] * (k + 1) / s.numbers["steps"])
    with pytest.raises(AssertionError):
        check_twin("broken", lambda s, k: s.numbers["start"] * k / s.numbers["steps"])


def test_a_kind_without_a_twin_fails():
    @schedule(value=VALUE)
    def broken(step, value):
        return value + step

    with pytest.raises(KeyError, match="_broken"):
        CHECKS["twin"]("broken")


def test_a_branch_on_a_number_is_found():
    @schedule(value=VALUE)
    def broken(step, value):
        return step if value > 0 else -step

    fails("numbers_are_data", "data-dependent control flow")


def test_values_that_look_at_their_neighbors_are_found():
    @schedule(value=VALUE)
    def broken(step, value):
        return torch.cumsum(step.flatten(), 0).reshape(step.shape) * value

    fails("vectorized", "differs alone and in a row")


def test_a_narrow_dtype_is_found():
    @schedule(value=VALUE)
    def broken(step, value):
        return (step + value).float()

    fails("vectorized")


def test_a_hidden_memory_is_found():
    calls = []

    @schedule(value=VALUE)
    def broken(step, value):
        calls.append(step)
        return step * value + len(calls)

    fails("vectorized")
    fails("joining")


def test_missing_words_are_found():
    @schedule(value=VALUE)
    def broken(step, value):
        """v = value."""
        return step * value

    fails("words", "no 'Args:'")
