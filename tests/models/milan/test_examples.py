"""The examples in the docstrings of the public names say what they give."""

import doctest

import pytest

from conceptry.models.milan import model
from conceptry.models.milan.describer import describer
from conceptry.models.milan.exemplars import compute
from conceptry.models.milan.original import configs, describers


@pytest.mark.parametrize("module", [compute, configs, describer, describers, model], ids=lambda module: module.__name__)
def test_examples(module) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0
