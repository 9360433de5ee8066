"""Pages of described units: one for each layer with its units, and an index of the layers, as self-contained HTML.

`page.html` is filled with plain HTML, so that a page can be read and printed where scripts are off; its script adds the
search, the order and the large images. The index says what each layer is described by, shows its clearest units and
searches all of them. All text from outside is escaped, see `drawing.html`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote, urlencode

from conceptry.evaluation.drawing import html
from conceptry.evaluation.drawing.html import html_text
from conceptry.evaluation.units.html.unit import article, exemplars_in
from conceptry.evaluation.units.records import UnitDescription, summary
from conceptry.models.errors import plural, visible
from conceptry.models.milan.words import word_counts

MOST_WORDS = 28


@dataclass(frozen=True)
class Link:
    """A page beside this one: its file name and what it is called."""

    file: str
    name: str


def layer_page(
    layer: str,
    units: Sequence[UnitDescription],
    about: str,
    notes: Sequence[str] = (),
    links: tuple[Link | None, Link | None, Link | None] = (None, None, None),
) -> str:
    """Render the page of a layer.

    Args:
        layer: its name.
        units: its units, with their strips.
        about: a line on what was described, and by what.
        notes: sentences below the units.
        links: to the index, and to the pages before and after this one.
    """
    active = [unit for unit in units if unit.active]
    header = [
        _navigation(*links),
        f"<h1>{html_text(layer)}</h1>",
        f'<p class="about">{html_text(summary(units))}</p><p class="about">{html_text(about)}</p>',
        _word_buttons(word_counts(unit.description for unit in active)),
    ]
    has_activations = any(unit.activation is not None for unit in active)
    has_masks = any(unit.strip is not None and unit.strip.overlay is not None for unit in units)
    parts = [
        f"<header>{''.join(header)}</header>",
        _tools(has_activations, has_masks),
        f'<main><h2 class="unseen">Units</h2><div id="units">{"".join(map(article, units))}</div>',
        '<p id="none" hidden>No unit is described so.</p></main>',
        footer([*_reading(has_masks), *notes]),
    ]
    return fill(layer, "\n".join(parts), exemplars_in(units))


def fill(title: str, body: str, k: int, data: object = None) -> str:
    """Fill the template with a body of HTML; k: exemplars of a strip; data: JSON-ready, for the script."""
    known = {
        "title": html_text(title), "body": body, "k": str(k),
        "data": html.script_json(json.dumps(data, ensure_ascii=False)),
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
        f'<li><button class="word" aria-pressed="false" data-word="{escape(word)}">{html_text(word)}'
        f"<small>{count}</small></button></li>"
        for word, count in shown
    ]
    left = len(words) - len(shown)
    more = f"<li><small>and {left} more</small></li>" if left else ""
    return f'<ul class="words few-on-small"><li class="label">Words</li>{"".join(items)}{more}</ul>'


def _navigation(index: Link | None, before: Link | None, after: Link | None) -> str:
    """Links to the pages beside this one, in an element that is there even without any."""

    def link(to: Link | None, mark: str, kind: str) -> str:
        if to is None:
            return ""
        text = html_text(to.name)
        text = f"{mark} {text}" if kind != "next" else f"{text} {mark}"
        return f'<a href="{escape(to.file)}" rel="{kind}">{text}</a>'

    pair = link(before, "\u2190", "prev") + link(after, "\u2192", "next")
    parts = link(index, "\u2191", "up") + (f'<span class="pages">{pair}</span>' if pair else "")
    return f'<nav aria-label="Layers">{parts}</nav>'


def _reading(has_masks: bool) -> list[str]:
    images = (
        "Each strip shows the pictures that drive a unit most, the strongest first. What is bright and outlined is "
        "where the unit rises above its level; the rest is in shade."
    )
    search = (
        "Search: words that must be there, -words that must not, \u201cwhole words\u201d in quotation marks, numbers "
        "of units. Keys: / searches, j and k or the arrows move, Enter opens, m hides the masks."
    )
    return [images, search] if has_masks else [search]


def footer(sentences: Iterable[str]) -> str:
    """Sentences below a page."""
    return f"<footer>{''.join(f'<p>{html_text(sentence)}</p>' for sentence in sentences)}</footer>"


SHOWN, WORDS = 3, 10  # of each layer


@dataclass(frozen=True)
class LayerEntry:
    """A layer, the file of its page, its units, and the clearest of them with their strips."""

    layer: str
    file: str
    units: Sequence[UnitDescription]
    clearest: Sequence[UnitDescription]


def index_page(title: str, about: str, entries: Sequence[LayerEntry], notes: Sequence[str]) -> str:
    """Render the index: a table of the layers, below it the clearest units of each, or what is searched for."""
    rows = "".join(_row(entry) for entry in entries)
    samples = "".join(_sample(number, entry) for number, entry in enumerate(entries))
    total = sum(len(entry.units) for entry in entries)
    counted = f"{plural(total, 'unit')} of {plural(len(entries), 'layer')}"
    body = (
        f'<header><h1>{html_text(title)}</h1><p class="about">{counted}</p>'
        f'<p class="about">{html_text(about)}</p></header>'
        f'<div class="tools" role="search">{search_box("Words, -words, in all layers")}{masks_button()}'
        '<span id="count" role="status"></span></div>'
        '<main><ul id="hits"></ul><div id="overview"><div class="scroll"><table class="layers"><thead><tr>'
        '<th>layer</th><th>units</th><th class="less">never active</th><th class="less">different descriptions</th>'
        f'<th class="wide">frequent words</th></tr></thead><tbody>{rows}</tbody></table></div>{samples}</div></main>'
        f"{footer(notes)}"
    )
    found = [
        {
            "name": visible(entry.layer),
            "file": quote(entry.file),
            "units": [[unit.unit, visible(unit.description)] for unit in entry.units if unit.active],
        }
        for entry in entries
    ]
    k = exemplars_in(unit for entry in entries for unit in entry.clearest)
    return fill(title, body, k, {"layers": found})


def _row(entry: LayerEntry) -> str:
    active = [unit for unit in entry.units if unit.active]
    counts = list(word_counts(unit.description for unit in active).items())[:WORDS]
    words = "".join(
        f'<li><a href="{quote(entry.file)}#{urlencode({"q": _quoted(word)})}">{html_text(word)}'
        f"<small>{count}</small></a></li>"
        for word, count in counts
    )
    numbers = (len(entry.units), len(entry.units) - len(active), len({unit.description for unit in active}))
    cells = "".join(f"<td{' class=less' if k else ''}>{number:,}</td>" for k, number in enumerate(numbers))
    link = f'<a href="{quote(entry.file)}">{html_text(entry.layer)}</a>'
    return f'<tr><td>{link}</td>{cells}<td class="wide"><ul class="words">{words}</ul></td></tr>'


def _sample(number: int, entry: LayerEntry) -> str:
    found = "".join(article(unit, f"layer{number}", page=quote(entry.file)) for unit in entry.clearest)
    more = f'<a href="{quote(entry.file)}">all {len(entry.units):,} units</a>'
    return f"<section><h2>{html_text(entry.layer)} <small>{more}</small></h2>{found}</section>"


def clearest(units: Sequence[UnitDescription], count: int = SHOWN) -> list[UnitDescription]:
    """The active units of the surest descriptions, no description twice."""
    chosen: dict[str, UnitDescription] = {}
    for unit in sorted((u for u in units if u.active), key=lambda u: -u.certainty):
        if len(chosen) < count:
            chosen.setdefault(unit.description, unit)
    return list(chosen.values())


def _quoted(word: str) -> str:
    return f'"{word}"'
