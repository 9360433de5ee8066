"""`conceptry register`: an explainer as the next version of a model."""

import dataclasses
from typing import Any

import click

from conceptry.evaluation.console import Optional, console, say
from conceptry.models.method import METHODS, Method, load_method, option_type


class _MethodGroup(click.Group):
    """One command for each method, built from its options when it is asked for: importing torch takes seconds."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(METHODS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _register_command(load_method(cmd_name)) if cmd_name in METHODS else None


@click.group(cls=_MethodGroup)
def register() -> None:
    """Register an explainer as the next version of a model."""


def _register_command(method: Method) -> click.Command:
    def run(name: str | None, description: str | None, **values: Any) -> None:
        from conceptry.registry import register as register_version

        given = {key: value for key, value in values.items() if value is not None}
        with console.status(f"registering {method.name}"):
            registration = register_version(method.name, given, name=name, description=description)
        version = registration.version
        say(
            f"registered {version.uri}"
            if registration.created
            else f"nothing to add: {version.uri} has the same artifacts, hyperparameters and code"
        )
        for note in registration.notes:
            say(f"note: {note}", style="dim")

    options: list[click.Parameter] = [
        click.Option(["--name"], help=f"Registered model. [default: {method.name}]"),
        click.Option(["--description"], help="A sentence for the version's page."),
    ]
    for field in dataclasses.fields(method.options):
        kind = option_type(method.options, field.name)
        choices = field.metadata["choices"]
        default = "" if field.default is None else f" [default: {field.default}]"
        options.append(
            click.Option(
                [f"--{field.name.replace('_', '-')}"],
                type=Optional(click.Choice(choices) if choices else kind),
                help=field.metadata["help"] + default,
            )
        )
    return click.Command(method.name, params=options, callback=run, help=method.summary)
