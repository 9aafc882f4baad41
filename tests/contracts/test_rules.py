"""Every rule keeps the contract."""

import pytest

from fallline import specs
from fallline.specs import Rule

from .rule_checks import CHECKS


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("kind", specs.kinds(Rule))
def test_contract(kind, check):
    CHECKS[check](kind)
