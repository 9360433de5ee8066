"""`conceptry evaluate` and `summarise`: a version over a data set."""

import json
from pathlib import Path

import click

from conceptry.evaluation.cli.options import (
    Optional,
    check_picture,
    console,
    device_option,
    errors,
    say,
    say_device,
    seed_option,
    size_option,
)
from conceptry.evaluation.isolation.launcher import ahead

_DATA = (
    "splice: zoo:emoji-scenes, folder:PATH or csv:PATH; harsanyi: zoo:NAME, csv:, texts:, folder: or npy:PATH, or "
    "census:, commercial:, bike:, sst2:, cola: and a folder; perturbation: zoo:digits-16, zoo:digits, "
    "folder:PATH or csv:PATH; milan: zoo:emoji-units, milannotations:ROOT#KEY or units:own."
)


@click.command()
@click.argument("uri")
@click.option("--data", type=Optional(str), help=f"{_DATA} [default: what suits the version]")
@size_option
@seed_option
@device_option
def evaluate(uri: str, data: str | None, size: int | None, seed: int, device: str) -> None:
    """Evaluate a version on held-out data; log metrics, tables and plots to it.

    URI is NAME/NUMBER, NAME@ALIAS, or either with models:/ in front.
    """
    ahead()
    from conceptry.evaluation.harness import evaluate as evaluate_version
    from conceptry.evaluation.progress import bar
    from conceptry.evaluation.tables import comparison_table
    from conceptry.registry.comparison import on_shared_data

    with bar(uri) as progress:
        done = evaluate_version(uri, data, size=size, seed=seed, device=device, progress=progress)
    version = done.version
    say_device(done.device)
    for note in done.report.notes:
        say(f"note: {note}", style="dim")
    console.print(comparison_table(on_shared_data((version,), ()), everything=True))
    say(f"{len(done.data)} {done.data.unit} of {done.data.name}; logged to {version.uri} and its run {version.run_id}")


@click.command()
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
    ahead()
    from conceptry.evaluation.harness import evaluation_of
    from conceptry.evaluation.isolation.client import VersionProcess
    from conceptry.evaluation.progress import bar
    from conceptry.registry import find_version

    check_picture(output)
    version = find_version(uri)
    evaluation = evaluation_of(version.method)
    with bar(uri) as progress:
        progress("reading data", 0.0)
        known = evaluation.load_data(data, version.params, size, seed)
        known.check_label(label)
        progress("loading the version", 0.0)
        with VersionProcess(version.uri, device) as predict:
            say_device(predict.device_in_use)
            record = evaluation.summarise(predict, known, label, progress)
    record["concepts"] = record["concepts"][:top]
    if as_json:
        print(json.dumps(record, indent=2))
    else:
        console.print(evaluation.describe_summary(record))
    if output:
        evaluation.draw_summary(record).savefig(output)
        errors.print(f"saved {output}")
