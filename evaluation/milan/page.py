"""A layer's units with their exemplars and descriptions as one HTML file that needs no network, and an index of them.

`page.html` is filled with plain HTML, so that a page can be read, searched and printed where scripts are off; its
script adds the search, the order and the large pictures. All text from outside is escaped; see `evaluation.pages`.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html import escape

from conceptry.evaluation import pages
from conceptry.evaluation.milan.described import DescribedUnit, summary
from conceptry.evaluation.milan.overlay import CELL, Strip, strip
from conceptry.models.milan.words import marked, word_counts

MOST_WORDS = 28
CROWD, SMALL = 512, 80  # with more units than this on a page, pictures are at most so large
_SCORES = {
    "score": ("score", "what ranked the description"),
    "log_likelihood": ("log p", "log p(text | pictures)"),
    "pmi": ("PMI", "log p(text | pictures) - log p(text)"),
}


@dataclass(frozen=True)
class Link:
    """A page beside this one: its file name and what it is called."""

    file: str
    name: str


def layer_page(layer: str, units: Sequence[DescribedUnit], about: str, notes: Sequence[str] = ()) -> str:
    """The page of a layer. about: a line on what was described, and by what; notes: sentences below the units."""
    active = [unit for unit in units if unit.active]
    words = word_counts(unit.description for unit in active)
    header = [
        navigation(),
        f"<h1>{pages.shown(layer)}</h1>",
        f'<p class="about">{pages.shown(summary(units))}</p><p class="about">{pages.shown(about)}</p>',
        _word_buttons(words),
    ]
    has_activations = any(unit.activation is not None for unit in units)
    has_masks = any(unit.exemplars is not None for unit in active)
    parts = [
        f"<header>{''.join(header)}</header>",
        _tools(has_activations, has_masks),
        f'<main><h2 class="unseen">Units</h2><div id="units">{"".join(unit_articles(units))}</div>',
        '<p id="none" hidden>No unit is described so.</p></main>',
        footer([*_reading(has_masks), *notes]),
    ]
    k = max((len(unit.exemplars.images) for unit in units if unit.exemplars is not None), default=15)
    return fill(layer, "\n".join(parts), k)


def fill(title: str, body: str, k: int, data: object = None) -> str:
    """The template with a body of HTML; k: pictures of a strip; data: JSON-ready, for the script."""
    known = {
        "title": pages.shown(title), "body": body, "k": str(k),
        "data": pages.embedded(json.dumps(data, ensure_ascii=False)),
    }  # fmt: skip
    return pages.fill("conceptry.evaluation.milan", "page.html", known)


def unit_articles(units: Sequence[DescribedUnit]) -> list[str]:
    """The HTML of each unit."""
    cell = CELL if len(units) <= CROWD else SMALL

    def drawn(unit: DescribedUnit) -> str:
        exemplars = unit.exemplars if unit.active else None
        return article(unit, exemplars and strip(exemplars.images, exemplars.masks, cell))

    with ThreadPoolExecutor() as threads:
        return list(threads.map(drawn, units))


def article(unit: DescribedUnit, pictures: Strip | None, prefix: str = "unit", words: Sequence[str] = ()) -> str:
    """The HTML of a unit. prefix: begins its ids, which are addresses on the page; words: are marked in its text."""
    name = f"{prefix}-{unit.unit}"
    data = {"unit": unit.unit, "score": _plain(unit.score), "activation": _plain(unit.activation)}
    attributes = "".join(f' data-{key}="{escape(str(value))}"' for key, value in data.items() if value != "")
    kind, text = ("unit", unit.description) if unit.active else ("unit dead", "never active")
    pieces = ((pages.shown(piece), is_word) for piece, is_word in marked(text, words))
    said = "".join(f"<mark>{piece}</mark>" if is_word else piece for piece, is_word in pieces)
    facts = [f'<span title="{title}">{key} {_signed(value)}</span>' for key, title, value in _facts(unit)]
    more = _more(unit, pictures) if unit.active else ""
    if more:
        label = f"{len(unit.alternatives)} more" if unit.alternatives else "larger"
        facts.append(
            f'<button class="open" aria-expanded="false" aria-controls="{name}-more" '
            f'aria-label="More of unit {unit.unit}">{label}</button>'
        )
    return (
        f'<article class="{kind}" id="{name}"{attributes}><div>'
        f'<h3><a href="#{name}" title="address of unit {unit.unit}">{unit.unit}</a>'
        f'<span class="text">{said}</span></h3>'
        f'<div class="facts">{"".join(facts)}</div></div>'
        f"{_strip(unit, pictures)}"
        f'{f"""<div class="more" id="{name}-more">{more}</div>""" if more else ""}</article>'
    )


def _strip(unit: DescribedUnit, pictures: Strip | None) -> str:
    if pictures is None:
        return "<div></div>"
    size = f'width="{pictures.k * pictures.width}" height="{pictures.height}" data-k="{pictures.k}"'
    alt = f"The {pictures.k} pictures that drive unit {unit.unit} most, the strongest first"
    over = "" if pictures.overlay is None else f'<img class="overlay" {size} alt="" src="{_url(pictures.overlay)}">'
    return f'<div class="strip"><span><img {size} alt="{alt}" src="{_url(pictures.picture)}">{over}</span></div>'


def _more(unit: DescribedUnit, pictures: Strip | None) -> str:
    """What opens below a unit: its alternatives with scores, and a place for the large pictures."""
    said = {"text": unit.description} | {name: getattr(unit, name) for name in _SCORES}
    rows = [said, *unit.alternatives]
    columns = [name for name in _SCORES if any(row.get(name) is not None for row in rows)]
    table = ""
    if unit.alternatives:
        head = "".join(f'<th title="{_SCORES[name][1]}">{_SCORES[name][0]}</th>' for name in columns)
        cells = [
            f"<td>{pages.shown(row['text'])}</td>" + "".join(f"<td>{_signed(row.get(name))}</td>" for name in columns)
            for row in rows
        ]
        body = "".join(f"<tr{' class=said' if not k else ''}>{row}</tr>" for k, row in enumerate(cells))
        table = f"<table><thead><tr><th>descriptions</th>{head}</tr></thead><tbody>{body}</tbody></table>"
    large = ""
    if pictures is not None:
        known = unit.exemplars
        ids = "" if known is None or known.ids is None else " ".join(str(each) for each in known.ids.tolist())
        values = None if known is None else known.activations
        activations = "" if values is None else " ".join(_signed(value) for value in values.tolist())
        large = f'<div class="large" data-ids="{ids}" data-activations="{activations}"></div>'
    return f"<div>{table}</div>{large}" if table or large else ""


def _facts(unit: DescribedUnit) -> list[tuple[str, str, float]]:
    known = (
        ("score", "what ranked this description", unit.score),
        ("activation", "of the strongest exemplar", unit.activation),
    )
    return [(key, title, value) for key, title, value in known if value is not None and unit.active]


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


def _url(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _signed(value: float | None) -> str:
    if value is None:
        return ""
    text = f"{value:,.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:#.3g}".rstrip(".")
    return text.replace("-", "\N{MINUS SIGN}")
