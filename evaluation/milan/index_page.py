"""The index of the pages of a network's layers: what each is described by, its clearest units, a search over all."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote, urlencode

from conceptry.evaluation import pages
from conceptry.evaluation.milan.described import DescribedUnit
from conceptry.evaluation.milan.page import fill, footer, masks_button, search_box
from conceptry.evaluation.milan.unit_html import pictures_in
from conceptry.models.milan.words import word_counts

SHOWN, WORDS = 3, 10  # of each layer


@dataclass(frozen=True)
class LayerEntry:
    """A layer, the file of its page, its units, and their HTML on that page by their numbers."""

    layer: str
    file: str
    units: Sequence[DescribedUnit]
    articles: Mapping[int, str]


def index_page(title: str, about: str, entries: Sequence[LayerEntry], notes: Sequence[str]) -> str:
    """The page: a table of the layers, under it the clearest units of each; what is searched for takes their place."""
    rows = "".join(_row(entry) for entry in entries)
    samples = "".join(_sample(number, entry) for number, entry in enumerate(entries))
    total = sum(len(entry.units) for entry in entries)
    counted = f"{total:,} unit{'s' * (total != 1)} of {len(entries)} layer{'s' * (len(entries) != 1)}"
    body = (
        f'<header><h1>{pages.shown(title)}</h1><p class="about">{counted}</p>'
        f'<p class="about">{pages.shown(about)}</p></header>'
        f'<div class="tools" role="search">{search_box("Words, -words, in all layers")}{masks_button()}'
        '<span id="count" role="status"></span></div>'
        '<main><ul id="hits"></ul><div id="overview"><div class="scroll"><table class="layers"><thead><tr>'
        '<th>layer</th><th>units</th><th class="less">never active</th><th class="less">different descriptions</th>'
        f'<th class="wide">frequent words</th></tr></thead><tbody>{rows}</tbody></table></div>{samples}</div></main>'
        f"{footer(notes)}"
    )
    found = [
        {
            "name": entry.layer,
            "file": quote(entry.file),
            "units": [[unit.unit, unit.description] for unit in entry.units if unit.active],
        }
        for entry in entries
    ]
    k = pictures_in(article for entry in entries for article in entry.articles.values())
    return fill(title, body, k, {"layers": found})


def moved(article: str, prefix: str, file: str) -> str:
    """The HTML of a unit of the page `file` for another page: ids of its own begin with `prefix`, and its number
    leads to where it is from."""
    article = re.sub(r'href="(#[^"]*)"', lambda found: f'href="{quote(file)}{found[1]}"', article, count=1)
    return re.sub(r'\b(id|aria-controls)="unit-', rf'\1="{escape(prefix)}-', article)


def _row(entry: LayerEntry) -> str:
    active = [unit for unit in entry.units if unit.active]
    counts = list(word_counts(unit.description for unit in active).items())[:WORDS]
    words = "".join(
        f'<li><a href="{quote(entry.file)}#{urlencode({"q": _quoted(word)})}">{pages.shown(word)}'
        f"<small>{count}</small></a></li>"
        for word, count in counts
    )
    numbers = (len(entry.units), len(entry.units) - len(active), len({unit.description for unit in active}))
    cells = "".join(f"<td{' class=less' if k else ''}>{number:,}</td>" for k, number in enumerate(numbers))
    link = f'<a href="{quote(entry.file)}">{pages.shown(entry.layer)}</a>'
    return f'<tr><td>{link}</td>{cells}<td class="wide"><ul class="words">{words}</ul></td></tr>'


def _sample(number: int, entry: LayerEntry) -> str:
    found = "".join(
        moved(entry.articles[unit.unit], f"layer{number}", entry.file)
        for unit in clearest(entry.units)
        if unit.unit in entry.articles
    )
    more = f'<a href="{quote(entry.file)}">all {len(entry.units):,} units</a>'
    return f"<section><h2>{pages.shown(entry.layer)} <small>{more}</small></h2>{found}</section>"


def clearest(units: Sequence[DescribedUnit], count: int = SHOWN) -> list[DescribedUnit]:
    """The active units of the surest descriptions, no description twice."""
    chosen: dict[str, DescribedUnit] = {}
    for unit in sorted((u for u in units if u.active), key=lambda u: -u.certainty):
        if len(chosen) < count:
            chosen.setdefault(unit.description, unit)
    return list(chosen.values())


def _quoted(word: str) -> str:
    return f'"{word}"'
