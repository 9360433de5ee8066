"""How often descriptions are right, as bars by kind of unit, beside the baselines and the chance levels."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from conceptry.evaluation.milan.pictures import MARGIN, Page
from conceptry.evaluation.plots import ACCENT, GRID, INK, MUTED, SECOND

BASELINE = "#9fb3c8"
LINE, BAR, LEFT, WIDTH = 16.0, 10.0, 144.0, 230.0
_HEADINGS = {
    "property_set": "Units of two properties, held out together: exactly the two named",
    "property_set_single": "Units of one property: exactly that named",
    "planted": "Planted concepts: named",
    "colour_units": "Arithmetic of colours: the colour named",
}
_BARS = {
    "{}": ("this version", ACCENT),
    "clip_dissect_{}": ("CLIP-Dissect", BASELINE),
    "net_dissect_{}": ("Network Dissection", BASELINE),
    "{}_shuffled": ("truths shuffled", SECOND),
    "{}_random": ("random pictures", SECOND),
}


def draw_scores(metrics: Mapping[str, float]) -> Figure:
    """Bars from 0 to 1 for each kind of unit that `metrics` has a score of."""
    groups = {
        heading: [(name, metrics[key.format(kind)], colour) for key, (name, colour) in _BARS.items()
                  if key.format(kind) in metrics]
        for kind, heading in _HEADINGS.items()
        if kind in metrics
    }  # fmt: skip
    page = Page(430, 24 + sum(LINE * len(bars) + 30 for bars in groups.values()))
    y = MARGIN
    for heading, bars in groups.items():
        page.text(MARGIN, y, heading, 9, INK, weight="bold")
        y += 17
        for name, score, colour in bars:
            ink = INK if colour == ACCENT else MUTED
            page.text(LEFT - 8, y + BAR / 2 + 1, name, 8, ink, ha="right", va="center")
            page.bar(LEFT, y + 1, WIDTH, BAR, GRID, 0.45)
            page.bar(LEFT, y + 1, max(WIDTH * score, 1.0), BAR, colour)
            page.text(LEFT + WIDTH + 6, y + BAR / 2 + 1, f"{score:.2f}", 8, ink, va="center")
            y += LINE
        y += 13
    page.text(MARGIN, y, "Blue: this version. Grey: baselines on the same units. Orange: chance.", 7, MUTED)
    return page.figure
