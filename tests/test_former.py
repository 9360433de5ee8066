"""Former names lead to what they stood for, and say what is the name now."""

import importlib
import sys

import pytest

from conceptry import _former


@pytest.mark.parametrize("former", _former.MODULES)
def test_a_former_module_is_the_one_of_today(former: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, former, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{former} is {_former.MODULES[former]} now"):
        module = importlib.import_module(former)
    assert module is importlib.import_module(_former.MODULES[former])
    assert module.__spec__ is not None
    assert module.__spec__.name == module.__name__ == _former.MODULES[former]


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module in _former.NAMES for name in _former.NAMES[module]]
)
def test_a_former_name_is_that_of_today(module: str, name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{module}.{name} is .* now"):
        found = getattr(importlib.import_module(module), name)
    target, _, today = _former.NAMES[module][name].partition(":")
    assert found is getattr(importlib.import_module(target), today)


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match=r"module 'conceptry.evaluation.data' has no attribute 'Pictures'"):
        _ = importlib.import_module("conceptry.evaluation.data").Pictures
    with pytest.raises(ModuleNotFoundError, match=r"conceptry\.models\.milan\.nothing"):
        importlib.import_module("conceptry.models.milan.nothing")
