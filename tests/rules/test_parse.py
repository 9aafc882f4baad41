"""From text to a rule."""

import pytest

from fallline import rules, specs
from fallline.errors import BadRule, BadValue, NotFound
from fallline.rules.parse import parse


def test_text_is_the_rule_that_it_prints():
    for rule in (
        rules.sgd(lr=0.1),
        rules.chain(rules.clip_norm(1.0), rules.adam(lr=0.01)),
        rules.average(rules.sgd(), 0.9),
    ):
        assert parse(repr(rule)) == rule


def test_a_name_alone_is_to_be_tuned():
    rule = parse("adam", points=3)
    assert isinstance(rule.numbers["lr"], specs.Axis)
    assert len(rule.numbers["lr"].values) == 3
    assert parse("chain(clip_norm(1.0), sgd)").children[1].numbers["lr"].log
    assert parse("sgd(lr=(0.1, 1.0))").numbers["lr"] == specs.Axis((0.1, 1.0))


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("adma", NotFound, r"no rule is called 'adma'; did you mean 'adam'\?"),
        ("adam(", BadRule, r"'adam\(' is not a rule: write a name such as adam, or adam\(lr=0.01\)"),
        ("1 + 1", BadRule, r"'1 \+ 1' is not a rule: write a name such as adam"),
        ("adam(lr=x)", BadRule, r"'x' in 'adam\(lr=x\)' is not a number: write adam\(lr=0.01\)"),
        ("chain(lr=0.1)", BadRule, r"'chain\(lr=0.1\)' is not a rule: .*unexpected keyword argument 'lr'"),
        ("adam(rate=0.1)", BadValue, r"adam takes lr, beta1, beta2, eps, got 'rate'"),
        ("adam(lr=-1)", BadValue, r"adam\(lr=-1\)"),
    ],
)
def test_a_wrong_text_teaches(text, error, said):
    with pytest.raises(error, match=said):
        parse(text)
