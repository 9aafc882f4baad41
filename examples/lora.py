"""Fine-tune a small language model by low-rank adapters: every rate, rank and seed at once, on one frozen base.

The base learns to write Python from the source of the standard library. Then it is to write English: the help texts
of the language, which ``help("topics")`` shows. The base lies in memory once; a run adds its adapters.
"""

import copy
from pydoc_data.topics import topics

import torch

import fallline as fl
from fallline.tasks.text import CHARACTERS, by_fives, spread, windows

RATES, RANKS, SEEDS = (0.003, 0.01, 0.03), (1, 4, 16), (0, 1)
ADAM = 4  # numbers that a trained weight takes: itself, its gradient, two moments


def pretrained():
    """A transformer of two blocks, and its loss on files of the library that it has not seen."""
    task = fl.tasks.stdlib_text(characters=1_000_000).variant({"depth": 2})
    (record,) = fl.fleet.run(task, [fl.Run(fl.rules.adam(lr=0.003))], steps=1500, weights=True)
    model = fl.layers.transformer(CHARACTERS, width=32, heads=2, depth=2, context=32)
    model.load_state_dict({name: torch.tensor(weight) for name, weight in record.weights.items()})
    return model, record.outcome.numbers["test_loss"]


def english(model):
    """The help texts, each in one part as a whole: of five, three train, one validates, one tests."""
    texts = [topics[name] for name in sorted(topics)]
    train, validation, test = (windows(part, context=32) for part in by_fives(texts))
    judged = spread(*validation), spread(*test)
    return fl.Task.supervised(
        model, train, *judged, loss=fl.losses.cross_entropy, score="loss", name="english"
    )


def losses(records, **chosen):
    """The validation losses of the runs with these tags."""
    return [r.series["validation_loss"].values[-1] for r in records if chosen.items() <= r.run.tags.items()]


def main():
    base, loss = pretrained()
    print(f"the base: {loss:.2f} nats per character on Python that it has not seen")

    adapters = english(lambda rank=4: fl.lora(base, rank))
    runs = [
        fl.Run(fl.rules.adam(lr=lr), seed=seed, model={"rank": rank}, tags={"lr": lr, "rank": rank})
        for lr in RATES for rank in RANKS for seed in SEEDS
    ]  # fmt: skip
    low_rank = fl.fleet.run(adapters, runs, steps=200, weights=True)

    whole = english(lambda: copy.deepcopy(base))
    runs = [fl.Run(fl.rules.adam(lr=lr), seed=seed, tags={"lr": lr}) for lr in RATES for seed in SEEDS]
    copies = fl.fleet.run(whole, runs, steps=200, weights=True)

    before = low_rank[0].series["validation_loss"].values[0]
    print(f"on English {before:.2f}; after 200 steps there, lowest to highest of {len(SEEDS)} seeds:")
    print(f"{'rate':>6}", *(f"{f'rank {rank}':>12}" for rank in RANKS), f"{'all weights':>12}")
    for lr in RATES:
        cells = [*(losses(low_rank, lr=lr, rank=rank) for rank in RANKS), losses(copies, lr=lr)]
        print(f"{lr:>6}", *(f"{min(cell):.2f} to {max(cell):.2f}".rjust(12) for cell in cells))

    frozen = sum(p.numel() for p in base.parameters())
    own = sum(weight.size for record in low_rank for weight in record.weights.values())
    print(
        f"weights, gradients and moments of {len(low_rank)} runs: {frozen + ADAM * own:,} numbers with one base and"
    )
    print(f"adapters, {ADAM * frozen * len(low_rank):,} with a copy of the model for each")


if __name__ == "__main__":
    main()
