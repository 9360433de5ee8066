"""`conceptry explain`: what a version says about files, or about units. `conceptry batch`: about a whole data set."""

import json
from pathlib import Path
from typing import Any

import click

from conceptry.evaluation.batch import FORMATS, INPUT_FORMATS
from conceptry.evaluation.batch.settings import BATCH_ROWS, MAX_BYTES
from conceptry.evaluation.cli.options import (
    Flag,
    NamedArgument,
    check_image,
    check_params,
    command,
    console,
    device_option,
    errors,
    json_option,
    say,
    say_device,
)
from conceptry.evaluation.isolation.launcher import ahead
from conceptry.models.errors import InputError


@command()
@click.argument("uri")
@click.argument("files", nargs=-1, cls=NamedArgument, option="--file")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="CLASS",
    help="Class to explain or to move toward; milan: LAYER:UNIT, LAYER:FIRST-LAST or LAYER; may be repeated.",
)
@json_option("--params", 'Parameters of the method, e.g. {"top_k": 5}.')
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Save a figure: .png, .svg or .pdf; splice: also .txt, .csv, .json; harsanyi: .html; milan: .csv.",
)
@click.option(
    "--beside",
    multiple=True,
    metavar="URI",
    help="perturbation, milan: another version to draw in the same figure; may be repeated.",
)
@click.option(
    "--view",
    type=str,
    help="Kind of figure. harsanyi: graph, patterns or explanation; perturbation: grid, path or results.",
)
@json_option("--style", 'harsanyi: style of the graph, e.g. {"highlight": "top 20%", "colours": "reversed"}.')
@click.option("--json", "as_json", cls=Flag, help="Print JSON instead of text.")
@device_option
def explain(
    uri: str,
    files: tuple[str, ...],
    targets: tuple[str, ...],
    params: dict[str, Any],
    output: Path | None,
    beside: tuple[str, ...],
    view: str | None,
    style: dict[str, Any],
    as_json: bool,
    device: str,
) -> None:
    """Explain FILES with a version, as the server would.

    splice takes images, and texts in quotes. harsanyi takes what its model takes: tables (.csv), texts (.txt, one per
    line), images or point clouds (.npy), and one --target. perturbation takes images, or tables (.csv) with the
    columns image, target and source; without FILES it shows what its network has learned about each --target, or about
    its first 20 classes. milan takes units of its network: each --target, or tables (.csv) with the columns layer and
    unit; given more than 20 units, or none, it draws the 8 that it describes most clearly.
    """
    ahead()
    from conceptry.evaluation.drawing.style import check_style
    from conceptry.evaluation.harness import evaluation_of
    from conceptry.evaluation.isolation.client import VersionProcess
    from conceptry.evaluation.presenter import check_beside, presenter_of, version_titles
    from conceptry.evaluation.progress import bar
    from conceptry.registry import find_version

    paths = [Path(file) for file in files]
    if targets and "target" in params:
        raise InputError("the target is given twice: by --target and in --params")
    versions = [find_version(name) for name in (uri, *beside)]
    version = versions[0]
    presenter = presenter_of(version.method)
    check_beside(versions)
    for each in versions:
        check_params(each.uri, params)
    check_image(output, presenter.suffixes)
    check_style(version.method, view, presenter.views, style, presenter.styles)
    request = presenter.check_request(paths, targets, evaluation_of(version.method).known_of(version))
    records: list[dict] = []
    for each, title in zip(versions, version_titles(versions), strict=True):
        with bar(each.uri) as progress, VersionProcess(each.uri, device) as predict:
            say_device(predict.device_in_use)
            predict.on_progress = progress
            found = presenter.records(predict, request, params)
        records += [record | {"version": title} for record in found] if beside else found
    if as_json:
        print(presenter.to_json(records))
    else:
        console.print(presenter.describe(records))
    if output:
        for file in presenter.save(records, output, view, style):
            errors.print(f"saved {file}")


@command()
@click.argument("uri")
@click.argument("source", metavar="INPUT")
@click.option("--output", required=True, help="Folder for the answers, here or where Spark writes.")
@click.option(
    "--format",
    default=FORMATS[0],
    type=click.Choice(FORMATS),
    help="Format of the files; json writes one object a line.",
)
@click.option("--input-format", type=click.Choice(INPUT_FORMATS), help="Format of INPUT. [default: by its name]")
@click.option(
    "--id", "id_column", metavar="COLUMN", help="What tells rows apart. [default: id, or a digest of the row]"
)
@json_option("--params", 'Parameters of the method, e.g. {"top_k": 5}.')
@click.option("--master", default="local[2]", help="Spark master: local[CORES], yarn, k8s://..., spark://...")
@click.option("--max-error-share", default=1.0, type=float, help="Share of refused rows beyond which it ends.")
@click.option("--batch-rows", default=BATCH_ROWS, type=int, help="Rows of a request to the version.")
@click.option("--part-rows", type=int, help="Rows of a task. [default: 500 pictures, 5000 rows of a table]")
@click.option("--max-bytes", default=MAX_BYTES, type=int, help="Bytes of a picture's file; a larger one is not read.")
@click.option("--json", "as_json", cls=Flag, help="Print JSON instead of text.")
@device_option
def batch(uri: str, source: str, output: str, master: str, as_json: bool, **settings: Any) -> None:
    """Explain all of INPUT with a version: a folder of pictures, or a .parquet, .csv or .jsonl table.

    The answers have the columns id, those of INPUT, those of the answer, error, version and fingerprint. A row that the
    version refuses has null answers and a sentence in `error`. What the output has already is left alone, so that a run
    that was killed goes on, and an input that has grown costs its new rows.
    """
    from dataclasses import asdict

    from conceptry.evaluation.batch.job import Settings, explain
    from conceptry.evaluation.progress import bar

    with bar(f"{uri} over {source}") as progress:
        done = explain(uri, source, output, master=master, settings=Settings(**settings), progress=progress)
    if as_json:
        print(json.dumps(asdict(done), indent=2))
        return
    rate = f", {done.answered / done.seconds:,.3g} rows/s" if done.answered else ""
    say(f"{done.version}: {done.answered:,} rows answered, {done.there:,} there before, {done.errors:,} refused{rate}")
    for found in done.sentences[:10]:
        errors.print(f"{found['rows']:,} x {found['error']} (for example {found['for example']})")
    if len(done.sentences) > 10:
        errors.print(f"and {len(done.sentences) - 10} more kinds, in errors.json of run {done.run_id}")
    console.print(f"answers in {output}, run {done.run_id}", markup=False)
