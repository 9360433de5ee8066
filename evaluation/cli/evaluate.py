"""`conceptry evaluate`, `probe`, `summarise` and `drift`: a version over data sets."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from conceptry.evaluation.cli.options import (
    Flag,
    check_image,
    command,
    console,
    device_option,
    errors,
    say,
    say_device,
    seed_option,
    size_option,
    suppress_option,
)
from conceptry.evaluation.isolation.launcher import ahead
from conceptry.models.errors import InputError

if TYPE_CHECKING:
    from conceptry.evaluation.comparison.summaries import Side
    from conceptry.models.method import Progress

_DATA = (
    "Data set. splice: zoo:emoji-scenes, zoo:emoji-spurious, folder:PATH, csv:PATH, cifar10:, cifar100:, imagenet:, "
    "celeba:, waterbirds: or coco:ROOT (ROOT#train: its training images); "
    "harsanyi: zoo:NAME; csv:, texts:, folder: or npy:PATH; census:, commercial:, bike:, sst2: or cola:FOLDER; "
    "perturbation: zoo:digits-16, zoo:digits, folder:PATH or csv:PATH; "
    "milan: zoo:emoji-units, milannotations:ROOT#KEY, units:own, or folder:PATH to score these on."
)


@command()
@click.argument("uri")
@click.option("--data", help=f"{_DATA} [default: what suits the version]")
@size_option
@seed_option
@device_option
@click.option(
    "--metrics",
    metavar="GROUPS",
    help="Comma-separated groups of metrics, or all; an unknown name lists them. [default: the quick ones]",
)
@click.option("--missing", cls=Flag, help="Measure only groups that have not been measured yet.")
@click.option("--encoder", help="milan: dual encoder that says what pictures show. [default: the version's own]")
@suppress_option
@click.option("--json", "as_json", cls=Flag, help="Print JSON instead of a table.")
def evaluate(
    uri: str,
    data: str | None,
    size: int | None,
    seed: int,
    device: str,
    metrics: str | None,
    missing: bool,
    encoder: str | None,
    suppress: tuple[str, ...],
    as_json: bool,
) -> None:
    """Evaluate a version on held-out data, and log metrics, tables and figures to it.

    URI is NAME/NUMBER or NAME@ALIAS, with or without models:/ in front.
    """
    ahead()
    from conceptry.evaluation.comparison.compared import ComparedVersions
    from conceptry.evaluation.harness import evaluate as evaluate_version
    from conceptry.evaluation.harness import evaluation_of
    from conceptry.evaluation.progress import bar
    from conceptry.evaluation.tables import comparison_records, comparison_table
    from conceptry.registry import find_version
    from conceptry.registry.comparison import on_data

    groups, method = None, find_version(uri).method if metrics is not None or suppress or encoder else ""
    if suppress:
        data = _without(method, data, suppress)
    if encoder is not None:
        data = _seen_by(method, data, encoder)
    if metrics is not None:
        every = evaluation_of(method).groups
        groups = list(every) if metrics.strip() == "all" else [name.strip() for name in metrics.split(",")]
    with bar(uri) as progress:
        done = evaluate_version(
            uri, data, size=size, seed=seed, device=device, groups=groups, missing=missing, progress=progress
        )
    version = done.version
    if done.groups:
        say_device(done.device)
    comparison = on_data((version,), done.data.logged_name, done.data.logged_digest)
    compared = ComparedVersions.read(comparison)
    if as_json:
        (record,) = comparison_records(comparison, compared=compared)
        shown = {name: record[name] for name in ("name", "version", "data", "metrics", "scores")}
        about = {"digest": done.data.digest, "count": len(done.data), "unit": done.data.unit, "run": version.run_id}
        print(json.dumps(shown | about | {"measured": done.groups, "notes": done.report.notes}, indent=2))
        return
    for note in done.report.notes:
        say(f"note: {note}", style="dim")
    console.print(comparison_table(comparison, everything=True, compared=compared))
    if not done.groups:
        say(f"nothing to measure: {version.uri} has these metrics on {done.data.name} already")
        return
    say(f"{len(done.data)} {done.data.unit} of {done.data.name}; logged to {version.uri} and its run {version.run_id}")


def _without(method: str, data: str | None, words: tuple[str, ...]) -> str:
    """Name of the data of which `words` are suppressed in every answer."""
    from conceptry.evaluation.splice.data import without

    if method != "splice":
        raise InputError(f"only answers of splice versions have words, and this one is of {method}")
    return without(data or "", words)


def _seen_by(method: str, data: str | None, encoder: str) -> str:
    """Name of the data of which `encoder` says what pictures show."""
    from conceptry.evaluation.milan.data import seen_by

    if method != "milan":
        raise InputError(f"--encoder is of descriptions of units, and this version is of {method}; leave it out")
    return seen_by(data, encoder)


@command()
@click.argument("uri")
@click.option("--data", required=True, help="Labelled pictures to measure on, by a name that `evaluate` takes.")
@click.option("--train", help="Labelled pictures to train on. [default: 70 % of --data, which are left out there]")
@suppress_option
@click.option(
    "--edit", multiple=True, metavar="WORD", help="Take this word away from the fitted probe; may be repeated."
)
@click.option("--output", type=click.Path(path_type=Path), help="Save the curve: .png, .svg, .pdf or .json.")
@click.option("--json", "as_json", cls=Flag, help="Print JSON instead of text.")
@size_option
@seed_option
@device_option
def probe(
    uri: str,
    data: str,
    train: str | None,
    suppress: tuple[str, ...],
    edit: tuple[str, ...],
    output: Path | None,
    as_json: bool,
    size: int | None,
    seed: int,
    device: str,
) -> None:
    """Tell classes apart by the weights of words: a concept bottleneck, for splice versions.

    A sparse linear probe is trained on the words of labelled pictures and measured on others, beside probes over whole
    embeddings. --suppress fits it without a word; --edit takes a word from it once it is fitted. Logged to the version.
    """
    ahead()
    from conceptry.evaluation.progress import bar
    from conceptry.evaluation.splice.plots import draw_probe
    from conceptry.evaluation.splice.probe import log_probe
    from conceptry.evaluation.splice.summary import describe_probe
    from conceptry.registry import find_version

    check_image(output, (".png", ".svg", ".pdf", ".json"))
    version = find_version(uri)
    measured = _without(version.method, data, suppress)
    trained = _without(version.method, train, suppress) if train else None
    with bar(uri) as progress:
        record = log_probe(version, measured, trained, edit, size, seed, device, progress)
    if as_json:
        print(json.dumps(record, indent=2))
    else:
        console.print(describe_probe(record))
    if output and output.suffix == ".json":
        output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    elif output:
        draw_probe(record).savefig(output)
    if output:
        errors.print(f"saved {output}")


@command()
@click.argument("uri")
@click.option("--data", required=True, help=_DATA)
@click.option("--label", help="Restrict to one class of the data; milan: to a layer. [default: all]")
@click.option(
    "--beside",
    multiple=True,
    metavar="TEXT",
    help="Another class, other data (with a colon) or another version to put beside it; may be repeated.",
)
@click.option("--concept", help="splice, with --output: draw how the weights of this word are spread over pictures.")
@click.option("--top", type=click.IntRange(min=1), default=20, help="Number of words, patterns or classes to show.")
@click.option("--output", type=click.Path(path_type=Path), help="Save it: .png, .svg, .pdf, .txt, .csv, .json.")
@click.option("--json", "as_json", cls=Flag, help="Print JSON instead of text.")
@size_option
@seed_option
@device_option
def summarise(
    uri: str,
    data: str,
    label: str | None,
    beside: tuple[str, ...],
    concept: str | None,
    top: int,
    output: Path | None,
    as_json: bool,
    size: int | None,
    seed: int,
    device: str,
) -> None:
    """Summarise the concepts that a data set, or one class of it, consists of.

    splice: words, with their mean weight over the images and the share of images that have them. harsanyi: patterns,
    with their mean strength and the share of samples that keep them. perturbation: the other classes, with the share
    of pixels that the sparsest change toward them takes. milan: words, with the number of units described by them.
    --size limits the data before the class is selected.
    """
    ahead()
    from conceptry.evaluation.comparison.summaries import (
        Side,
        describe_beside,
        draw_beside,
        draw_histograms,
        sides_of,
        titles_of,
    )
    from conceptry.evaluation.harness import evaluation_of
    from conceptry.evaluation.progress import bar
    from conceptry.evaluation.tables import DATA_SUFFIXES, save_summary
    from conceptry.registry import find_version

    drawn = (".png", ".svg", ".pdf")
    check_image(output, (*drawn, *(() if concept else (".json",) if beside else DATA_SUFFIXES)))
    if concept and output is None:
        raise InputError("--concept draws a figure; name its file by --output")
    sides = sides_of(Side(find_version(uri), data, label), beside)
    evaluation = evaluation_of(sides[0].version.method)
    with bar(uri) as progress:
        found = dict(zip(titles_of(sides), _summaries(sides, size, seed, device, progress), strict=True))
    shown = {title: record | {"concepts": record["concepts"][:top]} for title, record in found.items()}
    (first, *_), method = shown.values(), sides[0].version.method
    if as_json:
        print(json.dumps(list(shown.values()) if beside else first, indent=2))
    else:
        console.print(describe_beside(found, method, top) if beside else evaluation.describe_summary(first))
    if output and concept:
        draw_histograms(found, concept).savefig(output)
    elif output and beside and output.suffix == ".json":
        output.write_text(json.dumps(list(shown.values()), indent=2) + "\n", encoding="utf-8")
    elif output and beside:
        draw_beside(found, method, top).savefig(output)
    elif output:
        save_summary(evaluation, first, output)
    if output:
        errors.print(f"saved {output}")


def _summaries(sides: "Sequence[Side]", size: int | None, seed: int, device: str, progress: "Progress") -> list[dict]:
    """The summary of each side; sides of one version share its process."""
    from conceptry.evaluation.harness import evaluation_of
    from conceptry.evaluation.isolation.client import VersionProcess

    data = []
    for side in sides:
        progress("reading data", 0.0)
        evaluation = evaluation_of(side.version.method)
        known = evaluation.load_data(side.data, evaluation.known_of(side.version), size, seed)
        known.check_label(side.label)
        data.append(known)
    records: list[dict] = [{} for _ in sides]
    for uri in dict.fromkeys(side.version.uri for side in sides):
        progress("loading the version", 0.0)
        with VersionProcess(uri, device) as predict:
            say_device(predict.device_in_use)
            for k, side in enumerate(sides):
                if side.version.uri == uri:
                    records[k] = evaluation_of(side.version.method).summarise(predict, data[k], side.label, progress)
    return records


DRIFTED = 3  # exit code


@command()
@click.argument("before")
@click.argument("after")
@click.option(
    "--version", "uri", metavar="URI", help="Ask this version about BEFORE and AFTER, which are data sets then."
)
@click.option("--alpha", type=float, default=0.05, help="Chance that anything is called drift where nothing is.")
@click.option("--least-share", type=float, default=0.02, help="Changes of a share below this are not drift.")
@click.option(
    "--least-effect", type=float, default=0.1, help="Changes of a mean weight below so many deviations are not drift."
)
@click.option("--top", type=click.IntRange(min=1), default=20, help="Number of concepts to show.")
@click.option("--output", type=click.Path(path_type=Path), help="Save it: .png, .svg, .pdf, .csv, .json.")
@click.option("--json", "as_json", cls=Flag, help="Print JSON instead of text.")
@size_option
@seed_option
@device_option
def drift(
    before: str,
    after: str,
    uri: str | None,
    alpha: float,
    least_share: float,
    least_effect: float,
    top: int,
    output: Path | None,
    as_json: bool,
    size: int | None,
    seed: int,
    device: str,
) -> None:
    """Say which concepts have drifted between two data sets; exit with code 3 where any has.

    BEFORE and AFTER are folders that `conceptry batch` has written, or, with --version, data that `evaluate` takes.
    Words of splice and patterns of harsanyi are compared one by one, by share and by mean weight, with intervals, and
    p-values that are corrected for the number of tests. Logged to a run of conceptry/drift.
    """
    if uri:
        ahead()
    elif size is not None:
        raise InputError("--size limits data that a version is asked about; name the version by --version")
    from conceptry.evaluation.drift.ask import find_drift
    from conceptry.evaluation.drift.comparison import Rule
    from conceptry.evaluation.drift.report import describe, log, save
    from conceptry.evaluation.progress import bar

    check_image(output, (".png", ".svg", ".pdf", ".csv", ".json"))
    rule = Rule(alpha, least_share, least_effect)
    with bar("drift") as progress:
        found = find_drift(before, after, uri, rule, size=size, seed=seed, device=device, progress=progress)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        console.print(describe(found, top))
    if output:
        save(found, output)
        errors.print(f"saved {output}")
    errors.print(f"logged to the run {log(found)}", style="dim")
    if found.concepts:
        sys.exit(DRIFTED)
