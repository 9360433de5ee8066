"""`conceptry compare`, `promote`, `list` and `show`: what the registry knows of versions.

`conceptry register`: an explainer as the next version of a model.
"""

import dataclasses
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from conceptry.evaluation.cli.options import (
    Command,
    Flag,
    Group,
    NamedArgument,
    check_image,
    command,
    console,
    device_option,
    errors,
    group,
    say,
)
from conceptry.models.errors import InputError, plural
from conceptry.models.method import METHODS, load_options, load_work, option_type

SAMPLES = 6  # of which a page shows what the versions say


@command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", cls=NamedArgument, option="--beside")
@click.option("--versions", metavar="NUMBERS", help="Comma-separated version numbers of one NAME. [default: all]")
@click.option("--all", "everything", cls=Flag, help="Show every metric, not only the headline ones.")
@click.option("--json", "as_json", cls=Flag, help="Print JSON instead of a table.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Write a page (.html), with the samples that they differ on side by side; it is logged to each run.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=0),
    default=SAMPLES,
    help="With --output: how many samples the versions are asked about again.",
)
@device_option
def compare(
    names: tuple[str, ...],
    versions: str | None,
    everything: bool,
    as_json: bool,
    output: Path | None,
    samples: int,
    device: str,
) -> None:
    """Compare versions of one method: what differs, how they score, and in bold what is better beyond chance.

    Each NAME is a registered model, which stands for all of its versions, or one version: NAME/NUMBER or NAME@ALIAS.
    """
    from conceptry.evaluation.comparison.compared import ComparedVersions
    from conceptry.evaluation.harness import agreement
    from conceptry.evaluation.tables import agreement_table, comparison_records, comparison_table
    from conceptry.registry import compare as compare_name
    from conceptry.registry.comparison import compare_versions, versions_named

    check_image(output, (".html",))
    first, *others = names
    if versions is not None and others:
        raise InputError(f"--versions picks from one registered model, got {len(names)}; name versions as NAME/NUMBER")
    picked = _numbers(versions)
    comparison = compare_name(first, picked) if picked else compare_versions(versions_named(names))
    compared, agreed = ComparedVersions.read(comparison), agreement(comparison)
    if output:
        from conceptry.evaluation.comparison.publication import make_page, publish
        from conceptry.evaluation.progress import bar

        with bar(first) as progress:
            page = make_page(compared, samples, device, progress)
        for note in publish(comparison, page, output):
            errors.print(f"note: {note}")
        errors.print(f"saved {output}")
    if as_json:
        print(json.dumps(comparison_records(comparison, agreed, compared), indent=2))
        return
    console.print(comparison_table(comparison, everything, compared))
    if agreed is not None:
        console.print(agreement_table(agreed))
    if missing := [v for v in comparison.versions if not v.metrics]:
        labels = ", ".join(comparison.heading(v) for v in missing)
        say(f"not evaluated yet: {labels} (conceptry evaluate {missing[0].name}/{missing[0].version})")


@command()
@click.argument("name")
@click.argument("version", type=int)
@click.option("--alias", default="champion", help="Alias to move.")
@click.option(
    "--require",
    multiple=True,
    metavar="RULE",
    help="METRIC>=NUMBER (or <=, >, <): a bound that must hold; better:METRIC: better, beyond chance, than the version "
    "that the alias points to, on the same samples. May be repeated.",
)
@click.option("--data", help="Data set to judge by. [default: the one measured last]")
def promote(name: str, version: int, alias: str, require: tuple[str, ...], data: str | None) -> None:
    """Point an alias of NAME at VERSION if the version meets every requirement, and record the promotion."""
    from conceptry.evaluation.comparison.requirements import parse_requirement
    from conceptry.registry import promote as promote_version

    rules = [parse_requirement(text) for text in require]
    promotion = promote_version(name, version, alias, rules, data=data)
    if promotion is None:
        say(f"nothing to do: {alias} is models:/{name}/{version} already")
    else:
        before = f", before: version {promotion.previous}" if promotion.previous else ""
        say(f"{alias} is now models:/{name}/{version} ({promotion.rule}{before})")


@command(name="list")
@click.argument("name", required=False, cls=NamedArgument, option="--name")
@click.option("--json", "as_json", cls=Flag, help="Print JSON instead of a table.")
def list_command(name: str | None, as_json: bool) -> None:
    """List the registered versions of NAME, or of all models."""
    from conceptry.evaluation.tables import versions_table
    from conceptry.registry import list_versions
    from conceptry.registry.versions import versions_of

    versions = versions_of(name) if name else list_versions()
    if as_json:
        print(json.dumps([dataclasses.asdict(v) for v in versions], indent=2, default=str))
    elif versions:
        console.print(versions_table(versions))
    else:
        console.print("no versions yet: conceptry register splice")


@command()
@click.argument("uri")
def show(uri: str) -> None:
    """Show everything known about a version: hyperparameters, metrics, digests, promotions."""
    from conceptry.evaluation.tables import version_tables
    from conceptry.registry import find_version, promotions

    version = find_version(uri)
    for table in version_tables(version, promotions(version.name)):
        console.print(table)
        console.print()


@command()
@click.argument("uris", nargs=-1, metavar="[URI]...", cls=NamedArgument, option="--uri")
def verify(uris: tuple[str, ...]) -> None:
    """Check every file of versions, their code too, against what was recorded; without URI, of all versions."""
    from conceptry.models.errors import ConceptryError
    from conceptry.registry import find_version, list_versions
    from conceptry.registry import verify as verify_version

    versions = [find_version(uri) for uri in uris] if uris else list_versions()
    broken = 0
    for version in versions:
        try:
            count = verify_version(version)
        except ConceptryError as error:
            broken += 1
            say(str(error))
        else:
            say(f"{version.uri}: all {count} files are as they were registered")
    if broken:
        raise ConceptryError(f"{broken} of {plural(len(versions), 'version')} must not be run")


@command()
@click.argument(
    "folders", nargs=-1, metavar="[FOLDER]...", type=click.Path(path_type=Path), cls=NamedArgument, option="--folder"
)
@click.option("--delete", cls=Flag, help="Remove what is listed, instead of listing it alone.")
@click.option(
    "--older-than",
    metavar="AGE",
    help="What processes of other machines, or of unknown ones, began so long ago counts as left; e.g. 7d or 12h30m.",
)
@click.option("--unclaimed", cls=Flag, help="With --delete: artifact folders, too, of which the store knows nothing.")
def gc(folders: tuple[Path, ...], delete: bool, older_than: str | None, unclaimed: bool) -> None:
    """List what killed commands have left, and with --delete remove it.

    That is runs and logged models of the store that were never finished, and what was being written: temporary folders,
    the cache, and files beside results, in the current folder or in each FOLDER and below. Nothing is removed that
    belongs to a process that goes on, to a version, or to other programs.
    """
    from conceptry.models.errors import ConceptryError
    from conceptry.registry.remains import ARTIFACTS, remains_in_store, remains_on_disk
    from conceptry.registry.store import refusal

    age = _age(older_than)
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise InputError(f"{missing[0]}: is no folder; name one in which commands have written")
    found = [*remains_in_store(age), *remains_on_disk(folders, age)]
    due = [remain for remain in found if not remain.doubtful or (unclaimed and remain.kind == ARTIFACTS)]
    failed = 0
    for remain in found:
        what = f"{remain.kind} {remain.name}: {remain.reason}"
        if remain not in due:
            say(f"left alone: {what}")
        elif not delete:
            say(f"left: {what}")
        else:
            try:
                remain.remove()
            except Exception as error:  # of a store or of a file system, of whatever kind: the others go on
                failed += 1
                say(f"cannot be removed: {what} ({refusal(error) or error})")
            else:
                say(f"removed: {what}")
    if not due:
        say("nothing to remove")
    elif not delete:
        say(f"{plural(len(due), 'thing')} to remove: conceptry gc --delete")
    if len(due) < len(found):
        say("what is left alone may be somebody else's: --older-than AGE takes runs and files, --unclaimed artifacts")
    if failed:
        raise ConceptryError(f"{plural(failed, 'thing')} could not be removed")


def _age(text: str | None) -> timedelta | None:
    """An age as `mlflow gc` takes it, such as 1d12h. Raises InputError for anything else."""
    if text is None:
        return None
    match = re.fullmatch(r"(?:([\d.]+)d)?(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s)?", text)
    try:
        if not match or not text:
            raise ValueError
        days, hours, minutes, seconds = (float(number or 0) for number in match.groups())
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except (ValueError, OverflowError):
        raise InputError(f"--older-than takes an age such as 7d or 12h30m, got {text!r}") from None


def _numbers(text: str | None) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise InputError(f"--versions takes numbers separated by commas, got {text!r}") from None


class _MethodGroup(Group):
    """One command for each method, whose options are those of its settings."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(METHODS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _register_command(cmd_name) if cmd_name in METHODS else None


@group(cls=_MethodGroup)
def register() -> None:
    """Register an explainer as the next version of a model."""


def _register_command(method: str) -> click.Command:
    declared, summary = load_options(method)
    work = load_work(method)

    def run(name: str | None, description: str | None, max_work: int | None, **values: Any) -> None:
        from conceptry.registry import register as register_version

        given = {key: value for key, value in values.items() if value is not None}
        with console.status(f"registering {method}"):
            registration = register_version(method, given, name=name, description=description, max_work=max_work)
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
        click.Option(["--description"], help="Description for the version's page."),
        click.Option(
            ["--max-work"],
            type=click.IntRange(min=1),
            help=f"Most that a server does for one request, in {work.unit}. [default: {work.most:,}]",
        ),
    ]
    options += [_option(field, option_type(declared, field.name)) for field in dataclasses.fields(declared)]
    return Command(method, params=options, callback=run, help=summary)


def _option(field: dataclasses.Field, kind: type) -> click.Option:
    """The option of a field; None where it is not given, so that defaults are those of the dataclass alone."""
    names, help, choices = [f"--{field.name.replace('_', '-')}"], field.metadata["help"], field.metadata["choices"]
    if kind is bool:
        shown = {"help": f"{help} [default: true]", "metavar": "[true|false]"} if field.default else {"help": help}
        return Flag(names, default=None, **shown)
    if field.default not in (None, ""):
        help += f" [default: {field.default}]"
    return click.Option(names, type=click.Choice(choices) if choices else kind, help=help)
