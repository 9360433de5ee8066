"""`conceptry analyse`: what ablating units by their descriptions does to accuracy.

`conceptry edit`: silence the units behind a spurious feature, and see how much accuracy that restores.
"""

from pathlib import Path

import click
from rich.table import Table

from conceptry.evaluation.cli.describe import UnitsAsked, described_units
from conceptry.evaluation.cli.options import Flag, check_folder, check_picture, command, console, errors, say
from conceptry.models.errors import InputError


@command()
@click.option("--data", required=True, help="Images with classes: zoo:scenes, zoo:scenes-spurious or folder:PATH.")
@click.option("--words", help="Comma-separated words: ablate the units described by any of them.")
@click.option(
    "--by",
    type=click.Choice(["words", "length", "score"]),
    help="Order of ablation: units matching --words, longest or highest-scoring description first. [default: words]",
)
@click.option("--reverse", cls=Flag, help="Shortest or lowest-scoring description first.")
@click.option(
    "--output", default="analyse.png", type=click.Path(path_type=Path), help="Figure, or table (.csv), to write."
)
@described_units(orders=5, size=400)
def analyse(asked: UnitsAsked, data: str, words: str | None, by: str | None, reverse: bool, output: Path) -> None:
    """Ablate units in the order of their descriptions, and plot accuracy against their number.

    URI is a registered milan version, a folder written by `conceptry describe`, or a table (.csv) with the columns
    layer, unit and description. Each layer is ablated on its own, and compared with as many random units.
    """
    order = by or "words"
    if (order == "words") != (words is not None):
        raise InputError("expected either --words such as red,blue, or --by length or --by score")
    check_picture(output, (".png", ".svg", ".pdf", ".csv"))
    from conceptry.evaluation.progress import bar
    from conceptry.evaluation.units.ablation import analyse_network, write_curves
    from conceptry.evaluation.units.datasets import load_parts
    from conceptry.evaluation.units.plots import draw_analysis
    from conceptry.models.milan.words import split_words

    wanted = split_words(words) if words is not None else ()
    with bar(asked.uri) as progress:
        named = asked.units(progress)
        progress("reading data", 0.0)
        parts = load_parts(data, named.model, asked.size, asked.seed)
        found = analyse_network(named, parts, order, wanted, asked.orders, asked.seed, reverse, progress)
    for each in found:
        # All units of a layer silenced leave nothing, in any order; half of them show what the order knows.
        k = len(each.counts) // 2 if len(each.order) == each.n_units else -1
        for part in each.parts:
            mean, spread = part.random[:, k].mean(), part.random[:, k].std(ddof=1)
            say(
                f"{each.layer}, {part.part}: accuracy {part.described[0]:.3f}; with {each.counts[k]} of {each.n_units} "
                f"units ablated {part.described[k]:.3f}; as many at random {mean:.3f} (sd {spread:.3f})"
            )
    if output.suffix == ".csv":
        write_curves(found, order, output)
    else:
        title, name = _title(named.model.name, order, wanted, reverse)
        draw_analysis(found, title, name).savefig(output)
    errors.print(f"saved {output}")


def _title(network: str, order: str, words: tuple[str, ...], reverse: bool) -> tuple[str, str]:
    """Figure title, and legend entry of the described units."""
    if order == "words":
        from conceptry.evaluation.units.plots import some_words

        return f"{network}: units described by {some_words(words, 3)}", "described so, surest first"
    first = {"length": ("longest", "shortest"), "score": ("surest", "least sure")}[order][reverse]
    return f"{network}: units by description, the {first} first", f"the {first} description first"


@command()
@click.option("--words", required=True, help="Comma-separated words that name the feature, e.g. red,blue,green.")
@click.option(
    "--data",
    default="zoo:scenes-spurious",
    help="Images on which the feature misleads: zoo:scenes-spurious, another zoo:NAME, or folder:PATH.",
)
@click.option("--clean", help="Images on which it does not mislead, scored as well: in the same forms as --data.")
@click.option("--output", default="edit.png", type=click.Path(path_type=Path), help="Figure to write.")
@click.option("--record", "record_file", type=click.Path(path_type=Path), help="Also write the edit as JSON.")
@described_units(orders=6, size=300)
def edit(asked: UnitsAsked, words: str, data: str, clean: str | None, output: Path, record_file: Path | None) -> None:
    """Silence the units whose descriptions name a spurious feature, and score the network before and after.

    URI is a registered milan version, a folder written by `conceptry describe`, or a table (.csv) with the columns
    layer, unit and description. The number of silenced units is chosen on other images than those scored: freshly
    drawn ones for zoo:scenes-spurious, otherwise one half of the data. As many random units of the same layers are
    silenced for comparison.
    """
    check_picture(output)
    check_folder(record_file, "--record")
    from conceptry.evaluation.progress import bar
    from conceptry.evaluation.units.ablation import edit_network, write_record
    from conceptry.evaluation.units.datasets import load_parts, split_parts, unseen_parts
    from conceptry.evaluation.units.plots import draw_edit
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
                raise InputError(f"{data} has clean images of its own; leave --clean out")
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
        + (f"silenced: {where}" if where else "on the images of the choice, silencing none of them is best")
    )
    if record_file:
        write_record(result, named.model, record_file)
        errors.print(f"saved {record_file}")
    draw_edit(result).savefig(output)
    errors.print(f"saved {output}")


def _table(result: object) -> Table:
    from conceptry.evaluation.units.ablation import Edit

    assert isinstance(result, Edit)
    table = Table("accuracy", box=None, header_style="bold", pad_edge=False)
    for column in ("images", "before", "after", "random", "sd"):
        table.add_column(column, justify="right")
    for part in result.parts:
        before, after, random = part.described[0], part.described[result.chosen], part.random[:, result.chosen]
        figures = [f"{value:.3f}" for value in (before, after, random.mean(), random.std(ddof=1))]
        table.add_row(part.part, f"{part.n_images:,}", *figures)
    return table
