"""`conceptry compare`, `promote`, `list` and `show`: what the registry knows of versions."""

import dataclasses
import json

import click

from conceptry.evaluation.console import Optional, console, say
from conceptry.models.errors import InputError


@click.command()
@click.argument("name")
@click.option("--versions", help="Numbers, separated by commas. [default: all]")
@click.option("--all", "everything", is_flag=True, help="Every metric, not the headline ones only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def compare(name: str, versions: str | None, everything: bool, as_json: bool) -> None:
    """Compare the versions of NAME: what differs, how they score, the best in bold."""
    from conceptry.evaluation.harness import agreement
    from conceptry.evaluation.reports import agreement_table, comparison_records, comparison_table
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
    from conceptry.evaluation.reports import versions_table
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
    from conceptry.evaluation.reports import version_tables
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
