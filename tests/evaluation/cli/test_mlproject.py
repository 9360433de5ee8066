"""What `mlflow run` can pass is what commands take: MLflow's own code writes the command lines, click reads them."""

import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from mlflow.projects.utils import load_project

from conceptry.evaluation.cli.app import cli
from conceptry.evaluation.cli.options import Command, Flag, NamedArgument
from support import ROOT, environment

PROJECT = load_project(ROOT)
SUBCOMMANDS = {"register": "method", "train": "kind", "convert": "kind"}  # the parameter that picks one
SERVERS = {"serve", "ui"}  # they run until they are stopped, which no run of a project does
TEXT = "it's $HOME; two  words"


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        yield from leaves(child, (*path, name))


COMMANDS = {path: command for path, command in leaves(cli) if path[0] not in SERVERS}
OPTIONS = [
    (path, option)
    for path, command in COMMANDS.items()
    for option in command.params
    if isinstance(option, (click.Option, NamedArgument))
]


def sample(parameter: click.Parameter) -> tuple[str, Any]:
    """A text for a parameter, and what the command should get."""
    if parameter.metavar == "JSON":
        return '{"a b": "c\'d"}', {"a b": "c'd"}
    if isinstance(parameter.type, click.Choice):
        return parameter.type.choices[0], parameter.type.choices[0]
    by_type: dict[type, tuple[str, Any]] = {
        click.types.IntParamType: ("3", 3),
        click.types.IntRange: ("3", 3),
        click.types.FloatParamType: ("-0.5", -0.5),
        click.types.BoolParamType: ("true", True),
        click.Path: (TEXT, Path(TEXT)),
        click.types.StringParamType: (TEXT, TEXT),
    }
    return by_type[type(parameter.type)]


def passed(path: tuple[str, ...], given: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a command receives when `mlflow run` is given these parameters."""
    entry = PROJECT.get_entry_point("main" if path == ("demo",) else path[0])
    values = dict(given)
    if len(path) > 1:
        values[SUBCOMMANDS[path[0]]] = path[1]
    arguments = {p.name: p for p in COMMANDS[path].params if isinstance(p, click.Argument)}
    for name in entry.parameters:
        values.setdefault(name, sample(arguments[name])[0] if name in arguments else "1")
    program, *line = shlex.split(entry.compute_command(values, None))
    assert program == "conceptry"
    received: list[dict[str, Any]] = []
    monkeypatch.setattr(Command, "invoke", lambda self, context: received.append(context.params))
    cli.main(line, standalone_mode=False)
    (parameters,) = received
    return parameters


@pytest.mark.parametrize(
    ("path", "parameter"), OPTIONS, ids=[f"{' '.join(path)} {option.name}" for path, option in OPTIONS]
)
def test_every_option_is_reached_by_its_name_with_underscores(path, parameter, monkeypatch) -> None:
    text, expected = sample(parameter)
    (name,) = [parameter.option] if isinstance(parameter, NamedArgument) else parameter.opts
    key = name.removeprefix("--").replace("-", "_")
    required = {
        option.opts[0].removeprefix("--"): sample(option)[0]
        for option in COMMANDS[path].params
        if isinstance(option, click.Option) and option.required
    }
    received = passed(path, required | {key: text}, monkeypatch)[parameter.name]
    if parameter.multiple or parameter.nargs == -1:
        before = ["1"] if parameter.required else []  # the argument that the entry point declares
        assert list(received) == [*before, expected]
    else:
        assert received == expected
    if isinstance(parameter, Flag):
        assert passed(path, required | {key: "False"}, monkeypatch)[parameter.name] is False


def test_every_command_and_argument_has_its_entry_point() -> None:
    from mlflow.projects._project_spec import EntryPoint

    entries: dict[str, EntryPoint] = PROJECT._entry_points
    assert set(entries) == {path[0] for path in COMMANDS} - {"demo"} | {"main"}
    for path, command in COMMANDS.items():
        entry = entries["main" if path == ("demo",) else path[0]]
        arguments = [p for p in command.params if isinstance(p, click.Argument) and p.required]
        assert len(entry.parameters) == len(arguments) + len(path) - 1, path
        assert "--" not in entry.command  # defaults and options are those of the command


RUNS = [
    (("-e", "list", "-P", "json=true"), "[]"),
    (("-e", "train", "-P", "kind=classifiers", "-P", "data=wine", "-P", "small=true", "-P", "output={new}"), "saved"),
]


@pytest.mark.parametrize(("arguments", "said"), RUNS, ids=[arguments[1] for arguments, _ in RUNS])
def test_mlflow_runs_entry_points(arguments: tuple[str, ...], said: str, preloaded, tmp_path: Path) -> None:
    env = environment(MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path / 'mlflow.db'}")
    done = subprocess.run(
        [
            "mlflow",
            "run",
            str(ROOT),
            "--env-manager",
            "local",
            *(text.format(new=tmp_path / "new") for text in arguments),
        ],
        env=env | {"PATH": f"{preloaded.folder}{os.pathsep}{env['PATH']}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert said in done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("list", "--json", "--json=false"), "--json is given twice, but takes one value"),
        (("explain", "a/1", "--view", "grid", "--view=path"), "--view is given twice, but takes one value"),
        (("register", "splice", "--l1-penalty", "1", "--l1_penalty", "2"), "--l1-penalty is given twice, but takes"),
        (("--tracking-uri", "a", "--tracking_uri", "b", "list"), "--tracking-uri is given twice, but takes one value"),
        (("evaluate", "a/1", "--data", ""), "--data is empty; leave it out to get its default"),
        (("evaluate", ""), "an argument is empty; leave it out"),
        (("explain", "a/1", "--json=maybe"), "'maybe' is not a valid boolean"),
        (("explain", "a/1", "--vieww", "grid"), "No such option '--vieww'"),
        (("explain", "a/1", "--view"), "Option '--view' requires an argument"),
        (("list", "a", "--name", "b"), "Got unexpected extra argument (b)"),
    ],
)
def test_what_click_would_drop_is_refused(command_line, arguments: tuple[str, ...], sentence: str) -> None:
    code, _, err = command_line(*arguments)
    assert (code, len(err.strip().splitlines())) == (2, 1), err
    assert sentence in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("a/1", "--json"), {"as_json": True}),
        (("--json", "a/1"), {"as_json": True, "uri": "a/1"}),
        (("a/1", "--json", "true"), {"as_json": True, "files": ()}),
        (("a/1", "--json", "No"), {"as_json": False, "files": ()}),
        (("a/1", "--json=0"), {"as_json": False}),
        (("a/1", "--json", "./true"), {"as_json": True, "files": ("./true",)}),
        (("a/1", "--", "--json", ""), {"as_json": False, "files": ("--json", "")}),
        (("a/1", "--view", "--json"), {"as_json": False, "view": "--json"}),
        (("a/1", "--file", "-x.png", "y.png"), {"files": ("y.png", "-x.png")}),
        (("--beside", "b/2", "a/1", "--beside=c/3"), {"beside": ("b/2", "c/3")}),
    ],
)
def test_flags_have_a_value_where_one_follows(arguments, expected, monkeypatch) -> None:
    received: list[dict[str, Any]] = []
    monkeypatch.setattr(Command, "invoke", lambda self, context: received.append(context.params))
    cli.main(["explain", *arguments], standalone_mode=False)
    assert received[0].items() >= expected.items()
