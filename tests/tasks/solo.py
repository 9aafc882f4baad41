"""Train a few runs together and each by itself, and compare: fleet == solo."""

import numpy as np

from fallline import fleet, rules
from fallline.specs import Run


def runs(*models, **given):
    """A run for each of some options or numbers of the model; of two seeds where there are none."""
    if not models:
        return [Run(rules.sgd(lr=0.05), seed=seed, **given) for seed in (0, 1)]
    return [Run(rules.sgd(lr=0.05), seed=1, model=model, **given) for model in models]


def trained(task, asked, executor="traced", steps=6, **options):
    """Records of runs that were trained in this process."""
    return fleet.run(task, asked, steps=steps, workers=0, executor=executor, weights=True, **options)


def both(task, asked, **options):
    """Records of runs trained together, after they were compared with those of runs trained alone."""
    together = trained(task, asked, **options)
    alone = [trained(task, [run], "alone", **options)[0] for run in asked]
    for one, other in zip(together, alone, strict=True):
        assert one.outcome.status == "finished"
        assert set(one.weights) == set(other.weights)
        for name, w in one.weights.items():
            np.testing.assert_allclose(w, other.weights[name], rtol=1e-10, atol=1e-12, err_msg=name)
        assert one.outcome.numbers["validation_loss"] == pytest_approx(
            other.outcome.numbers["validation_loss"]
        )
    return together


def pytest_approx(value):
    import pytest

    return pytest.approx(value, rel=1e-10)
