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
from rich.console import Console

from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.method import METHODS, Method, load_method, option_type

# Tables keep their columns in files and pipes, which have no width of their own.
console = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 130)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


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
                    conceptry evaluate splice/1
                    conceptry compare splice
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
        console.print(
            f"registered {version.uri}"
            if registration.created
            else f"nothing to add: {version.uri} has the same artifacts, hyperparameters and code"
        )

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
                type=click.Choice(choices) if choices else kind,
                help=field.metadata["help"] + default,
            )
        )
    return click.Command(method.name, params=options, callback=run, help=method.summary)


@cli.command()
@click.argument("uri")
@click.option("--data", help="zoo:emoji-scenes, folder:PATH or csv:PATH. [default: the method's own]")
@click.option("--size", type=int, help="At most so many pictures.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which pictures are drawn.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:INDEX.")
def evaluate(uri: str, data: str | None, size: int | None, seed: int, device: str) -> None:
    """Evaluate a version on held-out data; log metrics, tables and plots to it.

    URI is NAME/NUMBER, NAME@ALIAS, or either with models:/ in front.
    """
    from conceptry.evaluation.harness import evaluate as evaluate_version
    from conceptry.evaluation.progress import bar
    from conceptry.evaluation.reports import comparison_table
    from conceptry.registry.compare import Comparison

    with bar(uri) as progress:
        done = evaluate_version(uri, data, size=size, seed=seed, device=device, progress=progress)
    version = done.version
    console.print(comparison_table(Comparison((version,), (), tuple(sorted(done.report.metrics))), everything=True))
    console.print(
        f"{len(done.data)} pictures of {done.data.name}; logged to {version.uri} and its run {version.run_id}"
    )


@cli.command()
@click.argument("name")
@click.option("--versions", help="Numbers, separated by commas. [default: all]")
@click.option("--all", "everything", is_flag=True, help="Every metric, not the headline ones only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def compare(name: str, versions: str | None, everything: bool, as_json: bool) -> None:
    """Compare the versions of NAME: what differs, how they score, the best in bold."""
    from conceptry.evaluation.reports import comparison_records, comparison_table
    from conceptry.registry import compare as compare_versions

    comparison = compare_versions(name, _numbers(versions))
    if as_json:
        print(json.dumps(comparison_records(comparison), indent=2))
        return
    console.print(comparison_table(comparison, everything))
    if missing := [f"v{v.version}" for v in comparison.versions if not v.metrics]:
        console.print(f"not evaluated yet: {', '.join(missing)} (conceptry evaluate {name}/{missing[0][1:]})")


@cli.command()
@click.argument("name")
@click.argument("version", type=int)
@click.option("--alias", default="champion", show_default=True, help="The alias to move.")
@click.option("--require", multiple=True, metavar="METRIC>=NUMBER", help="A bound to meet; may be repeated.")
def promote(name: str, version: int, alias: str, require: tuple[str, ...]) -> None:
    """Point an alias of NAME at VERSION if it meets every requirement, and record it."""
    from conceptry.registry import Requirement
    from conceptry.registry import promote as promote_version

    promotion = promote_version(name, version, alias, [Requirement.parse(text) for text in require])
    if promotion is None:
        console.print(f"nothing to do: {alias} is models:/{name}/{version} already")
    else:
        before = f", before: version {promotion.previous}" if promotion.previous else ""
        console.print(f"{alias} is now models:/{name}/{version} ({promotion.rule}{before})")


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
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--params", default="{}", help='Parameters of the method as JSON, as {"top_k": 5}.')
@click.option("--output", type=click.Path(path_type=Path), help="Save a picture (.png, .svg or .pdf).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:INDEX.")
def explain(uri: str, files: tuple[Path, ...], params: str, output: Path | None, as_json: bool, device: str) -> None:
    """Explain FILES with a version, as the server would."""
    from conceptry.evaluation.harness import harness_of
    from conceptry.evaluation.process import VersionProcess
    from conceptry.registry import find_version

    given = _json_object(params, "--params")
    if output and output.suffix not in (".png", ".svg", ".pdf"):
        raise InputError(f"--output must end in .png, .svg or .pdf, got {output}")
    version = find_version(uri)
    harness = harness_of(version.method)
    harness.check_files(list(files))
    with VersionProcess(version.uri, device) as predict:
        records, figure = harness.explain(predict, list(files), given)
    if as_json:
        print(json.dumps(records, indent=2))
    else:
        console.print(harness.describe(records))
    if output:
        figure.savefig(output)
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

    console.print(train_command(output, steps=steps, seed=seed, small=small))


@cli.command()
@click.argument("name", type=click.Choice(METHODS))
@click.option(
    "--dictionary",
    type=click.Path(path_type=Path),
    help="An .npz with `dictionary` and `targets`. [default: generated]",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write records and targets as JSON.")
@click.option("--quick", is_flag=True, help="Fewer repeats and sizes.")
def benchmark(name: str, dictionary: Path | None, json_file: Path | None, quick: bool) -> None:
    """Measure the speed of a method beside other implementations, in one run."""
    import importlib

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
    """Register, evaluate, compare and promote a handful of versions, and explain two pictures."""
    from conceptry.evaluation.demo import run

    run(output, size, console)


def _numbers(text: str | None) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise InputError(f"--versions takes numbers separated by commas, got {text!r}") from None


def _json_object(text: str, option: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{option} must be JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f'{option} must be a JSON object as {{"top_k": 5}}, got {text}')
    return value


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
        errors.print("interrupted; nothing half done is kept")
        sys.exit(130)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        errors.print(f"conceptry: {error.format_message()}", markup=False)
        sys.exit(2)
    except InputError as error:
        errors.print(f"conceptry: {error}", markup=False)
        sys.exit(2)
    except ConceptryError as error:
        errors.print(f"conceptry: {error}", markup=False)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:  # the store is out of reach, the disk is full, or a bug: one line all the same
        if os.environ.get("CONCEPTRY_DEBUG"):
            raise
        line = (str(error).strip().splitlines() or [""])[0]
        errors.print(f"conceptry: {type(error).__name__}: {line} (CONCEPTRY_DEBUG=1 shows where)", markup=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
