"""Record real runs on digits, for the statistics' tests: ``python tests/data/record_digits.py`` (some ten minutes).

``digits_replicates.npz``: five rules through the whole protocol, 100 replicates: test accuracy and test loss,
[rules, replicates], and how many of the three fresh seeds were right on each test example, [rules, replicates, m].

``digits_pool.npz``: one rule at 9 learning rates × 120 seeds: validation accuracy and loss, [rates, seeds], and
whether each test example was right, [rates, seeds, m].
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fallline import specs, tasks
from fallline.fleet import Fleet, settings_for
from fallline.specs import Run
from fallline.studies.arms import arms, rule_of
from fallline.studies.compare import Protocol, compare

HERE = Path(__file__).parent
RULES = ("sgd", "momentum", "adagrad", "rmsprop", "adam")


def replicates(fleet: Fleet) -> None:
    """The whole protocol, many times."""
    protocol = Protocol(replicates=100)
    found = compare(fleet, arms(fleet.tasks, RULES, protocol.rates), protocol, lambda records: None)
    cells = [[found.finals[rule, r] for r in range(protocol.replicates)] for rule in RULES]
    score, loss = (
        np.array([[np.mean([x.outcome.numbers[name] for x in cell]) for cell in row] for row in cells])
        for name in ("test_score", "test_loss")
    )
    right = np.array(
        [[np.sum([x.examples["test_score"] for x in cell], axis=0) for cell in row] for row in cells]
    )
    np.savez_compressed(
        HERE / "digits_replicates.npz",
        rules=np.array(RULES),
        score=score,
        loss=loss,
        right=right.astype(np.uint8),
    )


def pool(fleet: Fleet) -> None:
    """One rule at all its rates, on many seeds."""
    rule, seeds = rule_of("adam", 9), range(10_000_000, 10_000_120)
    values = specs.axes(rule)["lr"].values
    asked = [(0, Run(specs.settle(rule, {"lr": v}), seed)) for v in values for seed in seeds]
    settings = settings_for(fleet.tasks, 600, 32, judge=True)
    found = {}
    for positions, records in fleet.train(asked, settings):
        found.update(zip(positions, records, strict=True))
    table = [[found[i * len(seeds) + k] for k in range(len(seeds))] for i in range(len(values))]
    validation, loss = (
        np.array([[x.outcome.numbers.get(name, np.nan) for x in row] for row in table])
        for name in ("validation_score", "validation_loss")
    )
    outcomes = np.array([[x.examples["test_score"] for x in row] for row in table], dtype=np.uint8)
    np.savez_compressed(HERE / "digits_pool.npz", validation=validation, loss=loss, outcomes=outcomes)


if __name__ == "__main__":
    with Fleet([tasks.digits()]) as fleet:
        pool(fleet)
        replicates(fleet)
