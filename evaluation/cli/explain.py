"""`conceptry explain`: what a version says of files, or of units."""

from pathlib import Path
from typing import Any

import click

from conceptry.evaluation.cli.options import (
    Optional,
    check_params,
    check_picture,
    console,
    device_option,
    errors,
    json_option,
    say_device,
)
from conceptry.evaluation.isolation.launcher import ahead
from conceptry.models.errors import InputError


@click.command()
@click.argument("uri")
@click.argument("files", nargs=-1)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="CLASS",
    help="Class to explain by or go toward; milan: LAYER:UNIT, LAYER:FIRST-LAST or LAYER; may be repeated.",
)
@json_option("--params", 'Parameters of the method as JSON, as {"top_k": 5}.')
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
@json_option("--style", 'Of a graph, as JSON: {"highlight": "top 20%", "colours": "reversed"}.')
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@device_option
def explain(
    uri: str,
    files: tuple[str, ...],
    targets: tuple[str, ...],
    params: dict[str, Any],
    output: Path | None,
    beside: str | None,
    view: str | None,
    style: dict[str, Any],
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
    ahead()
    from conceptry.evaluation.drawing.style import check_style
    from conceptry.evaluation.isolation.client import VersionProcess
    from conceptry.evaluation.presenter import check_beside, presenter_of, version_title
    from conceptry.evaluation.progress import bar
    from conceptry.registry import find_version

    # An entry point of MLproject says "none" by an empty text.
    named, paths = [name for name in targets if name], [Path(file) for file in files if file]
    if named and "target" in params:
        raise InputError("the target is given twice: by --target and in --params")
    versions = [find_version(name) for name in (uri, beside) if name]
    version = versions[0]
    presenter = presenter_of(version.method)
    check_beside(versions)
    for each in versions:
        check_params(each.uri, params)
    check_picture(output, presenter.suffixes)
    check_style(version.method, view, presenter.views, style, presenter.styles)
    request = presenter.check_request(paths, named, version.params)
    records: list[dict] = []
    for each in versions:
        with bar(each.uri) as progress, VersionProcess(each.uri, device) as predict:
            say_device(predict.device_in_use)
            predict.on_progress = progress
            found = presenter.records(predict, request, params)
        records += found if beside is None else [record | {"version": version_title(each)} for record in found]
    if as_json:
        print(presenter.to_json(records))
    else:
        console.print(presenter.describe(records))
    if output:
        for file in presenter.save(records, output, view, style):
            errors.print(f"saved {file}")
