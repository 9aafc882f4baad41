"""A state dict of another optimizer is refused before anything is changed."""

from __future__ import annotations

import pytest
import torch

from fallline import optim, rules
from fallline.errors import BadValue
from fallline.specs import Rule


def stepped(rule: Rule) -> optim.Optimizer:
    """An optimizer that took one step."""
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = optim.Optimizer([p], rule)
    p.grad = torch.ones(2)
    optimizer.step()
    return optimizer


def test_the_state_of_another_rule_is_refused():
    ours, theirs = stepped(rules.average(rules.sgd(lr=0.1), 0.9)), stepped(rules.momentum(lr=0.1))
    saved, state = theirs.state_dict(), ours.state_dict()
    saved["param_groups"] = state["param_groups"]
    told = r"^the state dict is not of this optimizer: parameter 0 has \[.*\], and \[.*\] was expected$"
    with pytest.raises(BadValue, match=told):
        ours.load_state_dict(saved)
    for name, kept in state["state"][0].items():
        assert torch.equal(ours.state_dict()["state"][0][name], kept)
