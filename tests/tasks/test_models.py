"""What a run may change of a model: arguments of its factory, dropout rates; and what is frozen in it."""

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fallline import layers, losses, rng
from fallline.errors import BadTask, BadValue, NotFound
from fallline.tasks import models
from fallline.tasks.supervised import supervised

from .solo import both, runs, trained

N = 60
X = np.random.default_rng(0).normal(size=(N, 3))
Y = np.arange(N) % 3


def of(model, **options):
    return supervised(model, (X, Y), loss=losses.cross_entropy, dtype=torch.float64, **options)


def net(width=4, depth=1, activation="relu", slope=0.1, bias=True):
    return nn.Sequential(layers.mlp(3, *[width] * depth, 3, activation=activation), nn.LeakyReLU(slope))


# --- options ----------------------------------------------------------------------------------------------


def test_options_are_the_factorys_plain_defaults():
    task = of(net)
    assert task.options == {"width": 4, "depth": 1, "activation": "relu", "slope": 0.1, "bias": True}
    assert task.facts["options"] == task.options
    assert of(lambda: layers.mlp(3, 3)).options == {}
    assert "options" not in of(lambda: layers.mlp(3, 3)).facts
    assert of(functools.partial(net, width=7)).options["width"] == 7

    def other(*, size=2, where=None, of=(1, 2), **rest):
        return layers.mlp(3, size, 3)

    assert of(other).options == {"size": 2}


def test_a_class_is_a_factory_with_options():
    class Net(nn.Linear):
        def __init__(self, inputs=3, outputs=3):
            super().__init__(inputs, outputs)

    assert of(Net).options == {"inputs": 3, "outputs": 3}


def test_a_variant_is_the_task_made_with_other_options_and_shares_the_data():
    task = of(net)
    found, expected = task.vary({"width": 9}), of(lambda: net(width=9))
    assert found.options == {**task.options, "width": 9}
    assert found.facts["options"]["width"] == 9
    assert found.facts["parameters"] == expected.facts["parameters"]
    for name, p in found.init(3).params.items():
        assert torch.equal(p, expected.init(3).params[name])
    for part, columns in task.parts.items():
        for name, column in columns.items():
            assert found.parts[part][name].data_ptr() == column.data_ptr()
    assert found.vary({"depth": 2}).options == {**task.options, "width": 9, "depth": 2}
    assert (found.name, found.metric, found.batch) == (task.name, task.metric, task.batch)
    assert (found.facts["data"], found.facts["test_data"]) == (task.facts["data"], task.facts["test_data"])


def test_runs_of_several_options_train_as_alone():
    task = of(net)
    records = both(task, runs({"width": 2}, {"width": 5}, {"width": 5, "depth": 2}))
    assert [r.weights["0.1.weight"].shape for r in records] == [(2, 3), (5, 3), (5, 3)]
    expected = trained(of(lambda: net(width=5)), runs({}), "alone")[0]
    for name, w in records[1].weights.items():
        np.testing.assert_allclose(w, expected.weights[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"width": 2.5},
            r"^the model's option width=2.5 must be a whole number, as its default 4 is; got a float$",
        ),
        ({"width": True}, r"^the model's option width=True must be a whole number"),
        (
            {"width": "8"},
            r"^the model's option width='8' must be a whole number, as its default 4 is; got a str$",
        ),
        ({"slope": "a"}, r"^the model's option slope='a' must be a number, as its default 0.1 is"),
        ({"activation": 3}, r"^the model's option activation=3 must be text, as its default 'relu' is"),
        (
            {"bias": 1},
            r"^the model's option bias=1 must be True or False, as its default True is; got a int$",
        ),
    ],
)
def test_an_option_of_another_type_is_refused(options, sentence):
    with pytest.raises(BadValue, match=sentence):
        of(net).vary(options)


def test_a_number_may_be_whole_where_a_float_is_the_default():
    assert of(net).vary({"slope": 1}).options["slope"] == 1


def test_an_unknown_option_is_refused():
    with pytest.raises(NotFound, match="has no option 'widht'; did you mean 'width'"):
        of(net).variant({"widht": 3})


def test_options_with_which_the_model_cannot_be_made():
    with pytest.raises(
        BadTask, match=r"^model\(width=-3\) failed: .*; it is called with the arguments of a run, once"
    ):
        of(lambda width=2: nn.Sequential(nn.Linear(3, width), nn.Linear(width, 3))).vary({"width": -3})
    with pytest.raises(BadTask, match="the model has 2 outputs"):
        of(lambda outputs=3: layers.mlp(3, outputs)).vary({"outputs": 2})


# --- dropout ----------------------------------------------------------------------------------------------


def dropping(p=0.2, q=0.2):
    return nn.Sequential(
        nn.Linear(3, 8), nn.Dropout(p), nn.ReLU(), nn.Linear(8, 8), nn.Dropout(q), nn.Linear(8, 3)
    )


def test_the_numbers_of_a_model_are_its_rates():
    assert of(lambda: dropping()).numbers == {"model.dropout": 0.2, "model.1.p": 0.2, "model.4.p": 0.2}
    assert of(lambda: dropping(0.2, 0.5)).numbers == {
        "model.dropout": 0.5,
        "model.1.p": 0.2,
        "model.4.p": 0.5,
    }
    assert of(lambda: dropping(0, 0)).numbers["model.dropout"] == 0.0
    assert of(lambda: layers.mlp(3, 3)).numbers == {}


def loss_of(task, seed=0, **h):
    params, buffers = task.init(0)
    with rng.Noise(torch.tensor(seed), torch.tensor(0)):
        return task.loss(params, buffers, task.parts["train"], {f"model.{k}": v for k, v in h.items()})[0]


def test_a_rate_as_data_is_the_rate_of_the_module():
    task = of(lambda: dropping())
    for rate in (0.0, 0.1, 0.5, 0.9):
        fixed = of(lambda rate=rate: dropping(rate, rate))
        assert torch.equal(loss_of(task, dropout=rate), loss_of(fixed))
        data = torch.tensor(rate, dtype=torch.float64)
        assert torch.equal(loss_of(task, dropout=data), loss_of(fixed))
    assert torch.equal(loss_of(task), loss_of(task, dropout=0.2))
    both_rates = loss_of(task, **{"dropout": 0.7, "1.p": 0.3})
    assert torch.equal(both_rates, loss_of(of(lambda: dropping(0.3, 0.7))))


def test_a_module_keeps_its_own_rate():
    task = of(lambda: dropping())
    loss_of(task, dropout=torch.tensor(0.9, dtype=torch.float64))
    assert torch.equal(loss_of(task), loss_of(of(lambda: dropping())))
    with pytest.raises((IndexError, RuntimeError)):
        task.loss(
            *task.init(0), {**task.parts["train"], "target": torch.full((36,), 9)}, {"model.dropout": 0.9}
        )
    assert torch.equal(loss_of(task), loss_of(of(lambda: dropping())))


def test_runs_of_several_rates_train_together_as_alone():
    task = of(lambda: dropping())
    records = both(task, runs({"dropout": 0.0}, {"dropout": 0.3}, {"dropout": 1.0}))
    quiet = trained(of(lambda: dropping(0.0, 0.0)), runs({}), "alone")[0]
    for name, w in records[0].weights.items():
        np.testing.assert_allclose(w, quiet.weights[name], rtol=1e-10, atol=1e-12)
    start = task.init(1).params
    np.testing.assert_array_equal(records[2].weights["0.weight"], start["0.weight"].numpy())
    assert not np.array_equal(records[2].weights["5.bias"], start["5.bias"].numpy())
    both(task, runs({"1.p": 0.1}, {"1.p": 0.6}))


class Attends(nn.Module):
    """Reads one row as three tokens."""

    def __init__(self, need_weights=True):
        super().__init__()
        self.need_weights = need_weights
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.1, batch_first=True)
        self.first, self.last = nn.Linear(1, 4), nn.Linear(4, 3)

    def forward(self, x):
        x = self.first(x[..., None])
        return self.last(self.attention(x, x, x, need_weights=self.need_weights)[0].mean(1))


@pytest.mark.parametrize("need_weights", [True, False])
def test_attention_has_a_rate(need_weights):
    task = of(lambda: Attends(need_weights))
    assert task.numbers == {"model.dropout": 0.1, "model.attention.p": 0.1}
    both(task, runs({"dropout": 0.0}, {"dropout": 0.4}))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.lstm, self.last = kind(1, 4, 2, dropout=0.1, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.lstm(x[..., None])[0][:, -1])


def test_recurrent_layers_have_a_rate_and_torchs_own_have_none():
    assert of(lambda: Recurrent(nn.LSTM)).numbers == {}
    task = of(lambda: Recurrent(layers.LSTM))
    assert task.numbers == {"model.dropout": 0.1, "model.lstm.p": 0.1}
    both(task, runs({"dropout": 0.0}, {"dropout": 0.4}), steps=3)


def test_a_model_that_is_dropout_itself():
    class Own(nn.Linear):
        def __init__(self):
            super().__init__(3, 3)
            self.dropout = 0.25

        def forward(self, x):
            return F.dropout(super().forward(x), self.dropout, self.training) if self.dropout > 0 else x

    task = of(Own)
    assert task.numbers == {"model.dropout": 0.25, "model.p": 0.25}
    both(task, runs({"dropout": 0.0}, {"dropout": 0.4}))


def test_an_option_that_is_the_rate_is_the_number_and_no_option():
    def same(dropout=0.2, width=8):
        return nn.Sequential(nn.Linear(3, width), nn.Dropout(dropout), nn.Linear(width, 3))

    def half(dropout=0.2):
        return dropping(dropout, dropout / 2)

    def elsewhere(dropout=0.2):
        return nn.Sequential(nn.Dropout(0.2), nn.Linear(3, 3), nn.LeakyReLU(dropout))

    task = of(same)
    assert task.options == {"width": 8}
    assert task.numbers["model.dropout"] == 0.2
    assert task.vary({"width": 4}).options == {"width": 4}
    records = both(task, runs({"dropout": 0.6}, {"dropout": 0.6, "width": 4}))
    fixed = trained(of(lambda: same(0.6)), runs({}), "alone")[0]
    for name, w in records[0].weights.items():
        np.testing.assert_allclose(w, fixed.weights[name], rtol=1e-10, atol=1e-12)
    for model in (half, elsewhere):
        assert of(model).options == {"dropout": 0.2}
        both(of(model), runs({"dropout": 0.6}, {"dropout": 0.3}))


# --- frozen parameters ------------------------------------------------------------------------------------


class Adapted(nn.Module):
    """A base that is the same for every seed and is not trained, and a head that is."""

    BASE = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def __init__(self, rank=2, train_head=True):
        super().__init__()
        self.base = nn.Linear(3, 8, bias=False, dtype=torch.float64)
        self.base.weight.data.copy_(self.BASE)
        self.base.weight.requires_grad_(requires_grad=False)
        self.down, self.up = nn.Linear(8, rank), nn.Linear(rank, 3)
        for p in () if train_head else (*self.down.parameters(), *self.up.parameters()):
            nn.init.constant_(p, 0.5).requires_grad_(requires_grad=False)

    def forward(self, x):
        return self.up(self.down(self.base(x).tanh()))


def test_what_is_frozen_alike_is_stored_once_and_never_differentiated(monkeypatch):
    seen = []
    call = models.template

    def watched(*args):
        seen.append(call(*args))
        return seen[-1]

    monkeypatch.setattr(models, "template", watched)
    task = of(Adapted)
    template, frozen = seen[0]
    assert frozen == {"base.weight"}
    for seed in (0, 5):
        params, buffers = task.init(seed)
        assert set(params) == {"down.weight", "down.bias", "up.weight", "up.bias"}
        assert buffers == {}
    assert torch.equal(template.base.weight, Adapted.BASE)
    assert not template.base.weight.requires_grad

    held = template.base.weight.clone()
    records = both(task, runs())
    assert torch.equal(template.base.weight, held)
    assert template.base.weight.grad is None
    assert all("base.weight" not in record.weights for record in records)

    wider = task.vary({"rank": 3})
    assert seen[-1][0].base.weight.data_ptr() == template.base.weight.data_ptr()
    assert wider.init(0).params["down.weight"].shape == (3, 8)
    both(task, runs({"rank": 1}, {"rank": 3}))


def test_the_loss_with_a_frozen_base_is_the_whole_models_loss():
    task = of(Adapted)
    with rng.seeded(rng.seed_for(4, "init")):
        model = Adapted().double()
    batch = task.parts["train"]
    expected = F.cross_entropy(model(batch["inputs"]), batch["target"])
    torch.testing.assert_close(task.loss(*task.init(4), batch, {})[0], expected.detach())


def test_a_model_that_is_frozen_altogether_is_refused():
    with pytest.raises(BadTask, match="has no parameters that are trained: nothing to learn"):
        of(lambda: Adapted(train_head=False)).check()
