"""`conceptry describe`: all units of a network in words, as a table and as pages."""

from pathlib import Path
from typing import Any

import click

from conceptry.evaluation.console import (
    Optional,
    check_params,
    device_option,
    errors,
    only_layers_option,
    say,
    say_device,
    search_params_option,
)
from conceptry.evaluation.launch import ahead
from conceptry.models.errors import InputError


@click.command()
@click.argument("uri", required=False)
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder to write, or to go on with.")
@only_layers_option
@search_params_option
@click.option("--describer", type=Optional(str), help="Instead of a version: zoo:emoji-milan or describer:FOLDER.")
@click.option(
    "--exemplars",
    type=Optional(click.Path(path_type=Path)),
    help="With --describer: the results of `conceptry exemplars`, RESULTS/MODEL/DATA.",
)
@device_option
def describe(
    uri: str | None,
    output: Path,
    layers: list[str],
    params: dict[str, Any],
    describer: str | None,
    exemplars: Path | None,
    device: str,
) -> None:
    """Describe every unit of a network in words.

    URI is a registered version of milan; without it, --describer describes the units in --exemplars. Writes
    descriptions.csv, a page for each layer and index.html. A run that was ended goes on where it was.
    """
    if uri:
        ahead()
    from conceptry.evaluation.milan.describing import describe_network
    from conceptry.evaluation.milan.unit_sources import exemplars_source, version_source
    from conceptry.evaluation.progress import bar

    def run(source: Any, progress: Any) -> None:
        written = describe_network(source, output, layers, say, progress)
        size = sum(path.stat().st_size for path in written) / 1e6
        errors.print(f"saved {written[0]} and {len(written) - 1} pages ({size:.1f} MB)")

    if uri:
        if describer or exemplars:
            raise InputError("a version has a describer and exemplars of its own; give URI, or the two options")
        from conceptry.evaluation.process import VersionProcess
        from conceptry.registry import find_version

        version = find_version(uri)
        check_params(version.uri, params)
        with bar(version.uri) as progress, VersionProcess(version.uri, device) as predict:
            say_device(predict.device_in_use)
            run(version_source(predict, version, params), progress)
        return
    if not (describer and exemplars):
        raise InputError("expected the URI of a version of milan, or --describer with --exemplars")
    with bar(describer) as progress:
        run(exemplars_source(exemplars, describer, params, device), progress)
