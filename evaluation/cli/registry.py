"""`conceptry compare`, `promote`, `list` and `show`: what the registry knows of versions.

`conceptry register`: an explainer as the next version of a model.
"""

import dataclasses
import json
from typing import Any

import click

from conceptry.evaluation.cli.options import Optional, console, say
from conceptry.models.errors import InputError
from conceptry.models.method import METHODS, load_options, option_type


@click.command()
@click.argument("name")
@click.option("--versions", help="Numbers, separated by commas. [default: all]")
@click.option("--all", "everything", is_flag=True, help="Every metric, not the headline ones only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def compare(name: str, versions: str | None, everything: bool, as_json: bool) -> None:
    """Compare the versions of NAME: what differs, how they score, the best in bold."""
    from conceptry.evaluation.harness import agreement
    from conceptry.evaluation.tables import agreement_table, comparison_records, comparison_table
    from conceptry.registry import compare as compare_versions

    comparison = compare_versions(name, _numbers(versions))
    agreed = agreement(comparison)
    if as_json:
        print(json.dumps(comparison_records(comparison, agreed), indent=2))
        return
    console.print(comparison_table(comparison, everything))
    if agreed is not None:
        console.print(agreement_table(agreed))
    if missing := [f"v{v.version}" for v in comparison.versions if not v.metrics]:
        say(f"not evaluated yet: {', '.join(missing)} (conceptry evaluate {name}/{missing[0][1:]})")


@click.command()
@click.argument("name")
@click.argument("version", type=int)
@click.option("--alias", default="champion", show_default=True, help="The alias to move.")
@click.option("--require", multiple=True, metavar="METRIC>=NUMBER", help="A bound to meet; may be repeated.")
@click.option("--data", type=Optional(str), help="Data set to judge by. [default: the one measured last]")
def promote(name: str, version: int, alias: str, require: tuple[str, ...], data: str | None) -> None:
    """Point an alias of NAME at VERSION if it meets every requirement, and record it."""
    from conceptry.registry import Requirement
    from conceptry.registry import promote as promote_version

    # An entry point of MLproject says "no bound" by an empty text.
    bounds = [Requirement.parse(text) for text in require if text]
    promotion = promote_version(name, version, alias, bounds, data=data)
    if promotion is None:
        say(f"nothing to do: {alias} is models:/{name}/{version} already")
    else:
        before = f", before: version {promotion.previous}" if promotion.previous else ""
        say(f"{alias} is now models:/{name}/{version} ({promotion.rule}{before})")


@click.command(name="list")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_command(name: str | None, as_json: bool) -> None:
    """List registered versions, of NAME or of all."""
    from conceptry.evaluation.tables import versions_table
    from conceptry.registry import list_versions, registered_names

    versions = list_versions(name)
    if name and not versions:
        known = ", ".join(registered_names())
        raise InputError(
            f"no version of {name!r} is registered; there is {known or 'none yet: conceptry register splice'}"
        )
    if as_json:
        print(json.dumps([dataclasses.asdict(v) for v in versions], indent=2, default=str))
    elif versions:
        console.print(versions_table(versions))
    else:
        console.print("no versions yet: conceptry register splice")


@click.command()
@click.argument("uri")
def show(uri: str) -> None:
    """Show all that is known of a version: hyperparameters, metrics, digests, promotions."""
    from conceptry.evaluation.tables import version_tables
    from conceptry.registry import find_version, promotions

    version = find_version(uri)
    for table in version_tables(version, promotions(version.name)):
        console.print(table)
        console.print()


def _numbers(text: str | None) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise InputError(f"--versions takes numbers separated by commas, got {text!r}") from None


class _MethodGroup(click.Group):
    """One command for each method, built from its options when it is asked for: importing torch takes seconds."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(METHODS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _register_command(cmd_name) if cmd_name in METHODS else None


@click.group(cls=_MethodGroup)
def register() -> None:
    """Register an explainer as the next version of a model."""


def _register_command(method: str) -> click.Command:
    declared, summary = load_options(method)

    def run(name: str | None, description: str | None, **values: Any) -> None:
        from conceptry.registry import register as register_version

        given = {key: value for key, value in values.items() if value is not None}
        with console.status(f"registering {method}"):
            registration = register_version(method, given, name=name, description=description)
        version = registration.version
        say(
            f"registered {version.uri}"
            if registration.created
            else f"nothing to add: {version.uri} has the same artifacts, hyperparameters and code"
        )
        for note in registration.notes:
            say(f"note: {note}", style="dim")

    options: list[click.Parameter] = [
        click.Option(["--name"], help=f"Registered model. [default: {method}]"),
        click.Option(["--description"], help="A sentence for the version's page."),
    ]
    for field in dataclasses.fields(declared):
        kind = option_type(declared, field.name)
        choices = field.metadata["choices"]
        default = "" if field.default is None else f" [default: {field.default}]"
        options.append(
            click.Option(
                [f"--{field.name.replace('_', '-')}"],
                type=Optional(click.Choice(choices) if choices else kind),
                help=field.metadata["help"] + default,
            )
        )
    return click.Command(method, params=options, callback=run, help=summary)
