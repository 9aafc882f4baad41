"""What people have becomes columns of tensors, in parts that stay the same."""

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from fallline import layers, losses
from fallline.errors import BadTask
from fallline.tasks import Task, data

N = 60
X = np.random.default_rng(0).normal(size=(N, 3))
Y = np.arange(N) % 3
INPUTS, TARGET = torch.tensor(X, dtype=torch.float32), torch.tensor(Y)


def task(train, *rest, **options):
    options = {"loss": losses.cross_entropy, **options}
    return Task.supervised(lambda: layers.mlp(3, 3), train, *rest, **options)


class Pairs(Dataset):
    def __init__(self, examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, i):
        return self.examples[i]


class Stream(IterableDataset):
    def __init__(self, examples):
        self.examples = examples

    def __iter__(self):
        return iter(self.examples)


class Frame:
    """As a data frame gives its numbers."""

    def __init__(self, values):
        self.values = values

    def to_numpy(self):
        return self.values


PAIRS = [(INPUTS[i], int(TARGET[i])) for i in range(N)]
WAYS = {
    "arrays": (X, Y),
    "a list of arrays": [X, Y],
    "lists": (X.tolist(), Y.tolist()),
    "narrow arrays": (X.astype(np.float64), Y.astype(np.int8)),
    "arrays in Fortran's order": (np.asfortranarray(X), Y),
    "arrays back to front": (X[::-1][::-1], Y[::-1][::-1]),
    "tensors": (INPUTS, TARGET),
    "tensors with gradients": (INPUTS.clone().requires_grad_(), TARGET),
    "data frames": (Frame(X), Frame(Y)),
    "TensorDataset": TensorDataset(INPUTS, TARGET),
    "Dataset": Pairs(PAIRS),
    "Dataset of arrays": Pairs([(x.numpy(), y) for x, y in PAIRS]),
    "DataLoader": DataLoader(TensorDataset(INPUTS, TARGET), batch_size=7),
    "DataLoader that shuffles": DataLoader(Pairs(PAIRS), batch_size=7, shuffle=True),
    "DataLoader that drops": DataLoader(Pairs(PAIRS), batch_size=7, shuffle=True, drop_last=True),
    "DataLoader without batches": DataLoader(Pairs(PAIRS), batch_size=None),
    "DataLoader of batches": DataLoader(
        Pairs([(INPUTS[:50], TARGET[:50]), (INPUTS[50:], TARGET[50:])]), batch_size=None
    ),
    "DataLoader by a batch sampler": DataLoader(
        Pairs(PAIRS), batch_sampler=BatchSampler(RandomSampler(Pairs(PAIRS)), 7, drop_last=True)
    ),
    "DataLoader of a choice": DataLoader(Pairs(PAIRS), batch_size=7, sampler=SubsetRandomSampler(range(N))),
    "IterableDataset": Stream(PAIRS),
    "DataLoader of an IterableDataset": DataLoader(Stream(PAIRS), batch_size=7),
    "Subset": Subset(Pairs(PAIRS), range(N)),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_give_data_is_the_same_data(way):
    before = torch.random.get_rng_state()
    found = data.columns("train", WAYS[way], torch.float32)
    assert torch.equal(found["inputs"], INPUTS)
    assert torch.equal(found["target"], TARGET)
    assert (found["inputs"].dtype, found["target"].dtype) == (torch.float32, torch.int64)
    assert not found["inputs"].requires_grad
    torch.random.set_rng_state(before)


def test_a_loader_says_the_batch_and_how_examples_are_put_together():
    def collate(pairs):
        return torch.stack([x for x, _ in pairs]) * 2, torch.tensor([y for _, y in pairs])

    loader = DataLoader(Pairs(PAIRS), batch_size=7, shuffle=True, collate_fn=collate)
    found = task(loader)
    assert found.batch == 7
    assert torch.equal(data.columns("train", loader, torch.float32)["inputs"], 2 * INPUTS)
    assert task(loader, batch=5).batch == 5
    assert task(WAYS["DataLoader by a batch sampler"]).batch == 7
    assert task((X, Y)).batch == 32
    assert task(DataLoader(Pairs(PAIRS), batch_size=None)).batch == 32


def test_the_floating_point_type_is_the_tasks():
    found = task((X.astype(np.float32), Y), dtype=torch.float64)
    assert found.parts["train"]["inputs"].dtype == torch.float64
    assert all(p.dtype == torch.float64 for p in found.init(0).params.values())


def test_the_users_data_is_not_changed_and_read_only_arrays_are_taken():
    given = X.copy()
    given.setflags(write=False)
    found = task((given, Y))
    found.parts["train"]["inputs"].zero_()
    np.testing.assert_array_equal(given, X)


# --- parts ------------------------------------------------------------------------------------------------


def numbered(n, labels):
    """Data in which each example is known by its number."""
    return np.stack([np.arange(n)] * 3, 1).astype(float), labels


def members(found, part):
    return found.parts[part]["inputs"][:, 0].int().tolist()


@pytest.mark.parametrize("n", [60, 61, 100, 997])
def test_a_split_is_disjoint_complete_in_order_and_stratified(n):
    labels = np.random.default_rng(n).choice(3, size=n, p=[0.6, 0.3, 0.1])
    found = task(numbered(n, labels))
    parts = [members(found, part) for part in ("train", "validation", "test")]
    assert sorted(i for part in parts for i in part) == list(range(n))
    assert all(part == sorted(part) for part in parts)
    assert [len(part) for part in parts[1:]] == [round(0.2 * n)] * 2
    for part in parts:
        for label in range(3):
            share = np.mean(labels[part] == label)
            assert abs(share - np.mean(labels == label)) <= 1.5 / len(part)


def test_a_split_is_the_same_each_time_and_leaves_the_generators_alone():
    before = torch.random.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    first, second = (task(numbered(N, Y)) for _ in range(2))
    assert all(members(first, part) == members(second, part) for part in first.parts)
    assert first.facts == second.facts
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1] == repr(np.random.get_state())  # noqa: NPY002


def test_parts_that_are_given_are_kept():
    other = (X[:10] + 1, Y[:10])
    found = task((X, Y), other)
    assert torch.equal(found.parts["validation"]["inputs"], torch.tensor(other[0], dtype=torch.float32))
    assert [found.size(part) for part in ("train", "validation", "test")] == [48, 10, 12]
    found = task((X, Y), test=other)
    assert torch.equal(found.parts["test"]["inputs"], torch.tensor(other[0], dtype=torch.float32))
    assert [found.size(part) for part in ("train", "validation", "test")] == [48, 12, 10]
    found = task((X, Y), other, other)
    assert torch.equal(found.parts["train"]["inputs"], INPUTS)


@pytest.mark.parametrize(
    "labels", [np.arange(N) % 3 + (np.arange(N) == 5) * 0, np.where(np.arange(N) == 5, 2, Y % 2)]
)
def test_a_class_with_one_member_is_still_split(labels):
    found = task(numbered(N, labels))
    assert sorted(i for part in found.parts for i in members(found, part)) == list(range(N))


def test_fewer_places_than_classes_are_still_split():
    found = task(numbered(6, np.array([0, 0, 1, 1, 2, 2])))
    assert [found.size(part) for part in found.parts] == [4, 1, 1]


# --- what is refused --------------------------------------------------------------------------------------


def spoilt(value, *places):
    X_bad = X.copy()
    for place in places:
        X_bad[place] = value
    return X_bad


BAD = {
    "NaN": ((spoilt(np.nan, (4, 0), (4, 1), (9, 2)), Y), r"^X of the train part has 2 of 60 examples with NaN or infinite "
            r"values \(the first is number 4\) in torch.float32: fill or drop them before training$"),
    "infinite": ((spoilt(np.inf, (7, 0)), Y), r"^X of the train part has 1 of 60 examples with NaN or infinite"),
    "too large for the type": ((spoilt(1e300, (7, 0)), Y), r"has 1 of 60 examples with NaN or infinite values \(the first is number 7\) in t"),
    "a NaN in the targets": ((X, np.where(Y == 0, np.nan, 1.0)), r"^y of the train part has 20 of 60 examples with NaN"),
    "empty": ((X[:0], Y[:0]), r"^the train part is empty: a task needs at least one example in each part$"),
    "an empty Dataset": (Pairs([]), r"^the train part is empty: a task needs at least one"),
    "unequal lengths": ((X, Y[:-1]), r"^the train part has 60 inputs and 59 targets: they must be equally many$"),
    "one example": ((X[:1], Y[:1]), r"^1 example is too few to split off a test part of 20%: pass test=\(X, y\)$"),
    "a single number": ((1.0, Y), r"^X of the train part must have examples on its first axis, got a single number$"),
    "inputs alone": (X, r"^the train part must be \(X, y\), a dict or a table of named columns, a Dataset or a DataLoader; got a ndarray$"),
    "three things": ((X, Y, Y), r"^the train part must be \(X, y\), .*; got 3 things$"),
    "text": ((np.array([["a", "b", "c"]] * N), Y), r"^X of the train part cannot become a tensor of numbers: "),
    "ragged": (([[1.0, 2.0], [3.0]], [0, 1]), r"^X of the train part cannot become a tensor of numbers: "),
    "complex": ((X + 1j, Y), r"^X of the train part holds complex numbers: pass real and imaginary parts as columns$"),
    "no pairs": (Pairs([(1.0, 2.0, 3)] * 3), r"^each example of the train part must be a pair \(x, y\) or a dict, got a list$"),
    "examples of several shapes": (Pairs([(torch.zeros(2 + i), 0) for i in range(3)]), r"^the examples of the train part "
                                   r"cannot be put together: "),
    "another sampler": (DataLoader(Pairs(PAIRS), sampler=WeightedRandomSampler([1.0] * N, N)), r"^the DataLoader of the "
                        r"train part draws by a WeightedRandomSampler, but a fleet shuffles by itself, each example once"),
    "labels out of range": ((X, Y + 1), r"^the labels go from 1 to 3, but the model has 3 outputs, for the labels 0 to 2"),
    "negative labels": ((X, Y - 1), r"^the labels go from -1 to 1, .*: number the labels from 0$"),
    "classes as numbers": ((X, Y.astype(float)), r"^cross_entropy needs class numbers \[36\] of an integer type"),
    "classes in a column": ((X, Y[:, None]), r"the target is \[36, 1\] of torch.int64"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_data_is_refused(what):
    given, sentence = BAD[what]
    with pytest.raises(BadTask, match=sentence) as refused:
        task(given)
    assert "Traceback" not in str(refused.value)


@pytest.mark.parametrize(
    ("validation", "sentence"),
    [
        ((X[:0], Y[:0]), "^the validation part is empty"),
        (
            (X[:, :2], Y),
            r"^the inputs of an example is \[2\] of torch.float32 in the validation part, but \[3\] of torch",
        ),
        (
            (X, Y.astype(float)),
            r"^the target of an example is \[\] of torch.float32 in the validation part, but \[\] of",
        ),
        ((X, Y + 1), "^the labels go from 1 to 3, but the model has 3 outputs"),
        ((spoilt(np.nan, (0, 0)), Y), "^X of the validation part has 1 of 60 examples with NaN"),
    ],
)
def test_bad_parts_are_refused(validation, sentence):
    with pytest.raises(BadTask, match=sentence):
        task((X, Y), validation)
