"""The examples in docstrings run as they stand."""

import doctest

import pytest

from conceptry.models.harsanyi import api, graph, model
from conceptry.models.harsanyi.interactions import aggregate, record
from conceptry.models.harsanyi.original import calculator
from conceptry.models.harsanyi.trees import interactions


@pytest.mark.parametrize(
    "module", [aggregate, calculator, graph, interactions, model, record], ids=lambda module: module.__name__
)
def test_examples_of(module) -> None:
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0
    assert found.failed == 0


def test_the_main_names_have_examples() -> None:
    for name in ("AndOrGraph", "Harsanyi", "Interactions", "aggregate", "tree_interactions"):
        assert ">>>" in getattr(api, name).__doc__, name
