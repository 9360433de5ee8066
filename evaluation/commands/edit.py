"""`conceptry edit`: silence the units behind a spurious feature, and see what accuracy comes back."""

from pathlib import Path

import click
from rich.table import Table

from conceptry.evaluation.commands.units import UnitsAsked, described_units
from conceptry.evaluation.console import Optional, check_folder, check_picture, console, errors, say
from conceptry.models.errors import InputError


@click.command()
@click.option("--words", required=True, help="Words that name the feature, as red,blue,green.")
@click.option(
    "--data",
    default="zoo:scenes-spurious",
    show_default=True,
    help="Pictures on which the feature misleads: zoo:scenes-spurious, zoo:NAME or folder:PATH.",
)
@click.option("--clean", type=Optional(str), help="Pictures on which it does not, to be scored too: the same forms.")
@click.option("--output", default="edit.png", show_default=True, type=click.Path(path_type=Path), help="Picture.")
@click.option("--record", "record_file", type=Optional(click.Path(path_type=Path)), help="Write the edit as JSON.")
@described_units(orders=6, size=300)
def edit(asked: UnitsAsked, words: str, data: str, clean: str | None, output: Path, record_file: Path | None) -> None:
    """Silence the units whose descriptions name a spurious feature, and score the network before and after.

    URI is a registered version of milan, a folder that `conceptry describe` wrote, or a table (.csv) of the columns
    layer, unit and description. How many units are silenced is chosen on other pictures than those scored: freshly
    drawn ones of zoo:scenes-spurious, else one half of the data. As many random units of the same layers are silenced
    beside them.
    """
    check_picture(output)
    check_folder(record_file, "--record")
    from conceptry.evaluation.milan.curves import draw_edit
    from conceptry.evaluation.milan.editing import edit_network, write_record
    from conceptry.evaluation.milan.labelled import load_parts, split_parts, unseen_parts
    from conceptry.evaluation.progress import bar
    from conceptry.models.milan.words import split_words

    wanted = split_words(words)
    size, seed = asked.size, asked.seed
    with bar(asked.uri) as progress:
        named = asked.units(progress)
        progress("reading data", 0.0)
        report = load_parts(data, named.model, size, seed)
        choose = unseen_parts(data, named.model, size, seed)
        if clean is not None:
            if choose is not None:
                raise InputError(f"{data} has clean pictures of its own; leave --clean out")
            extra = load_parts(clean, named.model, size, seed)
            report = {"misleading": next(iter(report.values())), **{f"clean {k}": v for k, v in extra.items()}}
        if choose is None:
            choose, report = split_parts(report, seed)
        result = edit_network(named, wanted, data, choose, report, asked.orders, seed, progress)
    console.print(_table(result))
    layers_of = {layer: sum(each == layer for each, _ in result.silenced) for layer, _ in result.silenced}
    where = ", ".join(f"{count} of {layer}" for layer, count in layers_of.items())
    say(
        f"{len(result.order)} of {result.n_units} units are described by {', '.join(wanted)}; "
        + (f"silenced: {where}" if where else "silencing none of them is best, on the pictures that chose")
    )
    if record_file:
        write_record(result, named.model, record_file)
        errors.print(f"saved {record_file}")
    draw_edit(result).savefig(output)
    errors.print(f"saved {output}")


def _table(result: object) -> Table:
    from conceptry.evaluation.milan.editing import Edit

    assert isinstance(result, Edit)
    table = Table("accuracy", box=None, header_style="bold", pad_edge=False)
    for column in ("pictures", "before", "after", "random", "sd"):
        table.add_column(column, justify="right")
    for part in result.parts:
        before, after, random = part.described[0], part.described[result.chosen], part.random[:, result.chosen]
        figures = [f"{value:.3f}" for value in (before, after, random.mean(), random.std(ddof=1))]
        table.add_row(part.part, f"{part.n_pictures:,}", *figures)
    return table
