"""The HTML of a described unit: number, description and scores, its strip of exemplars, and what opens below."""

import base64
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from html import escape

from conceptry.evaluation.drawing import html as pages
from conceptry.evaluation.drawing.strips import CELL, Strip, strip
from conceptry.evaluation.units.records import DescribedUnit
from conceptry.models.milan.words import marked

CROWD, SMALL = 512, 80  # with more units than this on a page, pictures are at most so large
_SCORES = {
    "score": ("score", "what ranked the description"),
    "log_likelihood": ("log p", "log p(text | pictures)"),
    "pmi": ("PMI", "log p(text | pictures) - log p(text)"),
}


@dataclass(frozen=True)
class DrawnUnit:
    """A unit without its exemplars, and its HTML, which holds them."""

    unit: DescribedUnit
    html: str


def draw_units(units: Iterable[DescribedUnit], count: int) -> Iterator[DrawnUnit]:
    """Each of `count` units drawn. Exemplars of a few are in memory at once, however many there are."""
    cell = CELL if count <= CROWD else SMALL

    def drawn(unit: DescribedUnit) -> DrawnUnit:
        exemplars = unit.exemplars if unit.active else None
        html = article(unit, exemplars and strip(exemplars.images, exemplars.masks, cell))
        return DrawnUnit(replace(unit, exemplars=None), html)

    rest = iter(units)
    with ThreadPoolExecutor() as threads:
        while few := list(itertools.islice(rest, 16)):
            yield from threads.map(drawn, few)


def pictures_in(articles: Iterable[str]) -> int:
    """How many pictures the strips in the HTML of units have."""
    found = (re.search(r' data-k="(\d+)"', article) for article in articles)
    return next((int(match[1]) for match in found if match), 15)


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
