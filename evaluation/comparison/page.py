"""Page of a comparison, one self-contained HTML file: verdicts, scores, a chart, and samples side by side.

All text from outside is escaped, see `drawing.html`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from conceptry.evaluation.comparison.chart import Point, chart
from conceptry.evaluation.comparison.compared import OTHER_REVISIONS, ComparedVersions, Key
from conceptry.evaluation.comparison.gallery import gallery, most_apart
from conceptry.evaluation.comparison.leaders import RULE
from conceptry.evaluation.comparison.samples import ComparedSample
from conceptry.evaluation.comparison.verdicts import MOST, Verdict, verdicts
from conceptry.evaluation.drawing import html
from conceptry.evaluation.drawing.html import html_text
from conceptry.registry.promotion import Promotion
from conceptry.registry.versions import Version

VERDICTS = 4  # that stand open; the others are below the samples
LONG = 26  # letters of a hyperparameter's value


@dataclass(frozen=True)
class PageParts:
    """What a page shows beyond the comparison: samples, promotions by name of the model, links to runs, notes.

    links: the address of each version's run, where there is a server that shows it.
    """

    samples: Sequence[ComparedSample] = ()
    promotions: Mapping[str, Sequence[Promotion]] = field(default_factory=dict)
    links: Mapping[Key, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def comparison_page(compared: ComparedVersions, parts: PageParts) -> str:
    """Render the page."""
    comparison = compared.comparison
    names = ", ".join(dict.fromkeys(v.name for v in comparison.versions))
    title = f"{names}: versions compared"
    found = verdicts(compared)
    top = f'<div class="scroll">{_scores(compared, parts.links)}</div><aside>{_aside(compared, parts)}</aside>'
    body = [
        f"<header><h1>{html_text(names)}<small>{html_text(_about(compared))}</small></h1>",
        f'<ul class="verdicts">{"".join(_opening(compared, found, parts.samples))}</ul></header>',
        f'<main><div class="top">{top}</div>{gallery(compared, parts.samples)}</main>',
        f"<footer>{_footer(compared, found, parts)}</footer>",
    ]
    known = {"title": html_text(title), "body": "\n".join(body)}
    return html.fill("conceptry.evaluation.comparison", "page.html", known)


def _about(compared: ComparedVersions) -> str:
    comparison = compared.comparison
    method = comparison.versions[0].method
    if comparison.data is None:
        return f"{method}; {'nothing is measured yet' if not comparison.metrics else 'measured on different data'}"
    record = next(iter(compared.records.values()), None)
    count = f"{record['count']} {record['unit']} of " if record else ""
    return f"{method}; measured on {count}{comparison.data} (SHA-256 {(comparison.digest or '')[:8]})"


def _opening(compared: ComparedVersions, found: Sequence[Verdict], samples: Sequence[ComparedSample]) -> list[str]:
    if not found:
        return [f"<li>{html_text(_without_verdict(compared))}</li>"]
    sentences = [f"<li>{_sentence(compared, verdict)}</li>" for verdict in found[:VERDICTS]]
    if len(found) > VERDICTS:
        sentences.append(f'<li class="muted">{len(found) - VERDICTS} more are at the end of the page.</li>')
    return sentences


def _without_verdict(compared: ComparedVersions) -> str:
    if not compared.has_one_meaning:
        return f"Nothing can be said: {OTHER_REVISIONS}."
    if len(compared.comparison.versions) < 2:
        return "There is one version alone: nothing to compare it with."
    missing = [v for v in compared.comparison.versions if compared.comparison.key(v) not in compared.samples]
    which = ", ".join(f"conceptry evaluate {v.name}/{v.version}" for v in missing)
    return f"Nothing can be said of what is beyond chance: not measured sample by sample on shared data; run {which}."


def _sentence(compared: ComparedVersions, verdict: Verdict) -> str:
    heading = compared.comparison.heading
    version, reference = (f"<b>{html_text(heading(v))}</b>" for v in (verdict.version, verdict.reference))
    aliases = f" ({html_text(', '.join(verdict.reference.aliases))})" if verdict.reference.aliases else ""
    parts = []
    if verdict.better:
        parts.append(f'<span class="good">better</span> than {reference}{aliases} in {_amounts(verdict.better)}')
    if verdict.worse:
        than = "" if verdict.better else f" than {reference}{aliases}"
        parts.append(f'<span class="bad">worse</span>{than} in {_amounts(verdict.worse)}')
    if not parts:
        return f"{version} and {reference}{aliases} do not differ in any metric beyond chance."
    same = f' <span class="muted">No difference beyond chance in {html_text(", ".join(verdict.same))}.</span>'
    return f"{version} is {'; '.join(parts)}.{same if verdict.same else ''}"


def _amounts(metrics: Sequence[tuple[str, str]]) -> str:
    shown = [f'{html_text(name)} <span class="amount">by {html_text(much)}</span>' for name, much in metrics[:MOST]]
    more = f" and {len(metrics) - MOST} more" if len(metrics) > MOST else ""
    return ", ".join(shown) + more


def _scores(compared: ComparedVersions, links: Mapping[Key, str]) -> str:
    comparison = compared.comparison
    heads = "".join(f"<th>{_head(compared, v, links)}</th>" for v in comparison.versions)
    rows = []
    for place, name in enumerate(comparison.differing):
        last = " last" if place == len(comparison.differing) - 1 else ""
        cells = "".join(f"<td>{_value(v.params.get(name, ''))}</td>" for v in comparison.versions)
        rows.append(f'<tr class="param{last}"><th>{html_text(name)}</th>{cells}</tr>')
    for name in compared.shown_metrics():
        read = compared.metric(name)
        cells = "".join(f"<td>{_score(compared, v, name)}</td>" for v in comparison.versions)
        title = f'<span title="{html_text(read.meaning)}">{html_text(name)}</span> {read.arrow}'
        rows.append(f"<tr><th>{title}</th>{cells}</tr>")
    return f'<table class="scores"><thead><tr><th></th>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _head(compared: ComparedVersions, version: Version, links: Mapping[Key, str]) -> str:
    heading = html_text(compared.comparison.heading(version))
    if link := links.get(compared.comparison.key(version)):
        heading = f'<a href="{escape(link)}">{heading}</a>'
    return f"{heading}<small>{html_text(', '.join(version.aliases)) or '&nbsp;'}</small>"


def _value(text: str) -> str:
    short = text if len(text) <= LONG else f"…{text[1 - LONG :]}"
    return f'<span title="{html_text(text)}">{html_text(short)}</span>'


def _score(compared: ComparedVersions, version: Version, name: str) -> str:
    value = compared.comparison.scores[compared.comparison.key(version)].get(name)
    if value is None:
        return '<span class="muted">-</span>'
    form = compared.metric(name).format
    text = html_text(f"{value:{form}}")
    if compared.comparison.key(version) in compared.leaders(name):
        text = f'<b class="lead">{text}</b>'
    found = compared.interval(version, name)
    return text + (f"<small>[{found.low:{form}}, {found.high:{form}}]</small>" if found else "")


def _aside(compared: ComparedVersions, parts: PageParts) -> str:
    return "".join(filter(None, (_charts(compared, parts), most_apart(compared, parts.samples))))


def _charts(compared: ComparedVersions, parts: PageParts) -> str:
    names = compared.shown_metrics() if compared.comparison.comparable else []
    if not names:
        return ""
    first = next((name for name in names if compared.leaders(name)), names[0])
    options, figures = [], []
    for name in names:
        chosen, hidden = (" selected", "") if name == first else ("", " hidden")
        arrow = compared.metric(name).arrow
        options.append(f'<option value="{html_text(name)}"{chosen}>{html_text(name)} {arrow}</option>')
        drawn = chart(_points(compared, parts, name), compared.metric(name).format, f"{name} over versions")
        figures.append(f'<figure data-chart="{html_text(name)}"{hidden}>{drawn}</figure>')
    select = f'<select id="metric" aria-label="Metric of the chart">{"".join(options)}</select>'
    title = f"<h2>{html_text(first)} over versions</h2>" if len(names) == 1 else "<h2>Over versions</h2>"
    return f'<div class="card"><div class="head">{title}{select}</div>{"".join(figures)}</div>'


def _points(compared: ComparedVersions, parts: PageParts, name: str) -> list[Point]:
    points = []
    for version in compared.comparison.versions:
        value = compared.comparison.scores[compared.comparison.key(version)].get(name)
        if value is None:
            continue
        given = [p.alias for p in parts.promotions.get(version.name, ()) if p.version == version.version]
        aliases = dict.fromkeys((*version.aliases, *given))
        marks = tuple(f"{'▲' if alias in version.aliases else '△'} {alias}" for alias in aliases)
        found = compared.interval(version, name)
        low, high = (found.low, found.high) if found else (None, None)
        points.append(Point(compared.comparison.heading(version), version.name, value, low, high, marks))
    return points


def _footer(compared: ComparedVersions, found: Sequence[Verdict], parts: PageParts) -> str:
    lines = [
        f"Brackets: 95 % interval of a mean over samples, by the bootstrap; {RULE}, by the paired difference on the "
        "same samples. Metrics without brackets are no means over samples. ▲ has the alias now, △ had it. ↑ higher, ↓ "
        "lower is better. Disagreement: spread over versions in standard deviations, mean over metrics."
    ]
    notes = [
        *parts.notes,
        *(
            f"{compared.comparison.heading(v)}: {note}"
            for v in compared.comparison.versions
            for note in compared.records.get(compared.comparison.key(v), {}).get("notes", ())
        ),
    ]
    rest = "".join(f"<li>{_sentence(compared, verdict)}</li>" for verdict in found[VERDICTS:])
    runs = "".join(f"<li>{_run(compared, v, parts.links)}</li>" for v in compared.comparison.versions)
    return "".join(
        (
            f"<ul>{rest}</ul>" if rest else "",
            *(f"<p>{html_text(line)}</p>" for line in lines),
            f"<p>Notes</p><ul>{''.join(f'<li>{html_text(note)}</li>' for note in notes)}</ul>" if notes else "",
            f"<p>Runs</p><ul>{runs}</ul>",
        )
    )


def _run(compared: ComparedVersions, version: Version, links: Mapping[Key, str]) -> str:
    heading = html_text(f"{version.name}/{version.version}")
    link = links.get(compared.comparison.key(version))
    run = (
        f'<a href="{escape(link)}">run {html_text(version.run_id)}</a>' if link else f"run {html_text(version.run_id)}"
    )
    show = html_text(f"conceptry ui {version.name}/{version.version}")
    return f"{heading}: {run}, registered {version.created:%Y-%m-%d %H:%M}{'' if link else f' ({show} shows it)'}"
