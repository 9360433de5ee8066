"""The And-Or graph as one interactive HTML file that needs no network: `graph_page.html` filled with a graph.

Names of players come from outside. They reach the page as JSON alone, in which no character can end the element that
holds it, and the page shows them as text. Its Content-Security-Policy allows no address, and only the very script and
style of the template, by their SHA-256; so markup in a name could not run even if it became markup.
"""

import base64
import hashlib
import html
import re
from importlib import resources
from pathlib import Path

from conceptry.models.harsanyi.graph import AndOrGraph

# In JSON these stand in strings alone, where their escapes mean the same.
ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def page(graph: AndOrGraph, title: str | None = None) -> str:
    """The page as text; `title` None shows the target."""
    template = resources.files("conceptry.evaluation.harsanyi").joinpath("graph_page.html").read_text("utf-8")
    parts = {
        "policy": _policy(template),
        "title": html.escape(_flat(f"Patterns behind {graph.target}" if title is None else title)),
        "graph": graph.to_json().translate(ESCAPES),
    }
    # In one pass, so that a name like {{title}} stays what it is.
    filled = re.sub(r"\{\{(\w+)\}\}", lambda field: parts[field[1]], template)
    return filled.encode(errors="replace").decode()  # half a pair of surrogates is no text that a file can hold


def write_page(graph: AndOrGraph, path: str | Path, title: str | None = None) -> None:
    """Write the page of `graph` to the file `path`."""
    # The digests in the policy are of lines that end in \n.
    Path(path).write_text(page(graph, title), encoding="utf-8", newline="\n")


def _flat(text: str) -> str:
    """As the page does with names: marks that would turn the direction of what follows are shown as themselves."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _policy(template: str) -> str:
    style = _digest(re.findall(r"<style>(.*?)</style>", template, re.DOTALL))
    script = _digest(re.findall(r"<script>(.*?)</script>", template, re.DOTALL))
    sources = f"style-src {style}; script-src {script}; img-src data:"
    return f"default-src 'none'; {sources}; base-uri 'none'; form-action 'none'"


def _digest(elements: list[str]) -> str:
    (text,) = elements  # exactly one in the template
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
