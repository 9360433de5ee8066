"""The `conceptry` command. Errors are one line on standard error; exit code 2 for misuse, 1 for a refusal."""

import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from conceptry.evaluation.cli.ablate import analyse, edit
from conceptry.evaluation.cli.audit import audit
from conceptry.evaluation.cli.describe import describe
from conceptry.evaluation.cli.evaluate import drift, evaluate, probe, summarise
from conceptry.evaluation.cli.exemplars import exemplars
from conceptry.evaluation.cli.explain import batch, explain
from conceptry.evaluation.cli.options import Flag, NamedArgument, check_folder, console, errors, group
from conceptry.evaluation.cli.registry import compare, gc, list_command, promote, register, show, verify
from conceptry.evaluation.cli.serve import serve
from conceptry.evaluation.cli.train import convert, train
from conceptry.evaluation.cli.ui import ui
from conceptry.evaluation.isolation.launcher import ahead
from conceptry.evaluation.terminal import LogFormatter
from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.folders import take_temporary_folder
from conceptry.models.memory import collect_rarely, keep_freed_memory
from conceptry.models.method import METHODS


@group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True},
    epilog="Option names may have underscores, and flags a value (--json false): so `mlflow run` passes them.",
)
@click.option(
    "--tracking-uri",
    metavar="URI",
    help="MLflow store. [default: MLFLOW_TRACKING_URI, or ./mlflow.db]",
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


OTHER_BENCHMARKS = ("batch", "encoders", "serving", "startup", "kills", "drift", "faithfulness")


@cli.command()
@click.argument("name", type=click.Choice((*METHODS, *OTHER_BENCHMARKS)))
@click.option(
    "--dictionary",
    type=click.Path(path_type=Path),
    help="splice: .npz file with `dictionary` and `targets`. [default: generated]",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write records and targets as JSON.")
@click.option("--quick", cls=Flag, help="Run fewer repeats and sizes.")
@click.option("--kills", type=click.IntRange(min=1), help="kills, batch: number of commands to kill. [default: 100]")
@click.option(
    "--resume",
    type=click.Path(path_type=Path, dir_okay=False),
    help="harsanyi: file that each part is kept in once measured; the same command goes on from there.",
)
def benchmark(
    name: str, dictionary: Path | None, json_file: Path | None, quick: bool, kills: int | None, resume: Path | None
) -> None:
    """Measure the speed of a method beside others, what a batch over a data set costs, how soon versions answer, what
    servers take, what kills leave, how often drift is seen, scores of faithfulness, or which architectures of open_clip
    work."""
    import importlib

    check_folder(json_file, "--json")
    check_folder(resume, "--resume")
    if resume and name != "harsanyi":
        raise InputError(f"--resume is for conceptry benchmark harsanyi, got it for {name}")
    if kills and name not in ("kills", "batch"):
        raise InputError(f"--kills is for conceptry benchmark kills and batch, got it for {name}")
    how: dict[str, Any] = {"kills": kills} if kills else {"resume": resume} if resume else {}
    module = importlib.import_module(f"conceptry.evaluation.benchmarks.{name}")
    result = module.run(dictionary=dictionary, quick=quick, progress=lambda what: errors.print(what), **how)
    result.print(console)
    if json_file:
        json_file.write_text(result.to_json(), encoding="utf-8")


@cli.command()
@click.argument("methods", nargs=-1, type=click.Choice((*METHODS, "photos")), cls=NamedArgument, option="--method")
@click.option("--output", default="conceptry-demo", type=click.Path(path_type=Path), help="Folder for the figures.")
@click.option("--size", default=256, type=int, help="Number of held-out images to evaluate on.")
def demo(methods: tuple[str, ...], output: Path, size: int) -> None:
    """Register, evaluate, compare and promote versions of each method, or of METHODS, and explain samples.

    `conceptry demo photos` explains photographs by all four methods; it needs the extra photos.
    """
    ahead()
    asked = list(dict.fromkeys(methods)) or list(METHODS)
    if chosen := [method for method in asked if method in METHODS]:
        from conceptry.evaluation.demo import run

        run(output, size, console, chosen)
    if "photos" in asked:
        from conceptry.evaluation.photos import demo as photos

        photos.run(output, console)


for _command in (
    register,
    evaluate,
    compare,
    promote,
    list_command,
    show,
    verify,
    serve,
    gc,
    explain,
    batch,
    summarise,
    probe,
    drift,
    train,
    exemplars,
    describe,
    audit,
    analyse,
    edit,
    convert,
    ui,
):
    cli.add_command(_command)


def _quiet_libraries() -> None:
    """Keep other libraries' progress notes off the terminal, and MLflow's usage data on this machine.

    Warnings and errors stay.

    MLflow reads these variables when it is imported, which happens after this.
    """
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing leaves the machine that nobody asked for
    for name in ("alembic", "onnxscript", "onnx_ir", "torch.onnx", "root"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # It logs with a trace what it raises, which `main` puts in a sentence.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    warnings.showwarning = lambda message, *_, **__: errors.print(f"note: {message}", style="dim")


def main(arguments: list[str] | None = None, command: Callable[..., Any] = cli) -> None:
    """Run the command line; exits with 0, 1 (refused) or 2 (misuse)."""
    _quiet_libraries()
    if arguments is None:  # the process is this command's own
        take_temporary_folder()
    keep_freed_memory()
    collect_rarely()
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
        from conceptry.registry.store import refusal

        line = (str(error).strip().splitlines() or [""])[0]
        known = refusal(error) or f"{type(error).__name__}: {line} (CONCEPTRY_DEBUG=1 shows where)"
        errors.print(f"conceptry: {known}")
        sys.exit(1)


if __name__ == "__main__":
    main()
