"""A time budget: the richest protocol that fits, and what is said where none does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fallline.errors import BadValue
from fallline.studies.arms import Arm, arms
from fallline.studies.compare import Protocol
from fallline.verbs.budget import SHARE, Speed, fit

from .toys import bowl

PROTOCOL = Protocol()
SPEED = Speed(per_run_step=1e-5, start=2.0)


def arms_for(points: int) -> Sequence[Arm]:
    return arms([bowl()], ["sgd", "adam"], points)


def seconds(protocol: Protocol) -> float:
    return SPEED.seconds(sum(protocol.runs(arm) for arm in arms_for(protocol.rates)) * protocol.steps)


def test_more_time_gives_a_richer_protocol():
    chosen = [fit(SPEED, PROTOCOL, arms_for, minutes, set())[0] for minutes in (0.05, 0.06, 0.1, 0.2, 1, 100)]
    took = [seconds(protocol) for protocol in chosen]
    assert took == sorted(took)
    assert len(set(took)) > 3
    assert chosen[-1].replicates > PROTOCOL.replicates
    assert all(protocol.replicates >= 10 for protocol in chosen)


@pytest.mark.parametrize("minutes", [0.06, 0.1, 1, 10])
def test_what_is_chosen_fits_and_is_told(minutes: float):
    protocol, told = fit(SPEED, PROTOCOL, arms_for, minutes, set())
    assert seconds(protocol) <= SHARE * 60 * minutes
    assert told.startswith(
        f"within {minutes:g} minutes: {protocol.replicates} replicates, {protocol.rates} rates × "
    )
    assert ("tuned once" in told) == (not protocol.retune)


def test_what_the_user_asked_for_stays():
    asked = {"replicates", "rates", "seeds", "retune"}
    assert fit(SPEED, PROTOCOL, arms_for, 100, asked)[0] == PROTOCOL
    protocol, _ = fit(SPEED, PROTOCOL, arms_for, 0.1, {"replicates", "retune"})
    assert (protocol.replicates, protocol.retune) == (PROTOCOL.replicates, PROTOCOL.retune)
    assert protocol.rates < PROTOCOL.rates


def test_too_little_time_is_refused_with_what_would_do():
    with pytest.raises(
        BadValue, match=r"^0.01 minutes are too few: .* takes about 0.0\d+ minutes here; allow that, ask"
    ):
        fit(SPEED, PROTOCOL, arms_for, 0.01, set())
