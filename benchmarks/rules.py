"""What a step of each named rule costs against one of gradient descent, and the page of the docs that tells it.

    scripts/rules             measure, and write docs/rules.md
    scripts/rules --check     only say whether the page fits the rules, timings apart

One process, one thread, float32: ``fl.optim.Optimizer(params, rule).step()`` for the gradients of four layers of
512 × 512, each rule in turn with gradient descent. The ratio is that of the shortest times of 60 rounds, as all that
can come between makes a round longer.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch

from fallline import optim, rules
from fallline.rules.base import behavior
from fallline.rules.parse import named
from fallline.specs import Rule
from fallline.verbs.rule_table import SHAPES, rule_rows

PAGE = Path(__file__).resolve().parent.parent / "docs" / "rules.md"
ROUNDS, STEPS = 60, 3
HEADS = ("rule", "equation", "state", "cost", "equals", "differs, and why", "source")


# --- measuring ------------------------------------------------------------------------------------------------


def measured() -> dict[str, float]:
    """The time of a step of each rule that needs only gradients, relative to gradient descent."""
    torch.set_num_threads(1)
    found = {}
    plain = timer(behavior(Rule("sgd")).make())
    for kind in named():
        rule = behavior(Rule(kind)).make()
        if rules.needs(rule):
            continue
        own = timer(rule)
        times = [(own(), plain()) for _ in range(ROUNDS)]
        found[kind] = min(one for one, _ in times) / min(other for _, other in times)
    return found


def timer(rule: Rule) -> Any:
    """A function that takes a few steps and tells the seconds of one."""
    random = torch.Generator().manual_seed(0)
    layers = torch.nn.ModuleList(torch.nn.Linear(512, 512) for _ in range(4))
    for p in layers.parameters():
        p.grad = 0.01 * torch.randn(p.shape, generator=random)
    optimizer = optim.Optimizer(layers, rule)

    def run() -> float:
        began = time.perf_counter()
        for _ in range(STEPS):
            optimizer.step()
        return (time.perf_counter() - began) / STEPS

    run()
    return run


def machine() -> str:
    """Where and when it was measured."""
    cpu = platform.processor() or platform.machine()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), cpu)
    return f"{datetime.datetime.now(datetime.UTC).date().isoformat()}, {cpu}, one thread, torch {torch.__version__.partition('+')[0]}"


# --- the page -------------------------------------------------------------------------------------------------


def page(costs: dict[str, str], when: str) -> str:
    """The page, for costs by rule as text."""
    width, height = SHAPES["weight"]
    rows = [_row(row, costs) for row in rule_rows()]
    table = [_line(HEADS), _line(["---"] * len(HEADS)), *map(_line, rows)]
    return (
        f"""# Rules

Written by `scripts/rules` from the rules themselves; `fallline list rules` prints it, and `--json` has all but the cost.

- *state*: numbers that the rule keeps for each number of a layer of {width} × {height}, at its default settings.
- *cost*: the time of `fl.optim.Optimizer.step()` against that with `sgd`
  ({when}). A training, whose gradients cost most, is slowed down by
  far less.
- *equals*: with torch's numbers for what torch calls otherwise. `fl.optim` has torch's own names and defaults.

"""
        + "\n".join(table)
        + "\n"
    )


def _row(row: dict[str, Any], costs: dict[str, str]) -> list[str]:
    needs = f"(needs {', '.join(row['needs'])})" if row["needs"] else "not measured"
    name = f"**{row['name']}** {row['title']}" if row["equation"] else f"**{row['name']}** {row['about']}"
    told = [" ".join(_plain(note) for note in row[key]) for key in ("equals", "differs")]
    return [
        name, row["equation"], f"{row['state']:g}", costs.get(row["name"], needs), *told, _plain(row["source"]),
    ]  # fmt: skip


def _plain(text: str) -> str:
    """Without the marks of docstrings."""
    return re.sub(r":\w+:`([^`]*)`", r"`\1`", text).replace("``", "`")


def _line(cells: Any) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def told(text: str) -> tuple[dict[str, str], str]:
    """The costs that a page tells, and when they were measured."""
    cells = [re.split(r"(?<!\\\\) \| ", line[2:-2]) for line in text.splitlines() if line.startswith("| **")]
    costs = {row[0].split("**")[1]: row[3] for row in cells}
    found = re.search(r"against that with `sgd`\n  \((.*)\)\. A training", text)
    return {name: cost for name, cost in costs.items() if re.match(r"[\d.]", cost)}, found[1] if found else ""


def fits() -> bool:
    """Whether the page is what the rules say, for the costs that it tells."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    return text == page(*told(text))


def main() -> None:
    """Write the page, or check it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true", help="say whether the page fits, and write nothing")
    if options.parse_args().check:
        sys.exit(0 if fits() else "docs/rules.md does not fit the rules: run scripts/rules")
    costs = {name: f"{ratio:.2g}" for name, ratio in measured().items()}
    PAGE.write_text(page(costs, machine()), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
