"""The path of the search for the sparsest counterfactual: what was tried, and which of it flips the prediction."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, PercentFormatter, StrMethodFormatter

from conceptry.evaluation.perturbation.text import aim
from conceptry.evaluation.plots import INK, MUTED, new_figure, quiet
from conceptry.models.errors import InputError

MOST = 12
_COLOURS = ("#2f6fde", "#0f9d8a", "#8a5cd6", "#e07a3f", "#c2355b", "#7a8b1f", "#4a5568")


def draw_paths(records: Sequence[dict]) -> Figure:
    """Changed pixels against epsilon, a colour for each q, filled where the prediction flips; the answer is ringed.

    Raises InputError where a record is not of a search.
    """
    if any(not record["path"] for record in records):
        raise InputError("there is no path: ask for the sparsest counterfactual by --params '{\"sparsest\": true}'")
    if len(records) > MOST:
        raise InputError(f"the paths of {len(records)} searches do not fit; at most {MOST} are drawn")
    columns = min(len(records), 3)
    rows = -(-len(records) // columns)
    figure = new_figure(max(3.5 * columns, 4.6), 3.0 * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False)
    qs = sorted({point["q"] for record in records for point in record["path"]})
    colours = {q: _COLOURS[k % len(_COLOURS)] for k, q in enumerate(qs)}
    for axes, record in zip(grid.flat, records, strict=False):
        _draw(quiet(axes, "both"), record, colours)
    for axes in list(grid.flat)[len(records) :]:
        axes.set_axis_off()
    handles = [
        grid[0, 0].plot([], [], "o", color=colour, linestyle="none", markersize=5, label=f"q {q:g}")[0]
        for q, colour in colours.items()
    ]
    handles.append(grid[0, 0].plot([], [], "o", color=MUTED, markerfacecolor="white", markersize=5, linestyle="none",
                                   label="not flipped")[0])  # fmt: skip
    handles.append(grid[0, 0].plot([], [], "o", color=INK, markerfacecolor="none", markersize=10, linestyle="none",
                                   label="answer")[0])  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6), fontsize=8, frameon=False)
    return figure


def _draw(axes: Axes, record: dict, colours: dict[float, str]) -> None:
    for q, colour in colours.items():
        points = sorted((p for p in record["path"] if p["q"] == q), key=lambda p: p["epsilon"])
        if not points:
            continue
        epsilon, changed = (np.array([p[name] for p in points]) for name in ("epsilon", "changed"))
        flipped = np.array([bool(p["success"]) for p in points])
        axes.plot(epsilon, changed, color=colour, linewidth=0.8, alpha=0.45, zorder=2)
        axes.plot(epsilon[~flipped], changed[~flipped], "o", color=colour, markerfacecolor="white", markersize=4,
                  linestyle="none", zorder=3)  # fmt: skip
        axes.plot(epsilon[flipped], changed[flipped], "o", color=colour, markersize=4, linestyle="none", zorder=4)
    axes.plot(record["epsilon"], record["changed"], "o", color=INK, markerfacecolor="none", markersize=11, zorder=5)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("epsilon")
    axes.set_ylabel("pixels changed")
    found = f"{record['changed']:.1%} of the pixels" if record["success"] else "no flip was found"
    axes.set_title(
        f"{record['before'][0]['class']} → {aim(record)}: {found}", loc="left", fontsize=10, parse_math=False
    )
