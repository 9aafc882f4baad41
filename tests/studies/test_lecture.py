"""The studies of the lecture: each answers what it claims, from settings that are written down, and what it computes is right."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import integrate

from fallline.records import json_text
from fallline.studies import lecture
from fallline.studies.lab import Bench, Lab
from fallline.studies.lecture import confidence, costs, depth, losses

LONG = {"activations", "depth", "style-transfer"}
"""Studies whose quick form takes more than a few seconds."""


def names(*, long: bool) -> list[str]:
    return [name for name in lecture.NAMES if (name in LONG) == long]


def check(name: str) -> None:
    """It answers each of its claims once, in plain data that JSON can hold."""
    study = lecture.study(name)
    lab = Lab(quick=True, replicates=2, bench=Bench(fleet={"workers": 0}))
    answers = list(study.answers(lab))
    assert [answer.claim for answer in answers] == list(study.claims)
    for answer in answers:
        told = answer.plain(0.95)
        json_text(told)
        assert told["figures"] or told["tables"] or told["notes"], f"{told['id']} shows nothing"


@pytest.mark.parametrize("name", names(long=False))
def test_a_study_answers_its_claims(name: str):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", names(long=True))
def test_a_long_study_answers_its_claims(name: str):
    check(name)


def test_studies_are_in_order_and_claim_things_of_their_own():
    assert list(lecture.NAMES) == sorted(lecture.NAMES)
    studies = [lecture.study(name) for name in lecture.NAMES]
    ids = list(itertools.chain.from_iterable([claim.id for claim in study.claims] for study in studies))
    assert len(set(ids)) == len(ids)
    for study in studies:
        assert study.about.endswith("?"), f"{study.name} asks nothing: {study.about!r}"
        assert 0 < study.minutes[1] <= study.minutes[0]
        for claim in study.claims:
            assert claim.sentence.endswith(".")
            assert claim.slide


# --- what is computed and not trained -----------------------------------------------------------------------


def test_the_noise_has_the_mean_and_the_median_that_are_said():
    mean, median = losses.offsets()
    x, y = losses.sampled(np.random.default_rng(0), 400_000)
    noise = y[:, 0] - losses.curve(x[:, 0])
    assert abs(noise.mean() - mean) < 5 * noise.std() / 400_000**0.5
    below = (noise < median).mean()
    assert abs(below - 0.5) < 5 * 0.5 / 400_000**0.5


def test_the_tent_map_folds_and_a_deep_net_is_it():
    x = np.linspace(0, 1, 1025)
    assert np.array_equal(depth.tent(x, 2), depth.tent(depth.tent(x, 1), 1))
    assert np.count_nonzero(np.diff(np.sign(np.diff(depth.tent(x, 5))))) == 31  # 32 pieces
    for times in (1, 3, 6):
        found = depth.built(times)(torch.as_tensor(x[:, None]))[:, 0].detach().numpy()
        assert np.abs(found - depth.tent(x, times)).max() < 1e-12


def test_nets_that_are_compared_have_about_the_same_number_of_parameters():
    for target in depth.targets(Lab()).values():
        for layers_ in (depth.SHALLOW, depth.DEEP):
            assert target.parameters * 0.9 < target.count(layers_, target.width(layers_)) <= target.parameters


def test_the_lowest_cost_is_that_of_the_densities():
    """The density of yes, its probability times the density of the inputs, integrates to its share."""

    def density(x0: float, x1: float) -> float:
        found = 0.0
        for share, m, s in zip((1 - costs.BASE, costs.BASE), costs.MEANS, costs.SPREADS, strict=True):
            z = [((x - m[i]) / s[i]) for i, x in enumerate((x0, x1))]
            found += share * np.exp(-0.5 * (z[0] ** 2 + z[1] ** 2)) / (2 * np.pi * s[0] * s[1])
        return found

    yes = integrate.dblquad(
        lambda a, b: density(a, b) * costs.probability(np.array([[a, b]]))[0], -6, 6, -6, 6, epsabs=1e-7
    )[0]
    assert yes == pytest.approx(costs.BASE, abs=1e-5)
    p = np.array([0.1, 0.6])
    assert costs.paid(np.array([True, False]), p, 4.0) == pytest.approx((0.9 + 4 * 0.6) / 2)


def test_calibration_is_what_it_is_defined_to_be():
    p = np.array([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 5)
    y = np.array([0] * 8 + [1] * 2 + [1] * 5)
    assert confidence.calibration_error(p, y) == pytest.approx(
        (10 * abs(0.8 - 0.9) + 5 * abs(1.0 - 0.6)) / 15
    )


def test_the_temperature_undoes_a_scale():
    random = np.random.default_rng(0)
    z = random.normal(size=(20_000, 3))
    shares = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    y = (random.random((20_000, 1)) > shares.cumsum(1)).sum(1)
    assert confidence.temperature(3 * z, y) == pytest.approx(3, rel=0.05)
