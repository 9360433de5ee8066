"""`conceptry audit`: which units of a network, or of two, are described by given words."""

import json
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from conceptry.evaluation.cli.options import (
    Flag,
    check_image,
    check_params,
    command,
    console,
    device_option,
    errors,
    say,
    search_params_option,
)
from conceptry.evaluation.isolation.launcher import ahead
from conceptry.models.errors import InputError

_SUFFIXES = (".html", ".csv", ".png", ".svg", ".pdf")


@command()
@click.argument("uri")
@click.option("--beside", metavar="URI", help="A second network to compare counts with.")
@click.option("--words", help="Comma-separated words or phrases to look for.")
@click.option("--words-file", type=click.Path(path_type=Path), help="Text file of words or phrases, one per line.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Save a page (.html), table (.csv) or figure (.png, .svg, .pdf).",
)
@search_params_option
@click.option("--json", "as_json", cls=Flag, help="Print JSON instead of text.")
@device_option
def audit(
    uri: str,
    beside: str | None,
    words: str | None,
    words_file: Path | None,
    output: Path | None,
    params: dict[str, Any],
    as_json: bool,
    device: str,
) -> None:
    """Find the units of a network whose descriptions contain any of the --words.

    URI is a registered milan version, a folder written by `conceptry describe`, or a table (.csv) with the columns
    layer, unit and description. Words match as a whole, in the singular or the plural.
    """
    if not all(Path(name).exists() for name in (uri, beside) if name):
        ahead()
    from conceptry.evaluation.units.audit import unknown_words
    from conceptry.models.milan.words import read_words, split_words

    if (words is None) == (words_file is None):
        raise InputError("expected either --words such as red,blue, or --words-file")
    wanted = split_words(words) if words is not None else read_words(words_file or "")
    check_image(output, _SUFFIXES)
    images = output is not None and output.suffix != ".csv"
    audits = [_audit(name, wanted, params, device, images) for name in (uri, beside) if name]
    if as_json:
        print(json.dumps([_record(each, wanted) for each in audits], indent=2))
    else:
        console.print(_table(audits))
        for word, near in unknown_words(audits, wanted).items():
            say(f"no description contains {word}" + (f"; similar: {', '.join(near)}" if near else ""), style="dim")
    if output:
        _save(audits, wanted, output)
        errors.print(f"saved {output}")


def _audit(name: str, words: tuple[str, ...], params: dict[str, Any], device: str, images: bool) -> Any:
    from conceptry.evaluation.units.audit import audit_folder, audit_version
    from conceptry.evaluation.units.records import expect_version

    if Path(name).exists():
        return audit_folder(Path(name), words, params, images)
    expect_version(name)
    from conceptry.evaluation.isolation.client import VersionProcess
    from conceptry.evaluation.progress import bar
    from conceptry.registry import find_version

    version = find_version(name)
    check_params(version.uri, params)
    with bar(version.uri) as progress, VersionProcess(version.uri, device) as predict:
        predict.on_progress = progress
        return audit_version(predict, version, words, params, images)


def _table(audits: list[Any]) -> Table:
    from conceptry.evaluation.units.html.audit import layers_of

    table = Table("layer", box=None, header_style="bold", pad_edge=False)
    for each in audits:
        table.add_column(escape(each.title), justify="right")
        table.add_column("share", justify="right")
    for layer in [*layers_of(audits), None]:
        cells = []
        for each in audits:
            total = sum(each.units.values()) if layer is None else each.units.get(layer, 0)
            cells += [f"{each.count(layer):,} of {total:,}", f"{each.share(layer):.1%}"] if total else ["", ""]
        table.add_row("all" if layer is None else escape(layer), *cells, style="bold" if layer is None else None)
    return table


def _record(audit: Any, words: tuple[str, ...]) -> dict[str, Any]:
    return {
        "audited": audit.title,
        "layers": {layer: {"units": n, "matches": audit.count(layer)} for layer, n in audit.units.items()},
        "words": {word: audit.count(word=word) for word in words},
        "matches": [
            {"layer": m.unit.layer, "unit": m.unit.unit, "description": m.unit.description, "words": list(m.words)}
            for m in audit.matches
        ],
    }


def _save(audits: list[Any], words: tuple[str, ...], output: Path) -> None:
    from conceptry.evaluation.drawing import html
    from conceptry.evaluation.units.audit import write_matches
    from conceptry.evaluation.units.html.audit import audit_page

    if output.suffix == ".csv":
        write_matches(audits, output)
    elif output.suffix == ".html":
        html.write(audit_page(audits, words), output)
    else:
        from conceptry.evaluation.units.plots import draw_audit

        draw_audit(audits, words).savefig(output)
