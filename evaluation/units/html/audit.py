"""The page of an audit: counts and shares per layer and word of one or two networks, and every unit that matches."""

from collections.abc import Sequence

from conceptry.evaluation.drawing.html import html_text
from conceptry.evaluation.units.audit import Audit, Match
from conceptry.evaluation.units.html.layer import fill, footer, masks_button
from conceptry.evaluation.units.html.unit import DEFAULT_K, article

_RULE = (
    "A word is found as a whole, in the singular or the plural. Shares are of all units of a layer, those that are "
    "never active included. Descriptions are a model's, so a unit that matches is a place to look, not a proof."
)


def audit_page(audits: Sequence[Audit], words: Sequence[str]) -> str:
    """Render the page of one or two audits of the same words."""
    has_strips = any(match.unit.strip for audit in audits for match in audit.matches)
    found = " and ".join(
        f"{audit.count():,} of {sum(audit.units.values()):,} units of {audit.title}" for audit in audits
    )
    tools = f'<div class="tools">{masks_button()}</div>' if has_strips else ""
    title = title_of(words)
    abouts = "".join(f'<p class="about">{html_text(line)}</p>' for line in (found, *_abouts(audits)))
    body = (
        f'<header><h1>{html_text(title)}</h1>{abouts}<div class="scroll">{_by_layer(audits)}</div>'
        + (f'<div class="scroll">{_by_word(audits, words)}</div>' if len(words) > 1 else "")
        + f"</header>{tools}<main>"
        + "".join(_matches(number, audit, len(audits) > 1) for number, audit in enumerate(audits))
        + f"</main>{footer([_RULE])}"
    )
    strips = (match.unit.strip for audit in audits for match in audit.matches)
    k = max((strip.k for strip in strips if strip), default=DEFAULT_K)
    return fill(title, body, k)


def title_of(words: Sequence[str], most: int = 30) -> str:
    """Title of an audit, by the words that were looked for."""
    shown = [*words[:most], *([f"{len(words) - most} others"] if len(words) > most else [])]
    return f"Units whose description holds {' or '.join(filter(None, (', '.join(shown[:-1]), shown[-1])))}"


def layers_of(audits: Sequence[Audit]) -> list[str]:
    """The layers of all audits, in their order."""
    return list(dict.fromkeys(layer for audit in audits for layer in audit.units))


def _abouts(audits: Sequence[Audit]) -> list[str]:
    return [f"{audit.title}: {audit.about}" for audit in audits if audit.about != audit.title]


def _by_layer(audits: Sequence[Audit]) -> str:
    most = max((audit.share(layer) for audit in audits for layer in audit.units), default=0.0) or 1.0
    rows = []
    for layer in [*layers_of(audits), None]:
        cells = ""
        for k, audit in enumerate(audits):
            total = sum(audit.units.values()) if layer is None else audit.units.get(layer)
            if total is None:
                cells += "<td></td><td></td>"
                continue
            share = audit.share(layer)
            bar = f'<span class="bar{" b" if k else ""}"><i data-share="{100 * share / most:.1f}"></i></span>'
            counted = f"{audit.count(layer):,} of {total:,}"
            cells += f'<td class="count">{counted}</td><td class="wide count">{bar}{share:.1%}</td>'
        kind = ' class="total"' if layer is None else ""
        rows.append(f"<tr{kind}><td>{'all' if layer is None else html_text(layer)}</td>{cells}</tr>")
    heads = "".join(f'<th>units</th><th class="wide">{html_text(audit.title)}</th>' for audit in audits)
    return f'<table class="layers"><thead><tr><th>layer</th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _by_word(audits: Sequence[Audit], words: Sequence[str]) -> str:
    heads = "".join(f"<th>{html_text(audit.title)}</th>" for audit in audits)
    rows = "".join(
        f"<tr><td>{html_text(word)}</td>{''.join(f'<td>{audit.count(word=word):,}</td>' for audit in audits)}</tr>"
        for word in words
    )
    return f'<table class="layers"><thead><tr><th>word</th>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _matches(number: int, audit: Audit, named: bool) -> str:
    sections = ""
    for place, layer in enumerate(audit.units):
        own = [match for match in audit.matches if match.unit.layer == layer]
        if own:
            title = f"{audit.title}, {layer}" if named else layer
            share = f"{len(own):,} of {audit.units[layer]:,} units"
            units = "".join(_article(match, f"n{number}-l{place}") for match in own)
            sections += f"<section><h2>{html_text(title)} <small>{share}</small></h2>{units}</section>"
    return sections or f"<section><h2>{html_text(audit.title)}</h2><p>No unit is described so.</p></section>"


def _article(match: Match, prefix: str) -> str:
    return article(match.unit, prefix, match.words)
