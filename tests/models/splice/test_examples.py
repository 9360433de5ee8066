"""The examples in docstrings run as they stand."""

import doctest

import pytest

from conceptry.models.splice import api, model, vocabulary
from conceptry.models.splice.original import model as published


@pytest.mark.parametrize("module", [model, published, vocabulary])
def test_examples_of(module) -> None:
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 0
    assert found.failed == 0


def test_the_main_names_have_examples() -> None:
    for name in ("SPLICE", "Splice", "load", "load_vocabulary"):
        assert ">>>" in getattr(api, name).__doc__, name
