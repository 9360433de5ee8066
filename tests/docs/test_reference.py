"""The reference that is made from the code when the site is built holds all that the code has."""

import importlib

import click
import pytest

from conceptry.evaluation.cli.app import cli
from conceptry.models.method import METHODS, load_method
from support import ROOT


@pytest.fixture(autouse=True)
def generators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "generators"))


def test_every_option_of_every_command_is_listed() -> None:
    module = importlib.import_module("cli")
    page = module.cli_page()
    paths = []
    for context in module.commands(module.context_of(cli, "conceptry")):
        paths.append(context.command_path)
        section = page.split(f"`{context.command_path}` {{")[1].split("\n## ")[0].split("\n### ")[0]
        for option in context.command.params:
            if isinstance(option, click.Option):
                assert f"| `{option.opts[0]}`" in section, (context.command_path, option.opts)
    assert {"conceptry", "conceptry register milan", "conceptry train encoder"} <= set(paths)
    assert page.count("{ #conceptry") == len(paths)


def test_help_keeps_its_blocks_and_loses_its_markup() -> None:
    module = importlib.import_module("cli")
    assert module._prose("Find a|b.\n\n    \b\n    one\n      two\n") == "Find a\\|b.\n\n```text\none\n  two\n```"
    assert module.cell("of [0, 1] in\n`a_b` and a_b") == "of \\[0, 1\\] in `a_b` and a\\_b"


@pytest.mark.parametrize("name", METHODS)
def test_every_column_and_parameter_is_listed(name: str) -> None:
    module = importlib.import_module("schemas")
    section = "\n".join(module._section(name))
    explainer = load_method(name).explainer_class()
    inputs, outputs, params = module._schemas(explainer, importlib.import_module(explainer.__module__))
    for spec in (*inputs, *outputs, *params):
        assert f"| `{spec.name}` | " in section
    assert "| column | what |" not in section  # the docstring's tables have moved into those of the page


def test_a_docstring_is_split_into_prose_and_meanings() -> None:
    module = importlib.import_module("schemas")
    head = "| column | what |\n|---|---|\n"
    text = f"Head.\n\n{head}| a | ask |\n\nThe answer has\n\n{head}| b, c | two |\n\nEnd."
    prose, tables = module._read(text, "x")
    assert prose == "Head.\n\nThe answer has [these columns](#x).\n\nEnd."
    assert tables == [{"a": "ask"}, {"b": "two", "c": "two"}]


def test_every_public_name_is_in_the_reference() -> None:
    module = importlib.import_module("python_api")
    for face in module.FACES:
        page = module.api_page(face)
        for name in importlib.import_module(face).__all__:
            assert f"\n::: {face}.{name}\n" in page
