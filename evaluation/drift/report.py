"""A comparison for people: a verdict, a table, a figure, a record, an MLflow run."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from conceptry.evaluation.drawing.style import ACCENT, INK, MUTED, SECOND, new_figure, quiet
from conceptry.evaluation.drift.comparison import Rule
from conceptry.evaluation.drift.sums import ConceptSums
from conceptry.models.errors import plural

EXPERIMENT = "conceptry/drift"
DRAWN = 20  # concepts of a figure


@dataclass(frozen=True)
class Drift:
    """Concepts of two data sets side by side (see `compare_sums`), and the rule by which they have drifted or not."""

    before: ConceptSums
    after: ConceptSums
    table: pd.DataFrame
    rule: Rule

    @property
    def concepts(self) -> list[str]:
        """Those that have drifted, the largest change of share first."""
        return self.table.loc[self.table["drifted"], "concept"].tolist()

    @property
    def version(self) -> str:
        """NAME/NUMBER of the version that both were asked."""
        return min(name for name, _ in self.before.versions)

    @property
    def verdict(self) -> str:
        """One sentence."""
        if not self.concepts:
            return f"no drift: none of {plural(len(self.table), 'concept')} has changed beyond chance and by enough"
        named = ", ".join(self.concepts[:3]) + (" and others" if len(self.concepts) > 3 else "")
        return f"drift: {len(self.concepts)} of {plural(len(self.table), 'concept')} have changed, {named}"

    def to_dict(self) -> dict:
        """JSON-ready; what is not tested is null."""
        rows = self.table.astype(object).where(self.table.notna(), None).to_dict("records")
        ends = ({"name": each.name, "rows": each.rows, "errors": each.errors} for each in (self.before, self.after))
        before, after = ends
        return {
            "version": self.version,
            "method": self.before.method,
            "before": before,
            "after": after,
            "drift": bool(self.concepts),
            "verdict": self.verdict,
            "rule": asdict(self.rule),
            "concepts": [{name: _plain(value) for name, value in row.items()} for row in rows],
        }


def describe(drift: Drift, top: int) -> RenderableType:
    """For the terminal: the verdict and its rule, and the first `top` concepts."""
    table = Table(show_header=True, header_style="dim", box=None, padding=(0, 1, 0, 2))
    table.add_column("concept")
    for heading in ("before", "after", "change of share", "p", "mean weight", "effect d", "p"):
        table.add_column(heading, justify="right")
    for row in drift.table.head(top).to_dict("records"):
        table.add_row(
            escape(row["concept"]),
            f"{row['share_before']:.1%}",
            f"{row['share_after']:.1%}",
            f"{100 * row['difference']:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})",
            _p(row["p_share"]),
            f"{row['weight_before']:.4f} → {row['weight_after']:.4f}",
            f"{row['effect']:+.2f} ({row['effect_low']:+.2f} to {row['effect_high']:+.2f})",
            _p(row["p_weight"]),
            style="bold" if row["drifted"] else None,
        )
    lines = [drift.verdict, _ends(drift), f"a concept has drifted by: {drift.rule}; p adjusted for all tests"]
    return Group(*map(escape, lines), table)


def draw(drift: Drift) -> Figure:
    """The share of each concept before and after, those that have drifted in colour."""
    rows = drift.table.head(DRAWN).to_dict("records")
    figure = new_figure(7.6, 0.3 * max(len(rows), 3) + 1.3)
    axes = quiet(figure.subplots(), grid="x")
    largest = max([1e-9, *(max(row["share_before"], row["share_after"]) for row in rows)])
    for place, row in enumerate(rows):
        colour = (ACCENT if row["difference"] > 0 else SECOND) if row["drifted"] else MUTED
        ends = [100 * row["share_before"], 100 * row["share_after"]]
        axes.plot(ends, [place, place], color=colour, linewidth=2)
        axes.plot(ends[0], place, "o", markersize=6, markerfacecolor="white", markeredgecolor=colour)
        axes.plot(ends[1], place, "o", markersize=6, color=colour)
        note = f"{100 * row['difference']:+.1f} ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
        axes.annotate(
            note, (max(ends), place), xytext=(9, 0), textcoords="offset points", va="center", fontsize=9,
            color=INK if row["drifted"] else MUTED,
        )  # fmt: skip
    names = [row["concept"] if len(row["concept"]) < 40 else f"{row['concept'][:38]}…" for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=10, color=INK)
    axes.set_ylim(max(len(rows), 3) - 0.5, -0.5)
    axes.set_xlim(-2 * largest, 130 * largest)
    axes.set_xlabel("share of rows that name it, %: before ○, after ●, and the change with its interval")
    axes.set_title(f"{drift.verdict}\n{_ends(drift)}", loc="left", fontsize=10)
    return figure


def log(drift: Drift) -> str:
    """Log a run with the table, the figure and the record; its id."""
    from conceptry.evaluation.runs import new_run

    params = {"version": drift.version, "before": drift.before.name, "after": drift.after.name, **asdict(drift.rule)}
    shares = np.abs(drift.table["difference"].to_numpy())
    with new_run(EXPERIMENT, f"drift-{drift.version}", params) as run:
        run.metrics(
            {
                "drift": bool(drift.concepts),
                "drifted": len(drift.concepts),
                "concepts": len(drift.table),
                "largest_change": shares.max(initial=0.0),
                "rows_before": drift.before.rows,
                "rows_after": drift.after.rows,
                "errors_before": drift.before.errors,
                "errors_after": drift.after.errors,
            }
        )
        run.client.set_tag(run.run_id, "verdict", drift.verdict)
        run.client.log_table(run.run_id, drift.table, "concepts.json")
        run.client.log_figure(run.run_id, draw(drift), "drift.png")
        run.client.log_dict(run.run_id, drift.to_dict(), "drift.json")
    return run.run_id


def save(drift: Drift, output: Path) -> None:
    """Write the record (.json), the table (.csv) or the figure."""
    if output.suffix == ".json":
        output.write_text(json.dumps(drift.to_dict(), indent=2) + "\n", encoding="utf-8")
    elif output.suffix == ".csv":
        drift.table.to_csv(output, index=False)
    else:
        draw(drift).savefig(output)


def _ends(drift: Drift) -> str:
    parts: Sequence[str] = [
        f"{each.name}: {plural(each.rows, 'row')}" + (f", {each.errors:,} without an answer" if each.errors else "")
        for each in (drift.before, drift.after)
    ]
    return " → ".join(parts)


def _p(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.3f}" if value >= 0.001 else "<.001"


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value
