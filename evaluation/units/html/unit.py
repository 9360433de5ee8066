"""The HTML of a described unit: number, description and scores, its strip of exemplars, and what opens below."""

import base64
import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html import escape

from conceptry.evaluation.drawing.html import html_text
from conceptry.evaluation.drawing.strips import CELL, Strip, strip
from conceptry.evaluation.units.records import UnitDescription
from conceptry.models.milan.words import split_matches

CROWD, SMALL = 512, 80  # with more units than this on a page, exemplars are at most so large
DEFAULT_K = 15  # exemplars that a page without strips is laid out for
_SCORES = {
    "score": ("score", "what ranked the description"),
    "log_likelihood": ("log p", "log p(text | pictures)"),
    "pmi": ("PMI", "log p(text | pictures) - log p(text)"),
}


def draw_strips(units: Iterable[UnitDescription], count: int) -> Iterator[UnitDescription]:
    """Yield each of `count` units with a strip in place of its exemplars, of which a few are in memory at once."""
    cell = CELL if count <= CROWD else SMALL
    rest = iter(units)
    with ThreadPoolExecutor() as threads:
        while few := list(itertools.islice(rest, 16)):
            yield from threads.map(lambda unit: with_strip(unit, cell), few)


def with_strip(unit: UnitDescription, cell: int = CELL) -> UnitDescription:
    """Return the unit with a strip in place of its exemplars; an inactive one has none to show."""
    exemplars = unit.exemplars
    if exemplars is None or not unit.active:
        return replace(unit, exemplars=None)
    made = replace(
        strip(exemplars.images, exemplars.masks, cell),
        ids=() if exemplars.ids is None else tuple(exemplars.ids.tolist()),
        activations=() if exemplars.activations is None else tuple(exemplars.activations.tolist()),
    )
    return replace(unit, exemplars=None, strip=made)


def exemplars_in(units: Iterable[UnitDescription]) -> int:
    """The number of exemplars in the strips of units."""
    return next((unit.strip.k for unit in units if unit.strip is not None), DEFAULT_K)


def article(unit: UnitDescription, prefix: str = "unit", words: Sequence[str] = (), page: str = "") -> str:
    """The HTML of a unit.

    Args:
        unit: the unit, with its strip.
        prefix: begins the ids of its elements, which are addresses on the page.
        words: are marked in its description.
        page: URL of the page that its number leads to, "" for this one.
    """
    name = f"{prefix}-{unit.unit}"
    address = f"{page}#unit-{unit.unit}" if page else f"#{name}"
    data = {"unit": unit.unit, "score": _plain(unit.score), "activation": _plain(unit.activation)}
    attributes = "".join(f' data-{key}="{escape(str(value))}"' for key, value in data.items() if value != "")
    kind, text = ("unit", unit.description) if unit.active else ("unit dead", "never active")
    pieces = ((html_text(piece), is_word) for piece, is_word in split_matches(text, words))
    description = "".join(f"<mark>{piece}</mark>" if is_word else piece for piece, is_word in pieces)
    facts = [f'<span title="{title}">{key} {_signed(value)}</span>' for key, title, value in _facts(unit)]
    more = _more(unit) if unit.active else ""
    if more:
        label = f"{len(unit.alternatives)} more" if unit.alternatives else "larger"
        facts.append(
            f'<button class="open" aria-expanded="false" aria-controls="{name}-more" '
            f'aria-label="More of unit {unit.unit}">{label}</button>'
        )
    return (
        f'<article class="{kind}" id="{name}"{attributes}><div>'
        f'<h3><a href="{address}" title="address of unit {unit.unit}">{unit.unit}</a>'
        f'<span class="text">{description}</span></h3>'
        f'<div class="facts">{"".join(facts)}</div></div>'
        f"{_strip(unit)}"
        f'{f"""<div class="more" id="{name}-more">{more}</div>""" if more else ""}</article>'
    )


def _strip(unit: UnitDescription) -> str:
    strip = unit.strip
    if strip is None:
        return "<div></div>"
    size = f'width="{strip.k * strip.width}" height="{strip.height}" data-k="{strip.k}"'
    alt = f"The {strip.k} pictures that drive unit {unit.unit} most, the strongest first"
    over = "" if strip.overlay is None else f'<img class="overlay" {size} alt="" src="{_url(strip.overlay)}">'
    return f'<div class="strip"><span><img {size} alt="{alt}" src="{_url(strip.image)}">{over}</span></div>'


def _more(unit: UnitDescription) -> str:
    """HTML that opens below a unit: its alternatives with scores, and a place for the large images."""
    first = {"text": unit.description} | {name: getattr(unit, name) for name in _SCORES}
    rows = [first, *unit.alternatives]
    columns = [name for name in _SCORES if any(row.get(name) is not None for row in rows)]
    table = ""
    if unit.alternatives:
        head = "".join(f'<th title="{_SCORES[name][1]}">{_SCORES[name][0]}</th>' for name in columns)
        cells = [
            f"<td>{html_text(row['text'])}</td>" + "".join(f"<td>{_signed(row.get(name))}</td>" for name in columns)
            for row in rows
        ]
        body = "".join(f"<tr{' class=said' if not k else ''}>{row}</tr>" for k, row in enumerate(cells))
        table = f"<table><thead><tr><th>descriptions</th>{head}</tr></thead><tbody>{body}</tbody></table>"
    large = "" if unit.strip is None else _large(unit.strip)
    return f"<div>{table}</div>{large}" if table or large else ""


def _large(strip: Strip) -> str:
    ids = " ".join(map(str, strip.ids))
    activations = " ".join(map(_signed, strip.activations))
    return f'<div class="large" data-ids="{ids}" data-activations="{activations}"></div>'


def _facts(unit: UnitDescription) -> list[tuple[str, str, float]]:
    known = (
        ("score", "what ranked this description", unit.score),
        ("activation", "of the strongest exemplar", unit.activation),
    )
    return [(key, title, value) for key, title, value in known if value is not None and unit.active]


def _url(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _signed(value: float | None) -> str:
    if value is None:
        return ""
    text = f"{value:,.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:#.3g}".rstrip(".")
    return text.replace("-", "\N{MINUS SIGN}")
