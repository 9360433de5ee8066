"""The And-Or graph as one interactive HTML file that needs no network: `graph_page.html` filled with a graph.

Names of players come from outside. They reach the page as JSON alone, in which no character can end the element that
holds it, and the page shows them as text.
"""

import json
from pathlib import Path

from conceptry.evaluation.drawing import html
from conceptry.evaluation.harsanyi.graph.figure import highlighted
from conceptry.models.harsanyi.graph import AndOrGraph


def page(graph: AndOrGraph, title: str | None = None, highlight: str | None = None) -> str:
    """The page as text; `title` None shows the target, `highlight` is what stands out when it opens."""
    title = graph.heading(title)
    chosen = highlighted(graph, highlight)
    pinned = None if chosen is None else {"name": highlight, "rows": sorted(chosen)}
    parts = {
        "title": html.html_text(title),
        "graph": html.script_json(graph.to_json()),
        "pinned": html.html_text(json.dumps(pinned)),
    }
    return html.fill("conceptry.evaluation.harsanyi.graph", "page.html", parts)


def write_page(graph: AndOrGraph, path: str | Path, title: str | None = None, highlight: str | None = None) -> None:
    """Write the page of `graph` to the file `path`."""
    html.write(page(graph, title, highlight), path)
