"""Which rule meets which parameter: conditions on name, shape, type and module, in optimizers and in fleets."""

import json

import pytest
import torch
from torch import nn

import fallline as fl
from fallline import layers, losses, optim, registry, rules, specs
from fallline.errors import BadRule, BadValue, NotFound
from fallline.rules import explain, facts, fit, route, where


class Net(nn.Module):
    """One parameter of each type, and more."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.body = nn.Sequential(nn.Conv1d(4, 4, 3), nn.LayerNorm(4), nn.Linear(4, 4))
        self.head = nn.Linear(4, 2, bias=False)
        self.scale = nn.Parameter(torch.ones(()))


ALL = {
    "scale": "other", "embed.weight": "embedding", "body.0.weight": "kernel", "body.0.bias": "bias",
    "body.1.weight": "norm", "body.1.bias": "norm", "body.2.weight": "matrix", "body.2.bias": "bias",
    "head.weight": "matrix",
}  # fmt: skip


def small(name, shape):
    return len(shape) < 2


def held(condition, model=None):
    """The parameters of a model for which a condition holds."""
    rule = fit(route({condition: rules.sgd(lr=1.0)}), model or Net())
    return list(rules.conditions._read(rule.options["patterns"][0])["names"])


def test_types_of_parameters():
    known = facts(dict(Net().named_parameters()), Net())
    assert {fact.name: fact.type for fact in known} == ALL
    assert known[-1].modules == ("Linear", "Module")


@pytest.mark.parametrize(
    ("conditions", "names"),
    [
        ({"name": "*.bias"}, ["body.0.bias", "body.1.bias", "body.2.bias"]),
        ({"name": "head.*|scale"}, ["scale", "head.weight"]),
        ({"name": "!body.*|embed.*"}, ["scale", "head.weight"]),
        ({"ndim": 0}, ["scale"]),
        ({"ndim": 2, "name": "!head.*"}, ["embed.weight", "body.2.weight"]),
        ({"shape": (None, 4)}, ["embed.weight", "body.2.weight", "head.weight"]),
        ({"shape": (5, 4)}, ["embed.weight"]),
        ({"type": "matrix"}, ["body.2.weight", "head.weight"]),
        ({"type": "matrix|kernel", "name": "!head.*"}, ["body.0.weight", "body.2.weight"]),
        ({"type": "!norm|bias|other"}, ["embed.weight", "body.0.weight", "body.2.weight", "head.weight"]),
        ({"module": "Linear"}, ["body.2.weight", "body.2.bias", "head.weight"]),
        ({"module": "_ConvNd"}, ["body.0.weight", "body.0.bias"]),
        ({"module": "*Norm"}, ["body.1.weight", "body.1.bias"]),
        ({"predicate": small, "type": "bias"}, ["body.0.bias", "body.2.bias"]),
        ({"names": ("scale",)}, ["scale"]),
    ],
)
def test_conditions_hold_for(conditions, names):
    assert held(where(**conditions)) == names


def test_a_condition_is_text_that_prints_compares_and_is_stored():
    rule = route(
        {where(type="matrix"): rules.sgd(lr=0.1), "*.bias": rules.sgd(lr=0.2)}, otherwise=rules.adam()
    )
    again = specs.rebuild(json.loads(json.dumps(specs.plain(rule))))
    assert again == rule
    assert specs.structure(again) == specs.structure(rule)
    assert "where(type='matrix')" in repr(rule)
    assert where(predicate=small) == f"where(predicate='{__name__}:small')"
    assert where(predicate="operator:lt") == "where(predicate='operator:lt')"


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: where(), BadValue, r"where\(\) needs a condition, such as ndim=2"),
        (lambda: where(type="matrx"), BadValue, r"where\(type='matrx'\): no type is called 'matrx'; did you mean 'matrix'"),
        (lambda: where(predicate=lambda name, shape: True), BadValue, "this function has no name by which it is found again"),
        (lambda: held("where(size=3)"), BadRule, r"'where\(size=3\)' is not a condition: write fl.rules.where with name, "),
        (lambda: held("where(ndim=open('x'))"), BadRule, "is not a condition: write fl.rules.where with"),
        (lambda: held("where(ndim=2"), BadRule, "is not a condition: write fl.rules.where with"),
        (lambda: held(where(ndim=7)), NotFound, r"the condition 'where\(ndim=7\)' holds for no parameter of the model, which has \['scale', "),
        (lambda: held(where(predicate="nowhere:f")), NotFound, "no function is found at 'nowhere:f': write module:function, with the module"),
        (lambda: held(where(predicate="math:f")), NotFound, "no function is found at 'math:f'"),
        (lambda: optim.Optimizer(Net().named_parameters(), route({where(type="bias"): rules.sgd()}, otherwise=rules.sgd())), BadRule,
         r"where\(type='bias'\) asks where 'scale' stands in a model, and there are only parameters: give the model"),
        (lambda: optim.Optimizer(Net().named_parameters(), route({where(ndim=9): rules.sgd()}, otherwise=rules.sgd())), NotFound,
         r"the pattern 'where\(ndim=9\)' of route matches no parameter that is left"),
        (lambda: fit(route({small: rules.sgd()}, otherwise=rules.sgd()), Net(), stored=True), BadRule,
         r"route has the function <function small.*which no store can hold and no worker can be sent"),
    ],
)  # fmt: skip
def test_a_wrong_condition_teaches(call, error, said):
    with pytest.raises(error, match=said):
        call()


# --- in optimizers --------------------------------------------------------------------------------------------


def moved(model, rule, given):
    """Which parameters an optimizer moves, for gradients of ones: by how much each."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = optim.Optimizer(given, rule)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    return {name: round(float((before[name] - p.detach()).mean()), 6) for name, p in model.named_parameters()}


def test_an_optimizer_of_a_model_settles_conditions():
    rule = route(
        {where(type="matrix", name="!head.*"): rules.sgd(lr=0.5), small: rules.sgd(lr=0.25)},
        otherwise=rules.sgd(lr=0.0),
    )
    model = Net()
    rates = moved(model, rule, model)
    assert rates["body.2.weight"] == 0.5
    assert rates["scale"] == rates["body.1.bias"] == 0.25
    assert rates["head.weight"] == rates["embed.weight"] == rates["body.0.weight"] == 0


def test_conditions_on_names_and_shapes_need_no_model():
    model = Net()
    rule = route({where(ndim=2): rules.sgd(lr=0.5)}, otherwise=rules.sgd(lr=0.0))
    assert moved(model, rule, model.named_parameters()) == moved(model, rule, model)


def test_options_of_rules_are_settled_too(monkeypatch):
    monkeypatch.setattr(registry, "_behaviors", dict(registry._behaviors))

    @rules.recipe(lr=rules.base.RATE)
    def split(lr=0.1, chosen="where(type='matrix')"):
        return route({chosen: rules.descend(lr)}, otherwise=rules.descend(0.0))

    model = Net()
    rates = moved(model, split(lr=0.5), model)
    assert {name for name, rate in rates.items() if rate} == {"body.2.weight", "head.weight"}
    assert "descend(lr=0.5)" in explain(split(lr=0.5), model)


def test_a_fitted_rule_is_the_same_where_there_is_nothing_to_settle():
    for rule in (rules.adam(), rules.chain(rules.clip_norm(1.0), route({"*": rules.sgd()}))):
        assert fit(rule, Net()) is rule


# --- explained ------------------------------------------------------------------------------------------------


def lines(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_explain_tells_each_parameters_rules():
    inner = rules.average(rules.sgd(lr=0.1), decay=0.5)
    rule = route(
        {"scale": inner, where(type="bias|norm"): rules.sgd(lr=0.2)},
        otherwise=rules.chain(rules.clip_norm(1.0), rules.sgd(lr=0.3)),
    )
    found = lines(explain(rule, Net()))
    assert found[0] == "parameter shape type rules"
    assert found[1] == "scale one number other sgd(lr=0.1), inside average(decay=0.5)"
    assert found[2] == "embed.weight 5 × 4 embedding clip_norm(max_norm=1) → sgd(lr=0.3)"
    assert found[4] == "body.0.bias 4 bias sgd(lr=0.2)"
    assert len(found) == 1 + len(ALL)


def test_an_optimizer_explains_the_numbers_in_force():
    model = nn.Linear(3, 2)
    groups = [
        {"params": [("weight", model.weight)], "lr": 0.1},
        {"params": [("bias", model.bias)], "lr": 0.2},
    ]
    optimizer = optim.Optimizer(groups, rules.adam(eps=0.0))
    assert "adam(lr=0.1, beta1=0.9, beta2=0.999, eps=0)" in lines(optimizer.explain())[1]
    optimizer.param_groups[0]["lr"] = 0.4
    assert [line.split("lr=")[1][:3] for line in lines(optimizer.explain())[1:]] == ["0.4", "0.2"]
    ours = optim.AdamW(model.named_parameters(), lr=0.5)
    assert "descend(lr=0.5) → shrink(lr=0.5, weight_decay=0.01)" in lines(ours.explain())[1]
    known = optim.Optimizer(model, rules.sgd())
    assert [line.split()[-2] for line in lines(known.explain())[1:]] == ["matrix", "bias"]


# --- in fleets ------------------------------------------------------------------------------------------------


def task(seed=0):
    X = torch.randn(60, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def net(width=3):
        return layers.mlp(6, width, 2, activation="tanh")

    return fl.Task.supervised(net, (X, (X[:, 0] > 0).long()), loss=losses.cross_entropy, dtype=torch.float64)


def test_a_run_with_conditions_is_itself_in_a_fleet_of_widths():
    """What is true of a run's own shapes decides, also where its program is wider than the run."""
    shaped = route({where(shape=(4, 6)): rules.sgd(lr=0.5)}, otherwise=rules.sgd(lr=0.01))
    typed = route({where(type="bias"): rules.sgd(lr=0.0)}, otherwise=rules.adam(lr=0.01))
    runs = [fl.Run(shaped, seed=1, model={"width": 4})]
    runs += [fl.Run(typed, seed=s, model={"width": w}) for s in (0, 1) for w in (3, 4, 7)]
    together = fl.fleet.run(task(), runs, steps=8, workers=0, executor="traced", weights=True)
    for record, run in zip(together, runs, strict=True):
        (alone,) = fl.fleet.run(task(), [run], steps=8, workers=0, executor="traced", weights=True)
        assert record.run == run
        for name, weight in alone.weights.items():
            assert weight.shape == record.weights[name].shape
            torch.testing.assert_close(
                torch.tensor(record.weights[name]), torch.tensor(weight), rtol=1e-10, atol=1e-12
            )
    start = task().variant({"width": 4}).init(1).params
    assert not torch.equal(torch.tensor(together[0].weights["1.weight"]), start["1.weight"])
    biases = [name for name in start if "bias" in name]
    for name in biases:
        assert torch.equal(torch.tensor(together[5].weights[name]), start[name])


def test_one_training_settles_conditions():
    found = fl.train(
        task(), route({where(type="bias"): rules.sgd(lr=0.0)}, otherwise=rules.sgd(lr=0.1)), steps=4
    )
    start = task().init(0).params
    for name, weight in found.state_dict().items():
        assert torch.equal(weight, start[name]) == ("bias" in name)


def test_a_condition_that_holds_for_nothing_is_told_before_a_fleet_trains():
    rule = route({where(type="embedding"): rules.sgd()}, otherwise=rules.sgd())
    with pytest.raises(NotFound, match="holds for no parameter of the model, which has"):
        fl.fleet.run(task(), [fl.Run(rule)], steps=2, workers=0)
    with pytest.raises(BadRule, match="which no store can hold and no worker can be sent"):
        fl.fleet.run(task(), [fl.Run(route({small: rules.sgd()}, otherwise=rules.sgd()))], steps=2, workers=0)


def test_an_otherwise_without_parameters_and_parameters_without_names_are_told():
    params = {"a.weight": torch.zeros(2, 2), "a.bias": torch.zeros(2)}
    rule = rules.route({"*.weight": rules.sgd(), "*.bias": rules.sgd()}, otherwise=rules.adam())
    with pytest.raises(
        NotFound, match=r"^otherwise of route is left with no parameter, as the patterns before it match all"
    ):
        rules.routing.parts_of(rule, params)
    again = rules.route({"*": rules.sgd(), "*.bias": rules.sgd()})
    with pytest.raises(NotFound, match=r"^the pattern '\*\.bias' of route is left with no parameter"):
        rules.routing.parts_of(again, params)
    with pytest.raises(
        NotFound, match=r"left: \['0', '1'\]: these have no names, give model\.named_parameters\(\)$"
    ):
        rules.routing.parts_of(
            again.__class__("route", {}, {"patterns": ("*.bias",)}, (rules.sgd(),)),
            {"0": torch.zeros(1), "1": torch.zeros(1)},
        )
