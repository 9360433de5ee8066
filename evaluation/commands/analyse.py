"""`conceptry analyse`: what ablating units by their descriptions does to accuracy."""

from pathlib import Path

import click

from conceptry.evaluation.commands.units import UnitsAsked, described_units
from conceptry.evaluation.console import Optional, check_picture, errors, say
from conceptry.models.errors import InputError


@click.command()
@click.option("--data", required=True, help="Pictures with classes: zoo:scenes, zoo:scenes-spurious, folder:PATH.")
@click.option("--words", type=Optional(str), help="Ablate units described by any of these, separated by commas.")
@click.option(
    "--by",
    type=Optional(click.Choice(["words", "length", "score"])),
    help="Order of the units: the longest or the surest description first. [default: words]",
)
@click.option("--reverse", is_flag=True, help="The shortest or the least sure description first.")
@click.option(
    "--output", default="analyse.png", show_default=True, type=click.Path(path_type=Path), help="Picture or .csv."
)
@described_units(orders=5, size=400)
def analyse(asked: UnitsAsked, data: str, words: str | None, by: str | None, reverse: bool, output: Path) -> None:
    """Ablate units in an order that their descriptions give, and plot accuracy against how many.

    URI is a registered version of milan, a folder that `conceptry describe` wrote, or a table (.csv) of the columns
    layer, unit and description. Units of each layer are ablated on their own, beside as many random ones.
    """
    order = by or "words"
    if (order == "words") != (words is not None):
        raise InputError("expected --words such as red,blue, or --by length or --by score; one of the two")
    check_picture(output, (".png", ".svg", ".pdf", ".csv"))
    from conceptry.evaluation.milan.analysing import analyse_network, write_curves
    from conceptry.evaluation.milan.curves import draw_analysis
    from conceptry.evaluation.milan.labelled import load_parts
    from conceptry.evaluation.progress import bar
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
                f"{each.layer}, {part.part}: accuracy {part.described[0]:.3f}; {each.counts[k]} of {each.n_units} "
                f"units ablated {part.described[k]:.3f}; as many at random {mean:.3f} (sd {spread:.3f})"
            )
    if output.suffix == ".csv":
        write_curves(found, order, output)
    else:
        title, name = _title(named.model.name, order, wanted, reverse)
        draw_analysis(found, title, name).savefig(output)
    errors.print(f"saved {output}")


def _title(network: str, order: str, words: tuple[str, ...], reverse: bool) -> tuple[str, str]:
    """Of the picture, and of the curve of the described units."""
    if order == "words":
        from conceptry.evaluation.milan.curves import some_words

        return f"{network}: units described by {some_words(words, 3)}", "described so, surest first"
    first = {"length": ("longest", "shortest"), "score": ("surest", "least sure")}[order][reverse]
    return f"{network}: units by description, the {first} first", f"the {first} description first"
