"""Training data that is seen once, in order."""

import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from fallline import layers, losses
from fallline.errors import BadTask
from fallline.tasks.supervised import supervised

from .solo import both, runs

N = 60
X = np.random.default_rng(0).normal(size=(N, 3))
Y = np.arange(N) % 3
NAMES = np.array(["a", "b", "c"])[Y]
JUDGED = ((X[:20], Y[:20]), (X[20:50], Y[20:50]))


def of(train, *rest, **options):
    return supervised(
        lambda: layers.mlp(3, 3), train, *(rest or JUDGED),
        **{"loss": losses.cross_entropy, "dtype": torch.float64, "batch": 8, **options},
    )  # fmt: skip


class Stream(IterableDataset):
    """Examples without a known length."""

    def __init__(self, examples):
        self.examples = examples

    def __iter__(self):
        return iter(self.examples)


class Sized(Stream):
    def __len__(self):
        return len(self.examples)


def singles():
    yield from zip(X, Y, strict=True)


def batches():
    for i in range(0, N, 7):
        yield torch.tensor(X[i : i + 7]), torch.tensor(Y[i : i + 7])


def dicts():
    for x, y in singles():
        yield {"x": x, "label": y, "w": 1.0 + y}


def endless():
    return itertools.cycle(list(singles()))


PAIRS = list(singles())
STREAMS = {
    "an IterableDataset": Stream(PAIRS),
    "a DataLoader of one": DataLoader(Stream(PAIRS), batch_size=16),
    "a DataLoader without batches": DataLoader(Stream(PAIRS), batch_size=None),
    "a function of examples": singles,
    "a function of batches": batches,
}


def seen(task, batches=None):
    pieces = list(itertools.islice(task.stream(), batches))
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


@pytest.mark.parametrize("way", STREAMS)
def test_a_stream_is_its_examples_in_their_order_each_time(way):
    before = torch.random.get_rng_state()
    task = of(STREAMS[way])
    for _ in range(2):
        found = seen(task)
        (name,) = [name for name in found if name.startswith("inputs")]
        assert torch.equal(found[name], torch.tensor(X))
        assert torch.equal(found["target"], torch.tensor(Y))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert 4 <= task.size("train") < N
    assert [task.size(part) for part in ("validation", "test")] == [20, 30]
    assert task.facts["examples"] == {"train": "a stream", "validation": 20, "test": 30}
    task.check()


@pytest.mark.parametrize("way", ["an IterableDataset", "a function of batches"])
def test_a_fleet_over_a_stream_is_its_runs(way):
    both(of(STREAMS[way]), runs(), steps=6)


def test_an_endless_stream():
    assert len(seen(of(endless), 20)["target"]) == 160
    both(of(endless), runs(), steps=12)


def test_what_a_stream_draws_from_torch_is_the_same_each_time():
    def noisy():
        for x, y in singles():
            yield torch.tensor(x) + torch.randn(3, dtype=torch.float64), y

    task = of(noisy)
    first, again = (task.stream() for _ in range(2))
    one = [next(first)["inputs"] for _ in range(3)]
    torch.rand(5)
    other = [next(again)["inputs"] for _ in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[0], torch.tensor(X[:8]))


def test_a_stream_of_a_known_length_is_kept_in_memory():
    task = of(Sized(PAIRS))
    assert task.stream is None
    assert task.size("train") == N


def test_streams_that_judge_are_kept_in_memory():
    assert of(Stream(PAIRS), Stream(PAIRS), Stream(PAIRS)).size("test") == N


def test_names_of_classes_in_a_stream_are_those_of_the_other_parts():
    def named():
        yield from zip(X, NAMES.tolist(), strict=True)

    task = of(named, (X[:20], NAMES[:20]), (X[20:], NAMES[20:]))
    assert torch.equal(seen(task)["target"], torch.tensor(Y))
    assert task.facts["classes"] == ["a", "b", "c"]

    def more():
        yield from zip(X, [*NAMES[:-1].tolist(), "d"], strict=True)

    with pytest.raises(
        BadTask, match=r"^the target of the train part is 'd' in some examples, but the names known befor"
    ):
        seen(of(more, (X[:20], NAMES[:20]), (X[20:], NAMES[20:])))


def test_weights_of_a_stream_are_a_column():
    task = of(dicts, {"x": X[:20], "label": Y[:20]}, {"x": X[20:], "label": Y[20:]}, weight="w")
    assert torch.equal(seen(task)["weight"], 1.0 + torch.tensor(Y))
    both(task, runs())


def test_options_of_the_model_over_a_stream():
    task = supervised(lambda width=4: layers.mlp(3, width, 3), batches, *JUDGED, loss=losses.cross_entropy)
    assert len(seen(task.vary({"width": 5}))["target"]) == N


def spoilt(i, x=X[0], y=0):
    return Stream([*PAIRS[:i], (x, y), *PAIRS[i:]])


REFUSED = {
    "nothing to judge by": (lambda: supervised(lambda: layers.mlp(3, 3), Stream(PAIRS), loss=losses.cross_entropy), r"^train is a "
                            r"stream, which is seen once, so that no validation part can be split off from it: pass "
                            r"validation=… and test=…, or give the IterableDataset a length and it is kept in memory$"),
    "no test": (lambda: of(Stream(PAIRS), JUDGED[0]), r"^train is a stream, .* no test part can be split off from it: pass test=…"),
    "empty": (lambda: of(Stream([])), r"^the train part is empty: a task needs at least one example in each part$"),
    "an empty function": (lambda: of(lambda: iter(())), r"^the train part is empty"),
    "a function of data": (lambda: of(lambda: (X, Y)), r"^a function as the train part must make an iterator over batches or "
                           r"examples, got a tuple: use yield in it, or pass what it returns$"),
    "a function of nothing": (lambda: of(lambda: None), r"^a function as the train part must make .*, got a NoneType"),
    "weights that are numbers": (lambda: of(Stream(PAIRS), weight=np.ones(N)), r"^train is a stream, so weight must be the name of a "
                                 r"column, got a ndarray$"),
    "no pairs": (lambda: of(Stream([1.0] * 9)), r"^each example of the train part must be a pair \(x, y\) or a dict, got a Tensor$"),
    "a NaN later on": (lambda: seen(of(spoilt(40, X[0] * np.nan))), r"^X of the train part has 1 of 8 examples with NaN"),
    "a label out of range later on": (lambda: seen(of(spoilt(40, y=7))), r"^the labels go from 0 to 7, but the model has 3 outputs"),
    "another shape later on": (lambda: seen(of(DataLoader(spoilt(40, X[0, :2]), batch_size=None))), r"^the inputs of an example is \[2\] of "
                               r"torch.float64 in the streamed part, but \[3\] of torch.float64 in train: all parts must be"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_refused(what):
    make, sentence = REFUSED[what]
    with pytest.raises(BadTask, match=sentence):
        make()


def test_a_dataset_with_items_is_no_stream():
    class Items(Dataset):
        def __len__(self):
            return N

        def __getitem__(self, i):
            return PAIRS[i]

        def __call__(self):
            raise AssertionError

    assert of(Items()).stream is None
