"""A sweep of MLPs on digits, in its steady state: fleets against PyTorch loops and against JAX.

All sides train the 64-32-10 MLP with Adam on batches of 32, in single-threaded processes, one per core; "JAX, as
usually written" is one process that has all cores. Needs ``benchmarks/requirements.txt``; without JAX, it is left out.

    python benchmarks/steady.py                    # five rounds
    python benchmarks/steady.py --rounds 1
"""

from __future__ import annotations

import argparse
import functools
import importlib.util

from peers import CORES, digits, digits_columns, fleet, jax_mlp, machine, mlp, table, took, torch_loop


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=128, help="on each core")
    given = parser.parse_args()
    peer = "torch loop, fused Adam"
    sides = {
        peer: (functools.partial(torch_loop, mlp, digits_columns), 2, (200, 1200)),
        "fleet, traced": (functools.partial(fleet, digits, "traced"), given.runs, (200, 1200)),
        "fleet, compiled": (functools.partial(fleet, digits, "compiled"), given.runs, (500, 4500)),
    }
    if importlib.util.find_spec("jax"):
        tuned = functools.partial(jax_mlp, drawn_before=True, single=True)
        sizes = {runs: took(tuned, runs, (100, 600)).step for runs in (8, 16, 32, 64, 128)}
        size = min(sizes, key=sizes.__getitem__)
        print("JAX, µs by runs in a block:", {runs: round(step, 1) for runs, step in sizes.items()})
        sides[f"JAX at its best, {size} a block"] = (tuned, size, (200, 1200))
    print(machine())
    found = table(sides, given.rounds, peer)
    if importlib.util.find_spec("jax"):
        usual = functools.partial(jax_mlp, drawn_before=False, single=False)
        single = table({"JAX, as usually written": (usual, given.runs * CORES, (100, 400))}, given.rounds,
                       "JAX, as usually written", cores=1)  # fmt: skip
        ratio = found[peer][0].step / single["JAX, as usually written"][0].step
        print(f"(one process with all cores; {ratio:.1f} times as fast as the torch loops)")


if __name__ == "__main__":
    main()
