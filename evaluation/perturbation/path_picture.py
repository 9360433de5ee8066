"""The path of the search for the sparsest counterfactual: what was tried, and which of it flips the prediction."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from conceptry.evaluation.perturbation.text import aim
from conceptry.evaluation.plots import ACCENT, INK, MUTED, SECOND, new_figure, quiet
from conceptry.models.errors import InputError

MOST = 12
_KEPT = (0.5, 0.25, 0.1, 0.05, 0.025, 0.01, 0.005)  # 1 - q: ticks of the bar
_COLOURS = LinearSegmentedColormap.from_list("q", ["#0b2f6b", ACCENT, "#4cc3a5", "#c9d94a", SECOND])


def draw_paths(records: Sequence[dict]) -> Figure:
    """Changed pixels against epsilon for every attempt, coloured by q, filled where the prediction flips.

    Lines join attempts of one q whose radius narrows; squares are attempts that were held to some of the pixels. The
    answer is ringed. Raises InputError where a record is not of a search.
    """
    if any(not record["path"] for record in records):
        raise InputError("there is no path: ask for the sparsest counterfactual by --params '{\"sparsest\": true}'")
    if len(records) > MOST:
        raise InputError(f"the paths of {len(records)} searches do not fit; at most {MOST} are drawn")
    columns = min(len(records), 3)
    rows = -(-len(records) // columns)
    figure = new_figure(max(3.4 * columns, 5.0) + 0.8, 2.9 * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False)
    kept = [1 - point["q"] for record in records for point in record["path"]]
    norm = LogNorm(min(kept), max(max(kept), 1.01 * min(kept)))
    for number, record in enumerate(records):
        _draw(quiet(grid.flat[number], "both"), record, norm, first=number % columns == 0)
    for axes in list(grid.flat)[len(records) :]:
        axes.set_axis_off()
    bar = figure.colorbar(ScalarMappable(norm, _COLOURS.reversed()), ax=grid, fraction=0.04, pad=0.02, aspect=30)
    bar.set_ticks([k for k in _KEPT if norm.vmin <= k <= norm.vmax])  # type: ignore[operator]  # both are set
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{1 - value:g}")
    bar.ax.invert_yaxis()
    bar.ax.tick_params(length=0, colors=MUTED, labelsize=8)
    bar.outline.set_visible(False)  # type: ignore[operator]  # a spine
    bar.set_label("q", color=MUTED, fontsize=9, rotation=0, labelpad=8)
    marks: list[tuple[str, dict[str, Any]]] = [
        ("flips", {"marker": "o", "color": MUTED}),
        ("does not", {"marker": "o", "color": MUTED, "markerfacecolor": "white"}),
        ("held to fewer pixels", {"marker": "s", "color": MUTED}),
        ("answer", {"marker": "o", "color": INK, "markerfacecolor": "none", "markersize": 10}),
    ]
    handles = [Line2D([], [], linestyle="none", label=name, **{"markersize": 5, **how}) for name, how in marks]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False, labelcolor=MUTED)
    return figure


def _draw(axes: Axes, record: dict, norm: LogNorm, first: bool) -> None:
    free = [point for point in record["path"] if point["pixels"] is None]
    for q in sorted({point["q"] for point in free}):
        points = sorted((p for p in free if p["q"] == q), key=lambda p: p["epsilon"])
        if len(points) > 2:
            xy = [[p[name] for p in points] for name in ("epsilon", "changed")]
            axes.plot(*xy, color=_colour(q, norm), linewidth=0.9, alpha=0.5, zorder=2)
    for point in record["path"]:
        colour = _colour(point["q"], norm)
        face = colour if point["success"] else "white"
        axes.plot(
            point["epsilon"], point["changed"], "o" if point["pixels"] is None else "s", color=colour,
            markerfacecolor=face, markersize=4.5, markeredgewidth=1.0, linestyle="none", zorder=3 + point["success"],
        )  # fmt: skip
    axes.plot(record["epsilon"], record["changed"], "o", color=INK, markerfacecolor="none", markersize=11, zorder=5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    radii = [point["epsilon"] for point in record["path"]]
    # Radii of photographs have many digits and spread far: only powers of ten have room then.
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if max(radii) < 100 * min(radii) else (1,)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.margins(0.09)
    axes.set_xlabel("epsilon")
    if first:
        axes.set_ylabel("pixels changed")
    found = f"{record['changed']:.1%} of the pixels" if record["success"] else "no flip was found"
    axes.set_title(
        f"{record['before'][0]['class']} → {aim(record)}: {found}", loc="left", fontsize=10, parse_math=False
    )


def _colour(q: float, norm: LogNorm) -> tuple[float, float, float, float]:
    return _COLOURS.reversed()(float(norm(1 - q)))
