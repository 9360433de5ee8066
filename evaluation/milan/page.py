"""A layer's units with their exemplars and descriptions as one HTML file that needs no network, and an index of them.

`page.html` is filled with plain HTML, so that a page can be read, searched and printed where scripts are off; its
script adds the search, the order and the large pictures. All text from outside is escaped; see `evaluation.pages`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from conceptry.evaluation import pages
from conceptry.evaluation.milan.described import summary
from conceptry.evaluation.milan.unit_html import DrawnUnit, pictures_in
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
        f"<h1>{pages.shown(layer)}</h1>",
        f'<p class="about">{pages.shown(summary(units))}</p><p class="about">{pages.shown(about)}</p>',
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
        "title": pages.shown(title), "body": body, "k": str(k),
        "data": pages.embedded(json.dumps(data, ensure_ascii=False)),
    }  # fmt: skip
    return pages.fill("conceptry.evaluation.milan", "page.html", known)


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
        f'<li><button class="word" aria-pressed="false" data-word="{escape(word)}">{pages.shown(word)}'
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
        text = pages.shown(to.name)
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
    return f"<footer>{''.join(f'<p>{pages.shown(sentence)}</p>' for sentence in sentences)}</footer>"
