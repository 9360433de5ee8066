"""The examples in the docstrings of the public names run as they stand."""

import doctest

import pytest
import torch

from conceptry.models.perturbation import api
from conceptry.models.perturbation.model import Perturbation
from conceptry.models.perturbation.record import Perturbations
from conceptry.models.perturbation.solvers.ascent import gradient_ascent
from conceptry.models.perturbation.solvers.perturbations import AdditivePerturbation


@pytest.mark.parametrize("name", api.__all__)
def test_examples(name: str) -> None:
    torch.set_printoptions(profile="default")
    value = getattr(api, name)
    tests = doctest.DocTestFinder().find(value, name)
    results = [doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test) for test in tests]
    assert not sum(result.failed for result in results)
    if value in (AdditivePerturbation, Perturbation, Perturbations, gradient_ascent):
        assert sum(result.attempted for result in results)
