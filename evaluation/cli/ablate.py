"""`conceptry analyse`: what ablating units by their descriptions does to accuracy.

`conceptry edit`: silence the units behind a spurious feature, and see how much accuracy that restores.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import click
from rich.table import Table

from conceptry.evaluation.cli.describe import UnitsAsked, described_units
from conceptry.evaluation.cli.options import Flag, check_folder, check_image, command, console, errors, say
from conceptry.models.errors import InputError

if TYPE_CHECKING:
    from conceptry.evaluation.units.ablation import Edit


@command()
@click.option("--data", required=True, help="Images with classes: zoo:scenes, zoo:scenes-spurious or folder:PATH.")
@click.option("--words", help="Comma-separated words: ablate the units described by any of them.")
@click.option(
    "--by",
    type=click.Choice(["words", "length", "score", "adjectives", "nouns", "verbs", "prepositions"]),
    help="Order of ablation: units matching --words, longest or highest-scoring description first, or the one with "
    "most adjectives, nouns, verbs or prepositions. [default: words]",
)
@click.option("--reverse", cls=Flag, help="Shortest or lowest-scoring description, or the one with fewest, first.")
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
        raise InputError("expected either --words such as red,blue, or --by length, score or a part of speech")
    check_image(output, (".png", ".svg", ".pdf", ".csv"))
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
    kinds = {"length": ("longest", "shortest"), "score": ("surest", "least sure")}
    if order not in kinds:
        most = ("most", "fewest")[reverse]
        return f"{network}: units by description, {most} {order} first", f"{most} {order} first"
    first = kinds[order][reverse]
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
@click.option("--refit", cls=Flag, help="Also score the last layer fitted anew on the images of the choice.")
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=1,
    help="Repeat with as many seeds, and print means with deviations.",
)
@described_units(orders=6, size=300)
def edit(
    asked: UnitsAsked,
    words: str,
    data: str,
    clean: str | None,
    output: Path,
    record_file: Path | None,
    refit: bool,
    trials: int,
) -> None:
    """Silence the units whose descriptions name a spurious feature, and score the network before and after.

    URI is a registered milan version, a folder written by `conceptry describe`, or a table (.csv) with the columns
    layer, unit and description. The number of silenced units is chosen on other images than those scored: freshly
    drawn ones for zoo:scenes-spurious, otherwise one half of the data. As many random units of the same layers are
    silenced for comparison. Figure and record are of the first trial.
    """
    check_image(output)
    check_folder(record_file, "--record")
    from conceptry.evaluation.progress import bar
    from conceptry.evaluation.units.ablation import edit_network, write_record
    from conceptry.evaluation.units.datasets import load_parts, split_parts, unseen_parts
    from conceptry.evaluation.units.plots import draw_edit
    from conceptry.models.milan.words import split_words

    wanted = split_words(words)
    size, results = asked.size, []
    with bar(asked.uri) as progress:
        named = asked.units(progress)
        for seed in range(asked.seed, asked.seed + trials):
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
            results.append(edit_network(named, wanted, data, choose, report, asked.orders, seed, progress, refit))
    result = results[0]
    console.print(_table(results))
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


def _table(results: Sequence["Edit"]) -> Table:
    """Accuracies by part: of one trial, or means over trials with standard deviations."""
    table = Table("accuracy", box=None, header_style="bold", pad_edge=False)
    for column in ("images", "before", "after", "random", "sd", *(["refitted"] if results[0].refitted else [])):
        table.add_column(column, justify="right")
    for place, part in enumerate(results[0].parts):
        each = [(result.parts[place], result.chosen, result.refitted) for result in results]
        random = [of.random[:, k] for of, k, _ in each]
        columns = [[of.described[0] for of, *_ in each], [of.described[k] for of, k, _ in each]]
        columns += [[one.mean() for one in random]]
        cells = [*map(_mean, columns), f"{fmean(one.std(ddof=1) for one in random):.3f}"]
        if results[0].refitted:
            cells.append(_mean([refitted[part.part] for *_, refitted in each]))
        table.add_row(part.part, f"{part.n_images:,}", *cells)
    return table


def _mean(values: Sequence[float]) -> str:
    spread = f" ±{stdev(map(float, values)):.3f}" if len(values) > 1 else ""
    return f"{fmean(values):.3f}{spread}"
