"""A layer's units with their exemplars and descriptions as one HTML file that needs no network, and an index of them.

`page.html` is filled with plain HTML, so that a page can be read, searched and printed where scripts are off; its
script adds the search, the order and the large pictures. All text from outside is escaped; see `evaluation.pages`.

The index of the pages of a network's layers: what each is described by, its clearest units, a search over all.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote, urlencode

from conceptry.evaluation.drawing import html
from conceptry.evaluation.units.html.unit import DrawnUnit, pictures_in
from conceptry.evaluation.units.records import DescribedUnit, summary
from conceptry.models.milan.words import word_counts

MOST_WORDS = 28


@dataclass(frozen=True)
class Link:
    """A page beside this one: its file name and what it is called."""

    file: str
    name: str


def layer_page(layer: str, drawn: Sequence[DrawnUnit], about: str, notes: Sequence[str] = ()) -> str:
    """The page of a layer. about: a line on what was described, and by what; notes: sentences below the units."""
    units = [each.unit for each in drawn]
    active = [unit for unit in units if unit.active]
    header = [
        navigation(),
        f"<h1>{html.shown(layer)}</h1>",
        f'<p class="about">{html.shown(summary(units))}</p><p class="about">{html.shown(about)}</p>',
        _word_buttons(word_counts(unit.description for unit in active)),
    ]
    has_activations = any(unit.activation is not None for unit in active)
    has_masks = any('class="overlay"' in each.html for each in drawn)
    parts = [
        f"<header>{''.join(header)}</header>",
        _tools(has_activations, has_masks),
        f'<main><h2 class="unseen">Units</h2><div id="units">{"".join(each.html for each in drawn)}</div>',
        '<p id="none" hidden>No unit is described so.</p></main>',
        footer([*_reading(has_masks), *notes]),
    ]
    return fill(layer, "\n".join(parts), pictures_in(each.html for each in drawn))


def fill(title: str, body: str, k: int, data: object = None) -> str:
    """The template with a body of HTML; k: pictures of a strip; data: JSON-ready, for the script."""
    known = {
        "title": html.shown(title), "body": body, "k": str(k),
        "data": html.embedded(json.dumps(data, ensure_ascii=False)),
    }  # fmt: skip
    return html.fill("conceptry.evaluation.units.html", "page.html", known)


def _tools(has_activations: bool, has_masks: bool) -> str:
    orders = {"": "unit", "best": "score, best first", "worst": "score, worst first"}
    orders |= {"activation": "activation"} if has_activations else {}
    orders |= {"description": "description, A to Z"}
    options = "".join(f'<option value="{key}">{name}</option>' for key, name in orders.items())
    button = masks_button() if has_masks else ""
    return (
        f'<div class="tools" role="search">{search_box("Words, -words, unit numbers")}'
        f'<label><span>Sort by</span> <select id="sort">{options}</select></label>{button}'
        '<span id="count" role="status"></span></div>'
    )


def masks_button() -> str:
    """The button that hides and shows the masks."""
    return '<button id="masks" aria-pressed="true" title="m">Masks</button>'


def search_box(hint: str) -> str:
    """The search field of a page."""
    return (
        f'<input id="search" type="search" placeholder="{hint}" autocomplete="off" spellcheck="false" '
        'aria-label="Search descriptions: words, words with a minus that must be missing, numbers of units">'
    )


def _word_buttons(words: Mapping[str, int]) -> str:
    if not words:
        return ""
    shown = list(words.items())[:MOST_WORDS]
    items = [
        f'<li><button class="word" aria-pressed="false" data-word="{escape(word)}">{html.shown(word)}'
        f"<small>{count}</small></button></li>"
        for word, count in shown
    ]
    left = len(words) - len(shown)
    more = f"<li><small>and {left} more</small></li>" if left else ""
    return f'<ul class="words few-on-small"><li class="label">Words</li>{"".join(items)}{more}</ul>'


def navigation(index: Link | None = None, before: Link | None = None, after: Link | None = None) -> str:
    """Links to the pages beside this one; an element that is there even where there are none."""

    def link(to: Link | None, mark: str, kind: str) -> str:
        if to is None:
            return ""
        text = html.shown(to.name)
        text = f"{mark} {text}" if kind != "next" else f"{text} {mark}"
        return f'<a href="{escape(to.file)}" rel="{kind}">{text}</a>'

    pair = link(before, "\u2190", "prev") + link(after, "\u2192", "next")
    parts = link(index, "\u2191", "up") + (f'<span class="pages">{pair}</span>' if pair else "")
    return f'<nav aria-label="Layers">{parts}</nav>'


def _reading(has_masks: bool) -> list[str]:
    pictures = (
        "Each strip shows the pictures that drive a unit most, the strongest first. What is bright and outlined is "
        "where the unit rises above its level; the rest is in shade."
    )
    search = (
        "Search: words that must be there, -words that must not, \u201cwhole words\u201d in quotation marks, numbers "
        "of units. Keys: / searches, j and k or the arrows move, Enter opens, m hides the masks."
    )
    return [pictures, search] if has_masks else [search]


def footer(sentences: Iterable[str]) -> str:
    """Sentences below a page."""
    return f"<footer>{''.join(f'<p>{html.shown(sentence)}</p>' for sentence in sentences)}</footer>"


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
        f'<header><h1>{html.shown(title)}</h1><p class="about">{counted}</p>'
        f'<p class="about">{html.shown(about)}</p></header>'
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
        f'<li><a href="{quote(entry.file)}#{urlencode({"q": _quoted(word)})}">{html.shown(word)}'
        f"<small>{count}</small></a></li>"
        for word, count in counts
    )
    numbers = (len(entry.units), len(entry.units) - len(active), len({unit.description for unit in active}))
    cells = "".join(f"<td{' class=less' if k else ''}>{number:,}</td>" for k, number in enumerate(numbers))
    link = f'<a href="{quote(entry.file)}">{html.shown(entry.layer)}</a>'
    return f'<tr><td>{link}</td>{cells}<td class="wide"><ul class="words">{words}</ul></td></tr>'


def _sample(number: int, entry: LayerEntry) -> str:
    found = "".join(
        moved(entry.articles[unit.unit], f"layer{number}", entry.file)
        for unit in clearest(entry.units)
        if unit.unit in entry.articles
    )
    more = f'<a href="{quote(entry.file)}">all {len(entry.units):,} units</a>'
    return f"<section><h2>{html.shown(entry.layer)} <small>{more}</small></h2>{found}</section>"


def clearest(units: Sequence[DescribedUnit], count: int = SHOWN) -> list[DescribedUnit]:
    """The active units of the surest descriptions, no description twice."""
    chosen: dict[str, DescribedUnit] = {}
    for unit in sorted((u for u in units if u.active), key=lambda u: -u.certainty):
        if len(chosen) < count:
            chosen.setdefault(unit.description, unit)
    return list(chosen.values())


def _quoted(word: str) -> str:
    return f'"{word}"'
