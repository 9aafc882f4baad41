"""The forms in which people have data: dicts, several inputs, tables, weights, groups, names of classes."""

import numpy as np
import pandas
import polars
import pytest
import torch
from sklearn.datasets import load_iris
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, WeightedRandomSampler

from fallline import layers, losses
from fallline.errors import BadTask, NotFound
from fallline.tasks.supervised import supervised

from .solo import both, runs

N = 60
random = np.random.default_rng(0)
IMAGE = random.normal(size=(N, 1, 4, 4))
TABULAR = random.normal(size=(N, 3))
Y = np.arange(N) % 3
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]


class Two(nn.Module):
    """Reads a picture and a table's row."""

    def __init__(self):
        super().__init__()
        self.a, self.b = layers.mlp(16, 3), layers.mlp(3, 3)

    def forward(self, image, tabular):
        return self.a(image) + self.b(tabular)


class Dicts(Dataset):
    def __init__(self, **columns):
        self.columns = columns

    def __len__(self):
        return N

    def __getitem__(self, i):
        return {name: column[i] for name, column in self.columns.items()}


class Nested(Dataset):
    def __init__(self, form):
        self.form = form

    def __len__(self):
        return N

    def __getitem__(self, i):
        return self.form(IMAGE[i], TABULAR[i]), Y[i]


def of(model, train, *rest, **options):
    return supervised(
        model, train, *rest, **{"loss": losses.cross_entropy, "dtype": torch.float64, **options}
    )


def mlp(inputs=3, outputs=3):
    return lambda: layers.mlp(inputs, outputs)


# --- several inputs ---------------------------------------------------------------------------------------

COLUMNS = {"image": IMAGE, "tabular": TABULAR, "label": Y}
PLACED = {
    "a tuple of arrays": ((IMAGE, TABULAR), Y),
    "a list of arrays": ([IMAGE, TABULAR], Y),
    "tensors": ((torch.tensor(IMAGE), torch.tensor(TABULAR)), torch.tensor(Y)),
    "a Dataset of tuples": Nested(lambda a, b: (a, b)),
    "a DataLoader of tuples": DataLoader(Nested(lambda a, b: (a, b)), batch_size=7, shuffle=True),
    "a DataLoader of tuples in batches of two": DataLoader(Nested(lambda a, b: (a, b)), batch_size=2),
}
NAMED = {
    "a dict of arrays": ({"image": IMAGE, "tabular": TABULAR}, Y),
    "a dict of all": COLUMNS,
    "a Dataset of dicts": Dicts(**COLUMNS),
    "a DataLoader of dicts": DataLoader(Dicts(**COLUMNS), batch_size=8, shuffle=True),
    "a DataLoader without batches": DataLoader(Dicts(**COLUMNS), batch_size=None),
    "a Dataset of pairs of dict and label": Nested(lambda a, b: {"tabular": b, "image": a}),
}


def whole(task):
    return {name: torch.cat([c[name] for c in task.parts.values()]) for name in task.parts["train"]}


@pytest.mark.parametrize("way", [*PLACED, *NAMED])
def test_several_inputs_are_the_models_arguments(way):
    places = ("inputs.0", "inputs.1") if way in PLACED else ("inputs.image", "inputs.tabular")
    task, expected = of(Two, {**PLACED, **NAMED}[way]), of(Two, NAMED["a dict of all"])
    assert set(task.parts["train"]) == {*places, "target"}
    for place, name in zip((*places, "target"), ("inputs.image", "inputs.tabular", "target"), strict=True):
        assert torch.equal(whole(task)[place], whole(expected)[name])
    params, buffers = task.init(0)
    model = Two().double()
    model.load_state_dict(params)
    batch = task.parts["train"]
    value = nn.functional.cross_entropy(model(batch[places[0]], batch[places[1]]), batch["target"])
    torch.testing.assert_close(task.loss(params, buffers, batch, {})[0], value.detach())
    task.check()


@pytest.mark.parametrize("way", ["a tuple of arrays", "a DataLoader of dicts"])
def test_a_fleet_over_several_inputs_is_its_runs(way):
    both(of(Two, {**PLACED, **NAMED}[way]), runs())


def test_a_loader_of_dicts_says_its_batch():
    assert of(Two, NAMED["a DataLoader of dicts"]).batch == 8


def test_a_single_named_input_may_have_another_name_in_the_model():
    task = of(mlp(16), {"image": IMAGE, "label": Y})
    assert set(task.parts["train"]) == {"inputs.image", "target"}
    both(task, runs())


@pytest.mark.parametrize("name", ["target", "label", "labels", "y"])
def test_usual_names_of_targets_are_known(name):
    assert torch.equal(
        whole(of(mlp(), {"x": TABULAR, name: Y}))["target"].sort()[0], torch.tensor(Y).sort()[0]
    )


def test_a_target_by_name_and_targets_side_by_side():
    task = of(
        mlp(3, 2), {"x": TABULAR, "a": TABULAR[:, 0], "b": TABULAR[:, 1]}, target=["a", "b"], loss=losses.mse
    )
    assert torch.equal(whole(task)["target"], whole(task)["inputs.x"][:, :2])
    task = of(Two, {"image": IMAGE, "tabular": TABULAR, "species": Y}, target="species")
    assert task.parts["train"]["target"].dtype == torch.int64


# --- tables -----------------------------------------------------------------------------------------------


def iris():
    frame = load_iris(as_frame=True).frame
    return frame.assign(species=np.array(["setosa", "versicolor", "virginica"])[frame["target"]]).drop(
        columns="target"
    )


TABLES = {"pandas": lambda: iris(), "polars": lambda: polars.DataFrame(iris().to_dict("list"))}


@pytest.mark.parametrize("library", TABLES)
def test_a_table_and_the_name_of_its_target(library):
    task = of(mlp(4), TABLES[library](), target="species")
    X, y = load_iris(return_X_y=True)
    expected = of(mlp(4), (X, y))
    for part, columns in expected.parts.items():
        assert torch.equal(task.parts[part]["inputs"], columns["inputs"])
        assert torch.equal(task.parts[part]["target"], columns["target"])
    assert task.facts["classes"] == ["setosa", "versicolor", "virginica"]
    assert [name.split()[0] for name in task.facts["columns"]] == ["sepal", "sepal", "petal", "petal"]
    assert task.facts["data"] == expected.facts["data"]


def test_a_fleet_over_a_table_is_its_runs():
    both(of(mlp(4), iris(), target="species"), runs())


def test_a_table_whose_target_has_a_usual_name_and_parts_that_are_tables():
    frame = load_iris(as_frame=True).frame
    task = of(mlp(4), frame[::2], frame[1::4], frame[3::4])
    assert [task.size(part) for part in task.parts] == [75, 38, 37]
    assert "classes" not in task.facts


def test_whole_numbers_and_truth_values_in_a_table_are_numbers():
    frame = pandas.DataFrame({"age": np.arange(N), "member": Y == 0, "y": NAMES})
    inputs = of(mlp(2), frame).parts["train"]["inputs"]
    assert inputs.dtype == torch.float64
    assert set(inputs[:, 1].tolist()) == {0.0, 1.0}
    nullable = of(mlp(2), frame.astype({"age": "Int64", "member": "boolean"})).parts["train"]["inputs"]
    assert torch.equal(nullable, inputs)


def test_numbers_of_a_table_to_be_predicted():
    frame = pandas.DataFrame({"a": TABULAR[:, 0], "b": TABULAR[:, 1], "price": TABULAR[:, 2]})
    task = of(mlp(1, 2), frame, target=["price", "b"], loss=losses.mse)
    assert task.parts["train"]["target"].shape == (36, 2)
    assert task.facts["columns"] == ["a"]


def test_frames_as_a_pair_are_arrays_as_before():
    frame = iris()
    task = of(mlp(4), (frame.drop(columns="species"), frame["species"]))
    assert task.facts["data"] == of(mlp(4), frame, target="species").facts["data"]


# --- names of classes -------------------------------------------------------------------------------------

TEXTS = {
    "an array": (TABULAR, NAMES),
    "an array of objects": (TABULAR, NAMES.astype(object)),
    "an array of bytes": (TABULAR, NAMES.astype("S")),
    "a list": (TABULAR, NAMES.tolist()),
    "a series": (TABULAR, pandas.Series(NAMES)),
    "categories": (TABULAR, pandas.Series(NAMES, dtype="category")),
    "a dict": {"x": TABULAR, "label": NAMES.tolist()},
    "a Dataset": Dicts(x=TABULAR, label=NAMES.tolist()),
    "a DataLoader": DataLoader(Dicts(x=TABULAR, label=NAMES.tolist()), batch_size=7),
    "examples one by one": DataLoader(Dicts(x=TABULAR, label=NAMES.tolist()), batch_size=None),
}


@pytest.mark.parametrize("way", TEXTS)
def test_names_of_classes_become_numbers_in_their_order(way):
    task = of(mlp(), TEXTS[way])
    assert task.facts["classes"] == ["setosa", "versicolor", "virginica"]
    assert torch.equal(task.parts["train"]["target"], of(mlp(), (TABULAR, Y)).parts["train"]["target"])


def test_names_are_numbered_alike_in_all_parts():
    task = of(mlp(), (TABULAR, NAMES), (TABULAR[1:3], NAMES[1:3]), (TABULAR[:1], NAMES[:1]))
    assert task.parts["validation"]["target"].tolist() == [1, 2]
    assert task.parts["test"]["target"].tolist() == [0]


# --- weights and groups -----------------------------------------------------------------------------------

WEIGHTS = random.uniform(0.5, 2.0, N)


@losses.define(needs=("prediction", "target", "group"), scope="batch")
def gap(given, h):
    """The squared difference between the mean outputs of two groups."""
    first = (given.group == 0).to(given.prediction.dtype)[:, None]
    means = [(given.prediction * m).sum() / m.sum().clamp(min=1) for m in (first, 1 - first)]
    return (means[0] - means[1]) ** 2


WEIGHTED = {
    "an array": ((TABULAR, Y), WEIGHTS),
    "a list": ((TABULAR, Y), WEIGHTS.tolist()),
    "an array for a Dataset": (TensorDataset(torch.tensor(TABULAR), torch.tensor(Y)), WEIGHTS),
    "a column of a dict": ({"x": TABULAR, "y": Y, "w": WEIGHTS}, "w"),
    "a column of a table": (pandas.DataFrame({"a": TABULAR[:, 0], "b": TABULAR[:, 1], "c": TABULAR[:, 2], "y": Y, "w": WEIGHTS}), "w"),
    "a column of a loader": (DataLoader(Dicts(x=TABULAR, y=Y, w=WEIGHTS), batch_size=7), "w"),
}  # fmt: skip


@pytest.mark.parametrize("way", WEIGHTED)
def test_weights_count_in_training_and_not_in_judging(way):
    given, weight = WEIGHTED[way]
    task, plain = of(mlp(), given, weight=weight), of(mlp(), (TABULAR, Y))
    batch, variables = task.parts["train"], task.init(0)
    each = plain.score(*variables, plain.parts["train"], {})["loss"]
    w = batch["weight"]
    assert w.dtype == torch.float64
    torch.testing.assert_close(task.loss(*variables, batch, {})[0], (w * each).sum() / w.sum())
    judged, expected = (t.score(*variables, t.parts["validation"], {}) for t in (task, plain))
    for name in ("loss", "score"):
        assert torch.equal(judged[name], expected[name])


def test_a_weight_of_2_is_an_example_twice():
    weight = np.where(np.arange(N) < 20, 2.0, 1.0)
    parts = ((TABULAR, Y), (TABULAR, Y))
    weighted = of(mlp(), (TABULAR, Y), *parts, weight=weight)
    twice = of(mlp(), (np.concatenate([TABULAR, TABULAR[:20]]), np.concatenate([Y, Y[:20]])), *parts)
    losses_ = [t.loss(*t.init(0), t.parts["train"], {})[0] for t in (weighted, twice)]
    torch.testing.assert_close(*losses_)


def test_a_fleet_with_weights_and_groups_is_its_runs():
    task = of(
        mlp(), (TABULAR, Y), loss=losses.cross_entropy + 0.5 * gap, weight=WEIGHTS, group=np.arange(N) % 2
    )
    assert set(task.parts["train"]) == {"inputs", "target", "weight", "group"}
    both(task, runs())


def test_names_of_groups_become_numbers():
    frame = iris().assign(place=np.where(np.arange(150) % 2, "field", "garden"))
    task = of(mlp(4), frame, target="species", group="place", loss=losses.cross_entropy + 0.5 * gap)
    assert task.facts["groups"] == ["field", "garden"]
    assert task.parts["train"]["group"].dtype == torch.int64


def test_weights_without_those_of_the_other_parts():
    task = of(mlp(), (TABULAR, Y), (TABULAR, Y), (TABULAR, Y), weight=WEIGHTS)
    assert "weight" not in task.parts["validation"]
    both(task, runs())
    with pytest.raises(BadTask, match="the loss gap needs group, but the batch has"):
        of(mlp(), (TABULAR, Y), (TABULAR, Y), (TABULAR, Y), group=Y, loss=losses.cross_entropy + gap)


# --- what is refused --------------------------------------------------------------------------------------

FRAME = pandas.DataFrame({"age": TABULAR[:, 0], "city": ["Rome", "Oslo"] * 30, "y": Y})


def lacking():
    frame = pandas.DataFrame({"age": TABULAR[:, 0].copy(), "size": TABULAR[:, 1], "y": Y})
    frame.loc[[3, 9], "age"] = np.nan
    return frame


REFUSED = {
    "no target": (lambda: of(mlp(), {"x": TABULAR, "species": Y}), r"^no column of the train part is called target, label, "
                  r"labels or y: say which one is the target by target=…; there are x, species$"),
    "a misspelt target": (lambda: of(mlp(), iris(), target="specis"), r"^the train part has no column 'specis' for "
                          r"target='specis'; did you mean 'species'\?$"),
    "a misspelt weight": (lambda: of(mlp(), {"x": TABULAR, "y": Y}, weight="w"), r"^the train part has no column 'w' for weight="),
    "a name for a pair": (lambda: of(mlp(), (TABULAR, Y), target="species"), r"^target='species' names a column, but the train "
                          r"part is a pair \(X, y\), whose columns have no names: pass a dict or a table of named columns$"),
    "no inputs": (lambda: of(mlp(), {"y": Y}), r"^the train part has no column left for the inputs beside y$"),
    "text in a table": (lambda: of(mlp(), FRAME), r"^the column 'city' of the train part holds 'Rome', and a model takes "
                        r"numbers: leave the column out, or encode it, as in pandas.get_dummies\(table, columns=\['city'\]\)$"),
    "text in a polars table": (lambda: of(mlp(), polars.DataFrame(FRAME.to_dict("list"))), "^the column 'city' of the train part"),
    "dates in a table": (lambda: of(mlp(), FRAME.assign(city=pandas.Timestamp("2024-01-01"))), "^the column 'city' of the train part "
                         "holds '2024-01-01"),
    "missing values": (lambda: of(mlp(2), lacking()), r"^the column 'age' of the train part lacks 2 of 60 values \(the first in "
                       r"row 3\): fill or drop them before training$"),
    "other columns": (lambda: of(mlp(4), iris(), iris().rename(columns={"sepal length (cm)": "length"}), target="species"),
                      r"^the validation part is a table of length, .*, but train is one of sepal length .*: all parts must be"),
    "a table and arrays": (lambda: of(mlp(1), (TABULAR[:, :1], Y), FRAME.drop(columns="city")), r"^the validation part is a table of age, but "
                           r"train is no table: all parts must be alike$"),
    "missing names": (lambda: of(mlp(), (TABULAR, np.where(Y == 0, None, NAMES.astype(object)))), r"^a column of class names holds 20 "
                      r"values that are not text, such as None: drop those examples, or give them a name$"),
    "too few weights": (lambda: of(mlp(), (TABULAR, Y), weight=WEIGHTS[:-1]), r"^the train part has 60 inputs and 59 weights: they "
                        r"must be equally many$"),
    "negative weights": (lambda: of(mlp(), (TABULAR, Y), weight=-WEIGHTS), r"^the weights of examples must be at least 0"),
    "one negative weight": (lambda: of(mlp(), (TABULAR, Y), weight=np.where(np.arange(N) == 7, -0.1, 1.0)), r"^the weights of "
                            r"examples must be at least 0"),
    "no weight at all": (lambda: of(mlp(), (TABULAR, Y), weight=0 * WEIGHTS), r"^the weights of examples must be at least 0"),
    "weights in two columns": (lambda: of(mlp(), (TABULAR, Y), weight=TABULAR), r"^the weights are \[36, 3\] for 36 examples"),
    "unequal inputs": (lambda: of(Two, ((IMAGE, TABULAR[1:]), Y)), r"^the train part has 60 examples in inputs.0 and 59 in inputs.1: they must be "
                       r"equally many$"),
    "unlike parts": (lambda: of(Two, COLUMNS, {"image": IMAGE, "label": Y}), r"^the validation part has inputs.image, target, but "
                     r"train has inputs.image, inputs.tabular, target: all parts must be alike$"),
    "a part with more": (lambda: of(mlp(16), {"image": IMAGE, "label": Y}, COLUMNS), r"^the validation part has inputs.image, "
                         r"inputs.tabular, target, but train has inputs.image, target: all parts must be alike$"),
    "a model that takes others": (lambda: of(mlp(), ((IMAGE, TABULAR), Y)), r"does not take inputs 0 \['n', 1, 4, 4\] of "
                                  r"torch.float64, 1 \['n', 3\] of torch.float64: "),
    "a weighted sampler": (lambda: of(mlp(), DataLoader(Dicts(**COLUMNS), sampler=WeightedRandomSampler([1.0] * N, N))), "pass the "
                           "dataset alone, with weight=…, a number for each example, or a Subset of it$"),
    "a generator": (lambda: of(mlp(), ((TABULAR[i], Y[i]) for i in range(N))), r"^the train part is a generator, which can be read only "
                    r"once: pass the function that makes it$"),
    "names of paths": (lambda: of(mlp(), Dicts(x=TABULAR, path=NAMES.tolist(), label=Y)), r"^path of the train part cannot become a "
                       r"tensor of numbers"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_refused(what):
    make, sentence = REFUSED[what]
    with pytest.raises((BadTask, NotFound), match=sentence) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_a_subset_of_dicts():
    assert of(Two, Subset(Dicts(**COLUMNS), range(30))).size("train") == 18
