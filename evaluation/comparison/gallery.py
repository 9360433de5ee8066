"""Samples of a comparison as HTML: the same sample side by side, one column a version, most in disagreement first."""

import base64
import io
from collections.abc import Sequence

from conceptry.evaluation.comparison.compared import ComparedVersions, Key
from conceptry.evaluation.comparison.samples import ComparedSample
from conceptry.evaluation.drawing.html import html_text
from conceptry.evaluation.drawing.images import image_of
from conceptry.evaluation.presenter import Shown
from conceptry.registry.versions import Version

MOST_APART, ROWS, BARS = 3, 200, 8
SIDE = 720  # pixels: larger pictures are made smaller
SMALL = 160  # pixels of the longer side: up to there a picture is shown at a size of its own
METRICS = 6  # in the table of the other samples


def most_apart(compared: ComparedVersions, samples: Sequence[ComparedSample]) -> str:
    """The few samples that versions differ on most, for a glance."""
    shown = [sample for sample in samples if sample.disagreement > 0][:MOST_APART]
    if not shown:
        return ""
    items = "".join(f"<li>{_glance(compared, sample)}</li>" for sample in shown)
    return f'<div class="card"><h2>Where they differ most</h2><ul class="most">{items}</ul></div>'


def _glance(compared: ComparedVersions, sample: ComparedSample) -> str:
    lines = []
    for version in compared.comparison.versions[:MOST_APART]:
        key = compared.comparison.key(version)
        if key in sample.metrics or key in sample.said:
            lines.append(
                f"<p><b>{html_text(compared.comparison.heading(version))}</b> {_gist(compared, sample, key)}</p>"
            )
    images = sample.explained.images if sample.explained else ()
    text = "" if images else f'<a href="#{_anchor(sample)}">{html_text(_title(sample))}</a>'
    if not images:
        return f'<div class="bare">{text}{"".join(lines)}</div>'
    return f'<a href="#{_anchor(sample)}">{_image(*images[0])}</a><div>{"".join(lines)}</div>'


def _gist(compared: ComparedVersions, sample: ComparedSample, key: Key) -> str:
    """What one version says that not all of them do; else what it says, or its numbers."""
    said = sample.said.get(key)
    if said and said.gist:
        return html_text(said.gist)
    if said and said.bars:
        names = [{name for name, _ in shown.bars} for shown in sample.said.values()]
        common = set.intersection(*names)
        own = [name for name, _ in said.bars if name not in common]
        rest = f"{len(common)} in common" if common else ""
        return html_text(" + ".join(filter(None, (rest, ", ".join(own[:BARS]))))) or "nothing"
    if said and said.text:
        return html_text(said.text)
    return _facts(compared, sample, key, 3)


def gallery(compared: ComparedVersions, samples: Sequence[ComparedSample]) -> str:
    """All samples: those that versions were asked about in full, the others by their numbers."""
    if not samples:
        return ""
    full = [sample for sample in samples if sample.said]
    rest = [sample for sample in samples if not sample.said][:ROWS]
    left = len(samples) - len(full) - len(rest)
    said = f"{len(samples)}, most in disagreement first" + (f"; {left} of the least are left out" if left else "")
    search = '<input id="search" type="search" placeholder="Filter by text" aria-label="Filter samples by text">'
    return (
        f'<section><div class="tools"><h2>The same samples side by side</h2>{search}'
        f'<span id="count" class="muted" role="status">{said}</span></div>'
        f"{''.join(_article(compared, sample) for sample in full)}{_table(compared, rest)}"
        '<p id="none" class="muted" hidden>No sample holds this text.</p></section>'
    )


def _article(compared: ComparedVersions, sample: ComparedSample) -> str:
    sides = [_explained(sample)]
    for version in compared.comparison.versions:
        sides.append(_side(compared, sample, version))
    text = html_text(_text(sample))
    about = (
        f"{sample.name}, disagreement {sample.disagreement:.2f}"
        if sample.label
        else f"disagreement {sample.disagreement:.2f}"
    )
    title = f"{html_text(sample.label or sample.name)}<small>{html_text(about)}</small>"
    return (
        f'<article class="sample" id="{_anchor(sample)}" data-text="{text}"><h3>{title}</h3>'
        f'<div class="sides">{"".join(sides)}</div></article>'
    )


def _explained(sample: ComparedSample) -> str:
    what = sample.explained or Shown()
    return f'<div class="side">{_images(what)}<p>{html_text(what.text)}</p></div>'


def _side(compared: ComparedVersions, sample: ComparedSample, version: Version) -> str:
    key = compared.comparison.key(version)
    said = sample.said.get(key, Shown())
    facts = f'<p class="facts">{_facts(compared, sample, key, METRICS)}</p>' if key in sample.metrics else ""
    others = {name for other, shown in sample.said.items() if other != key for name, _ in shown.bars}
    text = f"<p>{html_text(said.text)}</p>" if said.text else ""
    heading = html_text(compared.comparison.heading(version))
    return f'<div class="side"><h4>{heading}</h4>{text}{_bars(said, others)}{_images(said)}{facts}</div>'


def _bars(said: Shown, others: set[str]) -> str:
    """Bars of what was found; what no other version found is bold."""
    if not said.bars:
        return ""
    widest = max(abs(weight) for _, weight in said.bars) or 1.0
    signed = any(weight < 0 for _, weight in said.bars)
    rows = []
    for name, weight in said.bars[:BARS]:
        width = 100 * abs(weight) / widest
        mark = ' class="minus"' if weight < 0 else ""
        bar = f'<svg viewBox="0 0 100 9" preserveAspectRatio="none"><rect{mark} width="{width:.1f}" height="9"/></svg>'
        only = "" if name in others or not others else ' class="only"'
        number = f"{weight:+.3f}" if signed else f"{weight:.3f}"
        text = html_text(name)
        named = f'<span title="{text}">{text}</span>'
        rows.append(f"<tr{only}><td>{named}</td><td>{bar}</td><td>{number}</td></tr>")
    left = len(said.bars) - BARS
    more = f'<tr><td class="muted">and {left} more</td><td></td><td></td></tr>' if left > 0 else ""
    return f'<table class="bars">{"".join(rows)}{more}</table>'


def _images(shown: Shown) -> str:
    if not shown.images:
        return ""
    figures = []
    for caption, file in shown.images:
        small = ' class="small"' if max(image_of(file).size) <= SMALL else ""
        below = f"<figcaption>{html_text(caption)}</figcaption>" if caption else ""
        figures.append(f"<figure{small}>{_image(caption, file)}{below}</figure>")
    several = " several" if len(figures) > 2 else ""
    return f'<div class="pictures{several}">{"".join(figures)}</div>'


def _image(caption: str, file: str) -> str:
    """An image element; content that is no PNG, or larger than a page has room for, is written anew."""
    content = base64.b64decode(file)
    if not content.startswith(b"\x89PNG") or max(image_of(file).size) > SIDE:
        image = image_of(file)
        image.thumbnail((SIDE, SIDE))
        stream = io.BytesIO()
        image.save(stream, format="PNG")
        content = stream.getvalue()
    return f'<img src="data:image/png;base64,{base64.b64encode(content).decode()}" alt="{html_text(caption)}">'


def _table(compared: ComparedVersions, samples: Sequence[ComparedSample]) -> str:
    """Numbers of samples: for each metric the value by each version, where any of them differs."""
    names = [name for name in compared.shown_metrics(True) if compared.metric(name).better is not None]
    differing = [name for name in names if any(_spread(sample, name) > 0 for sample in samples)][:METRICS]
    if not samples or not differing:
        return ""
    headings = [compared.comparison.heading(v) for v in compared.comparison.versions if _has(compared, samples, v)]
    keys = [compared.comparison.key(v) for v in compared.comparison.versions if _has(compared, samples, v)]
    heads = "".join(f"<th>{html_text(name)} {compared.metric(name).arrow}</th>" for name in differing)
    rows = []
    for sample in samples:
        cells = []
        for name in differing:
            form = compared.metric(name).format
            values = [sample.metrics.get(key, {}).get(name) for key in keys]
            cells.append(" · ".join("-" if value is None else f"{value:{form}}" for value in values))
        numbers = "".join(f"<td>{html_text(cell)}</td>" for cell in cells)
        title = html_text(_title(sample))
        text = html_text(_text(sample))
        rows.append(f'<tr data-text="{text}"><td>{title}</td><td>{sample.disagreement:.2f}</td>{numbers}</tr>')
    order = html_text(" · ".join(headings))
    head = f"<tr><th>other samples, each as {order}</th><th>disagreement</th>{heads}</tr>"
    return f'<div class="scroll"><table class="rest"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'


def _has(compared: ComparedVersions, samples: Sequence[ComparedSample], version: Version) -> bool:
    return any(compared.comparison.key(version) in sample.metrics for sample in samples)


def _facts(compared: ComparedVersions, sample: ComparedSample, key: Key, most: int) -> str:
    """Metrics of a sample, those that versions differ on first and bold."""
    own = sample.metrics.get(key, {})
    differ = [name for name in own if _spread(sample, name) > 0 and compared.metric(name).better is not None]
    parts = [f"{html_text(name)} <b>{own[name]:{compared.metric(name).format}}</b>" for name in differ[:most]]
    return ", ".join(parts)


def _spread(sample: ComparedSample, name: str) -> float:
    values = [metrics[name] for metrics in sample.metrics.values() if name in metrics]
    return max(values) - min(values) if len(values) > 1 else 0.0


def _title(sample: ComparedSample) -> str:
    return f"{sample.name} ({sample.label})" if sample.label else sample.name


def _text(sample: ComparedSample) -> str:
    """What the filter looks at."""
    shown = [*([sample.explained] if sample.explained else []), *sample.said.values()]
    words = [part for each in shown for part in (each.text, *(name for name, _ in each.bars))]
    return " ".join((_title(sample), *words))


def _anchor(sample: ComparedSample) -> str:
    return f"s-{base64.b16encode(sample.name.encode()).decode().lower()}"
